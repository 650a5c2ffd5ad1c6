"""The door: what goes wrong with the input or the system is one line and exit code 1, never a traceback."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mambalob import COMMANDS, main

FULL = Path("/dev/full")


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A snapshot and one change to it, as Bybit sends them."""
    path = tmp_path / "capture.ndjson"
    lines = []
    for kind, update_id, size in (("snapshot", 7, "1"), ("delta", 8, "2")):
        data = {
            "s": "BTCUSDT",
            "b": [["99.9", size]],
            "a": [["100.0", size]],
            "u": update_id,
            "seq": update_id,
        }
        lines.append(json.dumps({"topic": "orderbook.50.BTCUSDT", "type": kind, "ts": 1, "data": data}))
    path.write_text("\n".join(lines))
    return path


def test_a_folder_that_cannot_be_made(capture: Path) -> None:
    out = capture / "data"  # below a file
    result = CliRunner().invoke(main, ["build", str(capture), "--out", str(out)])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert str(capture) in result.stderr  # what stands in the way


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("arguments", [["replay", "--emit", "book"], ["doctor"]])
def test_a_full_disk_behind_standard_output(arguments: list[str], capture: Path) -> None:
    files = [str(capture)] if arguments[0] == "replay" else []
    with FULL.open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "mambalob", *arguments, *files],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "Error: No space left on device"
    assert "Traceback" not in ended.stderr


def test_what_an_import_makes_is_not_looked_at_for_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_command_of_this_test.py").write_text(
        "import gc, click\nwatched = gc.isenabled()\ncommand = click.Command('none')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "none", ("a_command_of_this_test", "Nothing."))
    assert gc.isenabled()
    before = gc.get_freeze_count()
    assert main.get_command(click.Context(main), "none") is not None
    module = sys.modules.pop("a_command_of_this_test")
    assert not module.watched
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_every_command_is_listed_with_what_it_does() -> None:
    listed = CliRunner().invoke(main, ["--help"], terminal_width=110).stdout.splitlines()
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name:<9}  {summary}" in listed


def commands_below(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands_below(command, f"{path} {name}")


def test_every_command_and_option_says_what_it_is_for() -> None:
    pytest.importorskip("torch", reason="the training extra is not installed")
    silent = [path for path, command in commands_below(main, "mambalob") if not command.help]
    silent += [
        f"{path} {option.opts[0]}"
        for path, command in commands_below(main, "mambalob")
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []
