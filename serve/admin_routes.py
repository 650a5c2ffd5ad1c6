"""The HTTP routes that change models: behind a token, bounded in rate and size, absent without a token."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from inference.manifest import Name, Version
from inference.registry import VERSION_MARK
from lob.errors import MambalobError
from serve.admin_access import AdminAccess
from serve.model_switcher import BusyError, ModelSwitcher
from serve.model_views import SwitcherView
from serve.responses import JsonResponse, Problem
from serve.turns import Turns

MAXIMUM_BODY_BYTES = 4_096
MAXIMUM_WAIT_S = 60.0

Symbols = Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(max_length=512)]
Wait = Annotated[float, msgspec.Meta(ge=0, le=MAXIMUM_WAIT_S)]


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which symbols a change is for, none meaning all, and how long to wait until it has happened."""

    symbols: Symbols = []
    wait_s: Wait = 5.0


class ModelChoice(Choice, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model of the directory, and for which symbols; `version` none: the one its name stands for."""

    model: Name
    version: Version | None = None

    @property
    def title(self) -> str:
        """What the registry is asked for."""
        return self.model if self.version is None else f"{self.model}{VERSION_MARK}{self.version}"


class _RefusedError(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


Body = TypeVar("Body", bound=msgspec.Struct)


def add_admin_routes(
    app: FastAPI,
    switcher: ModelSwitcher,
    access: AdminAccess,
    known: Callable[[], Awaitable[list[str]]],
    turns: Turns,
) -> None:
    """Add the routes below /v1/admin to `app`; `known` names the models that can be asked for.

    Answers that name all symbols take `turns` with the frames.
    """

    async def answered(request: Request, work: Callable[[], Awaitable[SwitcherView]]) -> Response:
        """What `work` answers, if the request is admitted; a problem with its status where it raises one."""
        status = access.status(request.headers.get("authorization", ""))
        if status == 401:
            return JsonResponse(
                Problem("no or a wrong token came; needed: the service's, as Authorization: Bearer TOKEN"),
                401,
                headers={"WWW-Authenticate": "Bearer"},
            )
        if status == 429:
            return JsonResponse(Problem("too many requests"), 429, headers={"Retry-After": "1"})
        try:
            return JsonResponse(await turns.encode(await work(), "symbols"))
        except _RefusedError as error:
            return JsonResponse(Problem(str(error)), error.status)
        except BusyError as error:
            return JsonResponse(Problem(str(error)), 409)
        except MambalobError as error:
            return JsonResponse(Problem(str(error)), 422)

    @app.get("/v1/admin/models", include_in_schema=False)
    async def places(request: Request) -> Response:
        async def work() -> SwitcherView:
            return msgspec.structs.replace(await switcher.view(), known=await known())

        return await answered(request, work)

    @app.post("/v1/admin/activate", include_in_schema=False)
    async def activate(request: Request) -> Response:
        async def work() -> SwitcherView:
            choice = await _body(request, ModelChoice)
            return await switcher.activate(choice.title, choice.symbols, choice.wait_s)

        return await answered(request, work)

    @app.post("/v1/admin/rollback", include_in_schema=False)
    async def rollback(request: Request) -> Response:
        async def work() -> SwitcherView:
            choice = await _body(request, Choice)
            return await switcher.rollback(choice.symbols, choice.wait_s)

        return await answered(request, work)

    @app.post("/v1/admin/shadow", include_in_schema=False)
    async def begin_shadow(request: Request) -> Response:
        async def work() -> SwitcherView:
            choice = await _body(request, ModelChoice)
            return await switcher.begin_shadow(choice.title, choice.symbols)

        return await answered(request, work)

    @app.delete("/v1/admin/shadow", include_in_schema=False)
    async def end_shadow(request: Request) -> Response:
        async def work() -> SwitcherView:
            return await switcher.end_shadow((await _body(request, Choice)).symbols)

        return await answered(request, work)


async def _body(request: Request, kind: type[Body]) -> Body:
    """The request's body as a `kind`, an empty one as {}; read no further than a body may be long."""
    content = b""
    try:
        async for part in request.stream():
            content += part
            if len(content) > MAXIMUM_BODY_BYTES:
                raise _RefusedError(413, f"more than {MAXIMUM_BODY_BYTES} bytes came")
    except ClientDisconnect as error:
        raise _RefusedError(400, "the request broke off") from error
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _RefusedError(400, f"not a request: {error}") from error
