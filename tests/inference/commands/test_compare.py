"""`mambalob compare` on a real capture: its table, its JSON and its exit code."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inference.artifact import Artifact
from inference.precision import TOLERANCES
from mambalob import main

BYBIT_SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"


def compare(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_as_json_every_row_of_a_capture(data_dir: Path, reduced_artifact: Artifact) -> None:
    result = compare(data_dir / BYBIT_SPOT, "--model", f"{reduced_artifact.directory}", "--json")
    said = json.loads(result.stdout)
    assert said["agrees"] is True
    assert (said["model"], said["symbol"], said["frames"]) == ("tiny", "BTCUSDT", 1000)
    found = {(each["engine"], each["precision"], each["one_call"]): each for each in said["results"]}
    assert len(found) == 14
    assert {each["agrees"] for each in found.values()} == {True}
    for (engine, precision, _), each in found.items():
        assert each["rows"] == said["rows"] - (15 if engine == "ort-window" else 0) > 700
        assert each["largest_difference"] <= TOLERANCES[precision]


def test_for_people_and_the_exit_code_where_one_does_not_agree(
    data_dir: Path, reduced_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("--engine", "ort-step", "--precision", "int8", "--precision", "float32")
    asked = (data_dir / BYBIT_SPOT, "--model", reduced_artifact.directory, *chosen)
    assert compare(*asked).stdout.splitlines()[-1] == "all agree"
    monkeypatch.setitem(TOLERANCES, "int8", 1e-7)
    said = compare(*asked, code=1).stdout.splitlines()
    assert [line.endswith("!!") for line in said] == [False, False, False, True, False]
    assert said[-1] == "they do not agree"


def test_a_format_that_no_engine_has_is_refused(data_dir: Path, artifact: Artifact) -> None:
    asked = (data_dir / BYBIT_SPOT, "--model", artifact.directory, "--precision", "float16")
    assert "nothing to compare with model tiny" in compare(*asked, code=1).output


def test_where_no_row_was_answered_it_says_why(data_dir: Path, artifact: Artifact) -> None:
    chosen = ("--engine", "ort-step", "--tick-size", "0.3")
    asked = (data_dir / BYBIT_SPOT, "--model", artifact.directory, *chosen)
    last = compare(*asked, code=1).stdout.splitlines()[-1]
    assert last.startswith("no row was answered, nothing is compared; ended waiting_snapshot: malformed")
    assert "off the grid of tick size 0.3" in last
    said = json.loads(compare(*asked, "--json", code=1).stdout)
    assert (said["agrees"], said["rows"]) == (False, 0)
    assert "off the grid of tick size 0.3" in said["unanswered"]
