"""The command `bench tick`: real runs of small counts; no test looks at how long anything took."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from bench.commands.bench import command
from bench.commands.tick import tick_targets
from bench.report import Report
from bench.report import Result as Figures
from bench.weights import Weights
from inference.artifact import Artifact
from mambalob import main

FEW = ["--count", "20", "--warmup", "4", "--runs", "2", "--idle-count", "0"]


@pytest.fixture(autouse=True)
def one_model(nano_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the other tests for every size: random ones take seconds to export."""

    @contextmanager
    def weights(name: None, *, size: str, block: str, seed: int) -> Iterator[Weights]:
        yield Weights(artifact=nano_artifact, label=f"{size}-{block}")

    monkeypatch.setattr("bench.commands.tick.weights_to_time", weights)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["tick", *FEW, *arguments], catch_exceptions=False)


def test_json_has_the_closed_loop_and_every_open_one() -> None:
    result = run("--size", "nano", "--size", "base", "--seconds", "0.05", "--json")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    report = msgspec.json.decode(result.stdout, type=Report)
    loops = ["on_frame-1x", "on_frame-10x", "on_frame-100x", "on_frame-burst"]
    assert [(one.subject, one.model) for one in report.results] == [
        ("on_frame", "nano-ssd"),
        ("on_frame", "base-ssd"),
        *((loop, model) for model in ("nano-ssd", "base-ssd") for loop in loops),
    ]
    counts = {(one.subject, one.count) for one in report.results}
    assert counts == {
        ("on_frame", 40),
        ("on_frame-1x", 4),
        ("on_frame-10x", 50),
        ("on_frame-100x", 500),
        ("on_frame-burst", 100),
    }
    for one in report.results:
        assert 0 < one.p50 <= one.p90 <= one.p99 <= one.p999 <= one.max
    assert [(one.late is None) for one in report.results] == [True, True, *[False] * 8]
    assert [line.split(":")[0] for line in report.machine.targets[:2]] == ["nano", "base"]
    core = report.machine.quiet_core
    assert core is not None
    assert 0 < core.least_us <= core.p50_us <= core.p99_us
    assert "on_frame-1x, nano-ssd: " in report.machine.targets[2]


def test_table_without_open_loops() -> None:
    result = run("--size", "small", "--seconds", "0")
    assert result.exit_code == 0
    for part in ("on_frame", "small-ssd", "small: p50 ", "runs: 2", "garbage collector: off while timing"):
        assert part in result.stdout
    assert "on_frame-1x" not in result.stdout


def test_ticks_after_idle_as_one_call_and_as_steps(tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    idle = ["--idle-count", "3", "--idle-ms", "1", "--idle-ms", "2.5"]
    files = ["--html", str(page), "--png", str(picture)]
    result = run("--size", "nano", "--seconds", "0", *idle, *files, "--json")
    report = msgspec.json.decode(result.stdout, type=Report)
    ways = ["on_frame-idle", "on_frame-staged-idle", "on_frame-awake", "on_frame-rehearsed"]
    assert [(one.subject, one.count) for one in report.results[1:]] == [
        (f"{way}-{milliseconds}ms", 6) for milliseconds in ("1", "2.5") for way in ways
    ]
    assert "on_frame-staged-idle-2.5ms" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_targets_say_what_is_missed() -> None:
    def figures(p50: float, p99: float) -> Figures:
        return Figures(
            subject="on_frame",
            model="m",
            precision="float32",
            unit="us",
            count=1,
            p50=p50,
            p90=p50,
            p99=p99,
            p999=p99,
            max=p99,
        )

    met, missed = tick_targets(["nano", "small"], [figures(4.9, 9.8), figures(10.0, 31.0)])
    assert met == (
        "nano: p50 4.90 us, target below 5 us; p99 2.0 times p50, target at most 3 on a quiet core"
    )
    assert missed == (
        "small: p50 10.00 us, target below 10 us (missed); "
        "p99 3.1 times p50, target at most 3 on a quiet core (missed)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "0"], "runs is 0"),
        (["--seconds", "-1"], "seconds is -1.0"),
        (["--seconds", "nan"], "seconds is nan"),
        (["--size", "nano", "--size", "nano"], "each is allowed once"),
        (["--idle-ms", "0"], "idle_ms is 0"),
        (["--html", "no-such-folder/a.html"], "a file in a directory that exists is allowed"),
        (["--cpu", "4095"], "--cpu: 4095 came"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["bench", "tick", *arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
