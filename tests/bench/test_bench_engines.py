"""The command `bench engines`: real runs of small counts; no test looks at how long anything took."""

import os
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from bench.commands.bench import command
from bench.engine_ratios import LSTM_SIZE
from bench.engine_report import COLUMNS
from bench.peers import model_peer
from bench.report import Report
from mambalob import main

FEW = ["--count", "64", "--warmup", "8", "--runs", "2"]
NANO = ["--size", "nano", "--block", "ssd"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["engines", *FEW, *arguments], catch_exceptions=False)


class Page(HTMLParser):
    """Tags and the addresses they would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href"} and value is not None and not value.startswith("#"):
                self.fetched.append(value)


@pytest.fixture
def small_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers with a reference of one layer and five rows, which is written and loaded in a moment."""
    monkeypatch.setattr(model_peer, "make_peers", partial(model_peer.make_peers, layers=1, window=5))


def test_json_keeps_its_shape_with_engines_and_peers(small_reference: None, tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    result = run(
        *NANO,
        "--precision",
        "float32",
        "--precision",
        "int8",
        "--json",
        "--html",
        str(page),
        "--png",
        str(picture),
    )
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert sorted(msgspec.json.decode(result.stdout)) == ["commit", "machine", "results", "versions"]
    report = msgspec.json.decode(result.stdout, type=Report)
    keys = [(one.subject, one.model, one.precision) for one in report.results]
    assert keys == [
        ("fused", "nano-ssd", "float32"),
        ("fused-in-jit", "nano-ssd", "float32"),
        ("fused", "nano-ssd", "int8"),
        ("fused-in-jit", "nano-ssd", "int8"),
        ("ort-step", "nano-ssd", "float32"),
        ("ort-window", "nano-ssd", "float32"),
        ("fused", LSTM_SIZE, "float32"),
        ("fused", LSTM_SIZE, "int8"),
        ("reference-export", "reference", "float32"),
        ("torch-eager", "reference", "float32"),
        ("lstm-a-window", "lstm-a", "float32"),
        ("lstm-a-step", "lstm-a", "float32"),
        ("deeplob", "deeplob", "float32"),
        ("bin-ctabl", "bin-ctabl", "float32"),
    ]
    for one in report.results:
        assert one.unit == "us"
        assert 4 <= one.count <= 128
        assert one.count % 4 == 0  # two turns in each of two runs
        assert 0 < one.p50 <= one.p90 <= one.p99 <= one.p999 <= one.max
    assert report.machine.runs == 2
    assert report.machine.garbage_collector == "off while timing"
    assert any("168,622 parameters" in model for model in report.machine.models)
    assert report.versions["torch"]

    text = page.read_text()
    found = Page(text)
    assert "svg" in found.tags
    assert "script" not in found.tags
    assert found.fetched == []
    assert found.tags.count("tr") == 1 + len(keys)
    assert report.commit in text
    assert report.machine.processor in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_table_of_engines_alone_on_one_core_and_after_idle() -> None:
    core = max(os.sched_getaffinity(0))
    result = run(
        *NANO, "--precision", "bfloat16", "--no-peers", "--idle-ms", "0.5", "--cpu", str(core), "--seed", "5"
    )
    assert result.exit_code == 0
    for part in (*COLUMNS, "fused-idle", "0.5 ms asleep", f"kept on core {core}", "seed 5", "runs: 2"):
        assert part in result.stdout
    assert "ort-step" not in result.stdout  # its graph is float32
    rows = [line.split() for line in result.stdout.splitlines() if "bfloat16" in line]
    assert [row[0] for row in rows] == ["fused", "fused-in-jit", "fused-idle", "fused-in-jit-idle"]
    assert all(re.fullmatch(r"[\d.,]+", cell) for row in rows for cell in row[3:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "0"], "runs is 0"),
        (["--count", "0"], "count is 0"),
        (["--size", "nano", "--size", "nano"], "--size: nano, nano came; each is allowed once"),
        (["--html", "no-such-folder/a.html"], "a file in a directory that exists is allowed"),
        (["--png", "no-such-folder/a.png"], "a file in a directory that exists is allowed"),
        (["--cpu", "4095"], "--cpu: 4095 came"),
        (["--idle-ms", "0"], "idle_ms is 0"),
    ],
)
def test_an_error_is_one_line_before_any_work(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["bench", "engines", *arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_without_the_training_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.commands.engines.find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["bench", "engines"])
    assert result.exit_code == 1
    assert "pip install --constraint constraints.txt '.[train]'" in result.stderr
    assert result.stderr.count("\n") == 1
