"""`mambalob admin` against a real service."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mambalob import main
from serve.admin_access import TOKEN_VARIABLE, AdminToken
from serve.commands.admin import _text
from serve.model_views import PlaceView, ShadowView, SwitcherView, SymbolModelsView
from serve.service import Service, ServiceConfig

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-this-test"


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


async def run(*arguments: str, code: int = 0, environment: dict[str, str] | None = None) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, main, ["admin", *arguments], env=environment)
    assert result.exit_code == code, result.output
    return result.output


async def test_models_are_listed_changed_and_rolled_back(versions_dir, token_file) -> None:
    service = Service(
        ServiceConfig(
            symbols=("BTCUSDT",),
            url="ws://127.0.0.1:1/v5/public/linear",
            category="linear",
            model="tiny",
            models_dir=versions_dir,
            tick_sizes={"BTCUSDT": "0.10"},
            port=0,
            admin_token=AdminToken(TOKEN),
        )
    )
    task = asyncio.create_task(service.run())
    host, port = service.address
    try:
        async with asyncio.timeout(10):
            while not service._server.started:
                await asyncio.sleep(0.005)
        at = ("--url", f"http://{host}:{port}", "--token-file", str(token_file))
        assert (await run("models", *at)).startswith("BTCUSDT: tiny@1 answers (")
        assert "tiny@2 answers" in await run("activate", "tiny@2", "--symbol", "BTCUSDT", *at)
        listed = json.loads(await run("models", "--json", *at[:2], environment={TOKEN_VARIABLE: TOKEN}))
        assert listed["symbols"][0]["previous"]["model_version"] == "1"
        assert {"tiny", "tiny@2", "tiny@3"} <= set(listed["known"])
        assert "tiny@3 in the shadow: 0 rows answered" in await run("shadow", "tiny@3", *at)
        assert "shadow" not in await run("shadow", "--off", *at)
        assert "tiny@1 answers" in await run("rollback", *at)
        assert "'tiny@9' came" in await run("activate", "tiny@9", *at, code=1)
        wrong = {TOKEN_VARIABLE: "wrong-wrong-wrong-wrong"}
        assert "no or a wrong token came" in await run("models", *at[:2], code=1, environment=wrong)
    finally:
        service.stop()
        await task


def test_rows_without_an_answer_are_not_counted_as_answers_that_differ() -> None:
    place = PlaceView(model="tiny", model_version="2", engine="fused")
    shadow = ShadowView(model=place, answered=1_000, agreed=900, unanswered=5, not_finite=2)
    one = SymbolModelsView(
        symbol="BTCUSDT",
        serving=place,
        previous=None,
        incoming=None,
        refusal="",
        switches=0,
        shadow=shadow,
    )
    assert _text(SwitcherView(operation="", failures=0, symbols=[one])).endswith(
        "tiny@2 in the shadow: 1,000 rows answered, 900 of them alike in every direction; 7 not answered"
    )


@pytest.mark.parametrize(
    "url", ["http://example.com:8000", "ftp://127.0.0.1", "file:///etc/passwd", "http://[::1"]
)
async def test_a_token_never_leaves_this_machine_unencrypted(token_file, url) -> None:
    said = await run("models", "--url", url, "--token-file", str(token_file), code=1)
    assert "https:// is allowed, and http:// to this machine" in said


async def test_a_token_is_needed(token_file) -> None:
    assert "a token is needed" in await run("models", code=1)


async def test_a_shadow_needs_a_model_or_off(token_file) -> None:
    assert "a model or --off is needed" in await run("shadow", code=2)
    assert "a model or --off is needed" in await run("shadow", "tiny", "--off", code=2)


@pytest.mark.parametrize("strange", ["\r", "\n", " ", "\x7f", "\u20ac"])
async def test_a_token_that_cannot_be_one_is_not_said(token_file, strange) -> None:
    environment = {TOKEN_VARIABLE: f"{TOKEN}{strange}"}
    said = await run("models", "--url", "http://127.0.0.1:1", code=1, environment=environment)
    assert "admin token: printable ASCII characters without spaces are allowed" in said
    assert TOKEN not in said


@pytest.mark.parametrize("answer", [b"<html>", b"\xff\xfe", b'{"detail":"fine"}'])
async def test_an_answer_of_another_service_is_said_to_be_one(token_file, answer) -> None:
    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + answer)
        writer.close()

    async with await asyncio.start_server(on_connection, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        said = await run("models", "--url", url, "--token-file", str(token_file), code=1)
    assert f"Error: {url}: answers, but not as this service does: " in said


async def test_a_symbol_of_bytes_that_are_no_text_is_named(token_file) -> None:
    said = await run("activate", "tiny", "--symbol", "\udcff", "--token-file", str(token_file), code=1)
    assert said.endswith("'\\udcff' came; UTF-8 is allowed\n")
