"""`mambalob admin`: which models a running service serves, and change them."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from inference.registry import split_name
from lob.errors import InputError, MambalobError
from serve.admin_access import TOKEN_VARIABLE, AdminToken, read_token
from serve.model_preparer import TIMEOUT_S as LOAD_TIMEOUT_S
from serve.model_views import PlaceView, SwitcherView
from serve.responses import Problem
from serve.venue_connection import is_this_machine

MAXIMUM_ANSWER_BYTES = 1 << 20
MARGIN_S = 60.0
"""How long an answer may take beyond the time that the service has for what it is asked."""

Command = Callable[..., Any]


def _service_options(command: Command) -> Command:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the service's answer as it came."),
        click.option(
            "--token-file",
            type=click.Path(dir_okay=False, path_type=Path),
            help=f"Holds the service's token; or the variable {TOKEN_VARIABLE}.",
        ),
        click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The service."),
    ):
        command = option(command)
    return command


def _symbol_option(command: Command) -> Command:
    return click.option(
        "--symbol", "symbols", multiple=True, help="For this symbol alone; may be repeated.  [default: all]"
    )(command)


_wait_option = click.option(
    "--wait-s",
    type=click.FloatRange(0, 60),
    default=10.0,
    show_default=True,
    help="How long to wait until it has happened.",
)


@click.group("admin")
def command() -> None:
    """Say which models a running service serves, and change them between two ticks."""


@command.command("models")
@_service_options
def models(url: str, token_file: Path | None, as_json: bool) -> None:
    """Which model has which place, and which can be asked for."""
    _ask("GET", "models", None, url, token_file, as_json)


@command.command("activate")
@click.argument("model", metavar="NAME[@VERSION]")
@_symbol_option
@_wait_option
@_service_options
def activate(
    model: str,
    symbols: tuple[str, ...],
    wait_s: float,
    url: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Load a model of the service's directory, warm it on the recent rows, and let it take over."""
    body = {**_named(model), "symbols": symbols, "wait_s": wait_s}
    _ask("POST", "activate", body, url, token_file, as_json)


@command.command("rollback")
@_symbol_option
@_wait_option
@_service_options
def rollback(
    symbols: tuple[str, ...], wait_s: float, url: str, token_file: Path | None, as_json: bool
) -> None:
    """Let the model before take over again; a second time takes that back."""
    _ask("POST", "rollback", {"symbols": symbols, "wait_s": wait_s}, url, token_file, as_json)


@command.command("shadow")
@click.argument("model", metavar="NAME[@VERSION]", required=False)
@click.option("--off", is_flag=True, help="Let nothing answer in the shadow.")
@_symbol_option
@_service_options
def shadow(
    model: str | None,
    off: bool,
    symbols: tuple[str, ...],
    url: str,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Let a model answer beside the one that serves, recorded and published nowhere; or end that."""
    if off == (model is not None):
        raise click.UsageError("a model or --off is needed, and not both")
    body: dict[str, Any] = {"symbols": symbols}
    if model is not None:
        body |= _named(model)
    _ask("DELETE" if off else "POST", "shadow", body, url, token_file, as_json)


def _named(model: str) -> dict[str, str]:
    name, version = split_name(model)
    return {"model": name} if version is None else {"model": name, "version": version}


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:  # an argument of bytes that are no text
        raise InputError(f"{error.object!r} came; UTF-8 is allowed") from error


def _ask(
    method: str, route: str, body: dict[str, Any] | None, url: str, token_file: Path | None, as_json: bool
) -> None:
    """Ask the service, and say what came; raises MambalobError where it says no."""
    token = read_token(token_file) if token_file is not None else os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise InputError(f"--token-file: nothing came; a token is needed, there or in {TOKEN_VARIABLE}")
    AdminToken(token)  # what cannot be one, http.client would refuse with the token in its words
    local = is_this_machine(url)
    if not url.startswith(("https://", "http://") if local else "https://"):
        raise InputError(f"url: {url!r} came; https:// is allowed, and http:// to this machine")
    request = urllib.request.Request(  # noqa: S310  # the scheme was just checked
        f"{url.rstrip('/')}/v1/admin/{route}",
        data=None if body is None else _encoded(body),
        headers={"Authorization": f"Bearer {token}"},
        method=method,
    )
    asked = body or {}
    timeout_s = MARGIN_S + asked.get("wait_s", 0.0) + (LOAD_TIMEOUT_S if "model" in asked else 0.0)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if local else None), _NoRedirection())
    try:
        with opener.open(request, timeout=timeout_s) as response:
            answer: bytes = response.read(MAXIMUM_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            raise MambalobError(_problem(url, error)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MambalobError(f"{url}: no answer: {getattr(error, 'reason', None) or error}") from error
    click.echo(answer if as_json else _text(_view(url, answer)))


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """A token goes to the service that was named and nowhere else."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Follow nothing."""
        return


def _problem(url: str, error: urllib.error.HTTPError) -> str:
    if error.code == 404:
        return f"{url}: has no admin routes: no token is set there, or it is no such service"
    try:
        return msgspec.json.decode(error.read(MAXIMUM_ANSWER_BYTES), type=Problem).detail
    except (msgspec.DecodeError, OSError):
        return f"{url}: HTTP {error.code}"


def _view(url: str, answer: bytes) -> SwitcherView:
    try:
        return msgspec.json.decode(answer, type=SwitcherView)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MambalobError(f"{url}: answers, but not as this service does: {error}") from error


def _text(view: SwitcherView) -> str:
    lines = []
    for one in view.symbols:
        lines.append(f"{one.symbol}: {_title(one.serving)} answers ({one.serving.engine})")
        if one.incoming is not None:
            lines.append(f"  {_title(one.incoming)} warms up to take over")
        if one.refusal:
            lines.append(f"  refused: {one.refusal}")
        if one.previous is not None:
            lines.append(f"  a rollback takes back {_title(one.previous)}")
        if one.shadow is not None:
            counted = one.shadow
            lines.append(
                f"  {_title(counted.model)} in the shadow: {counted.answered:,} rows answered, "
                f"{counted.agreed:,} of them alike in every direction; "
                f"{counted.unanswered + counted.not_finite:,} not answered"
            )
    if view.known:
        lines.append(f"known: {', '.join(view.known)}")
    return "\n".join(lines)


def _title(place: PlaceView) -> str:
    return f"{place.model}@{place.model_version}"
