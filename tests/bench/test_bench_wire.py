"""The command `bench wire`: a real exchange, service and subscribers; no test looks at how long it took."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bench.commands.bench import command
from bench.report import Report
from bench.weights import Weights
from inference.artifact import Artifact
from mambalob import main


@pytest.fixture
def one_model(nano_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the other tests: random ones take seconds to export."""

    @contextmanager
    def weights(name: None, **_: object) -> Iterator[Weights]:
        yield Weights(artifact=nano_artifact, label="nano-ssd")

    monkeypatch.setattr("bench.commands.wire.weights_to_time", weights)


@pytest.mark.usefixtures("one_model")
def test_every_message_is_accounted_for(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    few = ["--subscribers", "1", "--subscribers", "3", "--count", "20", "--seconds", "0.1"]
    result = CliRunner().invoke(
        command, ["wire", *few, "--json", "--html", str(page)], catch_exceptions=False
    )
    assert result.exit_code == 0
    report = msgspec.json.decode(result.stdout, type=Report)
    by_name = {one.subject: one for one in report.results}
    frames = {"closed": 20, "1x": 5, "10x": 50, "100x": 500, "burst": 50}
    for loop, sent in frames.items():
        for subscribers, fast in ((1, 1), (3, 2)):
            whole = by_name[f"wire-{loop}/{subscribers}"]
            assert whole.lost == 0
            assert whole.missed is not None
            assert whole.count + whole.missed == sent * fast
            assert (whole.late is None) == (loop == "closed")
            for part in ("received", "handled", "predicted", "emitted"):
                assert by_name[f"wire-{loop}/{subscribers}:{part}"].count == sent
            assert by_name[f"wire-{loop}/{subscribers}:delivered"].count == whole.count
    for loop in ("closed", "1x"):  # slow enough for nothing to be left out
        assert by_name[f"wire-{loop}/1"].missed == 0
    assert min(one.p50 for one in report.results) >= -1  # the service's clock, read from outside
    assert "passes" in report.machine.garbage_collector
    assert "wire-burst/3:delivered" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--subscribers", "2", "--subscribers", "2"], "each once"),
        (["--count", "0", "--seconds", "0"], "0 frames would be sent"),
        (["--html", "no-such-folder/a.html"], "a file in a directory that exists is allowed"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["bench", "wire", *arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
