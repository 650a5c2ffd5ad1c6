"""What the HTTP routes answer with: typed structs, one encoder, and their part of the OpenAPI document."""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from inference.prediction import HorizonPrediction, Prediction
from serve.turns import Turns


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not answered; `state` and `reason` where the symbol's state is why."""

    detail: str
    state: str = ""
    reason: str = ""


class Health(msgspec.Struct, frozen=True):
    """The process answers requests; it says nothing about the feed."""

    status: str
    uptime_s: float


class SymbolStatus(msgspec.Struct, frozen=True):
    """The state of one symbol and why it holds."""

    symbol: str
    state: str
    reason: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether every symbol is LIVE; `reason` names the ones that are not."""

    ready: bool
    reason: str
    symbols: list[SymbolStatus]


class TradeCounts(msgspec.Struct, frozen=True):
    """Trades put on the tape; those that came after their book update, found no room, or were none."""

    trades: int
    late: int
    dropped: int
    malformed: int


class SymbolView(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one symbol, the seconds spent in each since the start, and what happened to it.

    `frames` are those of its book's topic. `reconnects` are those of the connection, which all symbols share.
    """

    symbol: str
    state: str
    reason: str
    seconds: dict[str, float]
    frames: int
    predictions: int
    gaps: int
    malformed: int
    resyncs: int
    stalls: int
    late: int
    refusals: int
    reconnects: int
    trades: TradeCounts | None


class SymbolList(msgspec.Struct, frozen=True):
    """All symbols of the service."""

    symbols: list[SymbolView]


class Level(msgspec.Struct, frozen=True, array_like=True):
    """One price level as [price, size]."""

    price: float
    size: float


class BookView(msgspec.Struct, frozen=True):
    """The first levels of a symbol's book, best first, at one update."""

    symbol: str
    update_id: int
    exchange_ms: int
    bids: list[Level]
    asks: list[Level]


class ModelSummary(msgspec.Struct, frozen=True):
    """A trained model: its sizes, what it reads and predicts, and the symbols it is serving now.

    `engine` and `precision` say how it serves, empty where it does not; `precisions` what each engine offers.
    """

    name: str
    version: str
    architecture: str
    parameters: int
    context: str
    features: str
    sampling: str
    horizons: list[int]
    engine: str
    precision: str
    precisions: dict[str, tuple[str, ...]]
    symbols: list[str]


class ModelList(msgspec.Struct, frozen=True):
    """All models of the service."""

    models: list[ModelSummary]


DOCUMENTED = (
    Problem,
    Health,
    SymbolStatus,
    Readiness,
    TradeCounts,
    SymbolView,
    SymbolList,
    Level,
    BookView,
    ModelSummary,
    ModelList,
    HorizonPrediction,
    Prediction,
)


class JsonResponse(Response):
    """A struct as JSON."""

    media_type = "application/json"

    def render(self, content: msgspec.Struct | msgspec.Raw) -> bytes:
        """The struct's bytes; those of one that is encoded already."""
        return msgspec.json.encode(content)


class PiecesResponse(Response):
    """A body in pieces: each goes to the socket in a turn of its own, and as soon as the socket takes it."""

    def __init__(self, pieces: Sequence[bytes], turns: Turns, media_type: str) -> None:
        length = sum(map(len, pieces))
        super().__init__(media_type=media_type, headers={"content-length": str(length)})
        self._pieces = pieces
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await self._turns.give_way()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def answers(**by_status: tuple[type[msgspec.Struct], str]) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: `ok=(Struct, text)`, `missing=...`, `unavailable=...`, as OpenAPI wants them."""
    status = {"ok": 200, "missing": 404, "unavailable": 503}
    return {
        status[name]: {
            "description": text,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}},
        }
        for name, (kind, text) in by_status.items()
    }


def document_structs(app: FastAPI) -> None:
    """Put the schemas of `DOCUMENTED`, made from the structs themselves, into the OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _, components = msgspec.json.schema_components(
                DOCUMENTED, ref_template="#/components/schemas/{name}"
            )
            document.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # how FastAPI documents the extension of its schema
