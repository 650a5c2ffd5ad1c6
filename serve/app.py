"""The HTTP routes and the websocket route, over a hub and its streams; nothing here touches the tick path."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Annotated

from fastapi import FastAPI, Path, Query, WebSocket
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from inference.prediction import Prediction
from lob.errors import InputError
from serve.clock import AnchoredClock
from serve.hub import Hub, Topic
from serve.responses import (
    BookView,
    Health,
    JsonResponse,
    ModelList,
    Problem,
    Readiness,
    SymbolList,
    SymbolStatus,
    answers,
    document_structs,
)
from serve.stream import StreamServer

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
    list_models: Callable[[], ModelList],
    books: Mapping[str, BookReader],
    list_symbols: Callable[[], SymbolList],
    render_metrics: Callable[[], bytes],
    clock: AnchoredClock,
    version: str,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """The application; `books` reads the first levels of each symbol's book."""
    app = FastAPI(
        title="mambalob", version=version, description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    started_ns = clock.now_ns()

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
        return JsonResponse(list_symbols())

    @app.get("/v1/models", responses=answers(ok=(ModelList, "The models of the service")))
    async def models() -> Response:
        """The models the service knows, and which symbols each is serving."""
        return JsonResponse(list_models())

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
        statuses = [SymbolStatus(t.symbol, t.state.value, t.reason) for t in hub.topics.values()]
        waiting = [f"{t.symbol} is {t.state.value}: {t.reason}" for t in hub.topics.values() if not t.live]
        return JsonResponse(Readiness(not waiting, "; ".join(waiting), statuses), 503 if waiting else 200)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters and latencies in Prometheus' text format."""
        return Response(render_metrics(), media_type=CONTENT_TYPE_LATEST)

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        await streams.serve(websocket)

    document_structs(app)
    return app


def _not_live(topic: Topic) -> Problem:
    return Problem(f"{topic.symbol} is {topic.state.value}: {topic.reason}", topic.state.value, topic.reason)
