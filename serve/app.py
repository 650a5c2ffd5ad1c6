"""The HTTP routes and the websocket route, over a hub and its streams; nothing here touches the tick path."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query, WebSocket
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from inference.prediction import Prediction
from lob.errors import InputError
from lob.sync import SymbolState
from serve.clock import AnchoredClock
from serve.hub import Hub, Topic
from serve.responses import (
    BookView,
    Health,
    JsonResponse,
    ModelList,
    PiecesResponse,
    Problem,
    Readiness,
    SymbolList,
    SymbolStatus,
    answers,
    document_structs,
)
from serve.stream import StreamServer
from serve.turns import SharedWork, Turns

SYMBOLS_A_TURN = 64
"""Symbols whose state is looked at between two turns of the event loop, half a microsecond each."""

BookReader = Callable[[int], BookView]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
SymbolPath = Annotated[str, Path(max_length=64, description="An instrument's symbol, such as BTCUSDT")]

DESCRIPTION = """
Calibrated direction probabilities from an exchange's order book.

The stream is a websocket at `/v1/stream`. Send
`{"op":"subscribe","req_id":"1","args":["prediction.SYMBOL"]}` (or `unsubscribe`, or `ping`); the reply is
`{"op":"subscribe","success":true,"req_id":"1","ret_msg":"","conn_id":"..."}`, then the topic's current state,
then its predictions and states as they come:
`{"topic":"prediction.SYMBOL","type":"prediction","seq":7,"ts":...,"data":{...}}` and
`{"topic":"prediction.SYMBOL","type":"state","seq":8,"ts":...,"data":{"state":"stale","reason":"..."}}`.
A message of type `model` tells that another model's predictions follow; each prediction names its own.
`seq` counts the topic's messages. A client that does not keep up is given the newest prediction, and every
message tells with `"missed": n` how many were left out before it; states are not left out for predictions.
"""


def create_app(
    *,
    hub: Hub,
    streams: StreamServer,
    list_models: Callable[[], Awaitable[ModelList]],
    books: Mapping[str, BookReader],
    list_symbols: Callable[[], Awaitable[SymbolList]],
    metrics_page: Callable[[], Coroutine[Any, Any, Sequence[bytes]]],
    turns: Turns,
    clock: AnchoredClock,
    version: str,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """The application.

    `books` reads the first levels of each symbol's book; `metrics_page` answers the metrics' text in pieces.
    What has to do with all symbols takes `turns` with the frames.
    """
    app = FastAPI(
        title="mambalob", version=version, description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    started_ns = clock.now_ns()

    async def answer_symbols() -> msgspec.Raw:
        return await turns.encode(await list_symbols(), "symbols")

    symbols_answer, metrics_answer = SharedWork(answer_symbols), SharedWork(metrics_page)

    @app.get(
        "/v1/predictions/{symbol}",
        responses=answers(
            ok=(Prediction, "The newest prediction"),
            missing=(Problem, "The symbol is not served"),
            unavailable=(Problem, "The symbol is not live"),
        ),
    )
    async def latest_prediction(symbol: SymbolPath) -> Response:
        """The newest prediction of a symbol, while it is live."""
        try:
            topic = hub.topic_of(symbol)
        except InputError as error:
            return JsonResponse(Problem(str(error)), 404)
        if not topic.live or topic.prediction is None:
            return JsonResponse(_not_live(topic), 503)
        return JsonResponse(topic.prediction)

    @app.get(
        "/v1/book/{symbol}",
        responses=answers(
            ok=(BookView, "The first levels of the book"),
            missing=(Problem, "The symbol is not served"),
            unavailable=(Problem, "The symbol is not live"),
        ),
    )
    async def book(symbol: SymbolPath, levels: Annotated[int, Query(ge=1, le=50)] = 5) -> Response:
        """The first levels of a symbol's book, while it is live."""
        try:
            topic = hub.topic_of(symbol)
        except InputError as error:
            return JsonResponse(Problem(str(error)), 404)
        if not topic.live:
            return JsonResponse(_not_live(topic), 503)
        return JsonResponse(books[symbol](levels))

    @app.get("/v1/symbols", responses=answers(ok=(SymbolList, "The symbols of the service")))
    async def symbols() -> Response:
        """The symbols the service follows: their states, the time in each, and what has happened to each."""
        return JsonResponse(await symbols_answer.outcome())

    @app.get("/v1/models", responses=answers(ok=(ModelList, "The models of the service")))
    async def models() -> Response:
        """The models the service knows, and which symbols each is serving."""
        return JsonResponse(await turns.encode(await list_models(), "models"))

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", responses=answers(ok=(Health, "The process answers")))
    async def health() -> Response:
        """Whether the process answers at all."""
        return JsonResponse(Health("ok", (clock.now_ns() - started_ns) / 1e9))

    @app.head("/readyz", include_in_schema=False)
    @app.get(
        "/readyz",
        responses=answers(
            ok=(Readiness, "Every symbol is live"), unavailable=(Readiness, "Some symbol is not live")
        ),
    )
    async def readiness() -> Response:
        """Whether every symbol is live, and if not, why."""
        statuses = await turns.map(_status, hub.topics.values(), SYMBOLS_A_TURN)
        found = await turns.map(_why_not_ready, statuses, SYMBOLS_A_TURN)
        waiting = [why for why in found if why]
        answer = await turns.encode(Readiness(not waiting, "; ".join(waiting), statuses), "symbols")
        return JsonResponse(answer, 503 if waiting else 200)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters and latencies in Prometheus' text format."""
        return PiecesResponse(await metrics_answer.outcome(), turns, CONTENT_TYPE_LATEST)

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        await streams.serve(websocket)

    document_structs(app)
    app.openapi()  # made now and kept: it takes milliseconds, and the first who asks is not to cost them
    return app


def _status(topic: Topic) -> SymbolStatus:
    return SymbolStatus(topic.symbol, topic.state.value, topic.reason)


def _why_not_ready(status: SymbolStatus) -> str:
    live = status.state == SymbolState.LIVE.value
    return "" if live else _in_words(status.symbol, status.state, status.reason)


def _not_live(topic: Topic) -> Problem:
    state = topic.state.value
    return Problem(_in_words(topic.symbol, state, topic.reason), state, topic.reason)


def _in_words(symbol: str, state: str, reason: str) -> str:
    return f"{symbol} is {state}: {reason}"
