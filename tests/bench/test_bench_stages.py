"""The command: real runs of small counts; no test looks at how many microseconds anything took."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from bench.commands.bench import command
from bench.report import Report
from inference.artifact import Artifact
from lob.errors import CaptureError
from mambalob import main

SUBJECTS = [
    *("decode", "book", "features", "fused", "ort-step", "ort-window"),
    *("on_frame", "on_frame-staged", "encode"),
]
FEW = ["--count", "20", "--warmup", "5"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["stages", *FEW, *arguments], catch_exceptions=False)


def test_json_is_one_object_of_real_figures(nano_artifact: Artifact) -> None:
    result = run("--json", "--model", str(nano_artifact.directory))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    report = msgspec.json.decode(result.stdout, type=Report)
    assert [found.subject for found in report.results] == SUBJECTS
    for found in report.results:
        assert (found.unit, found.count) == ("us", 20)
        assert 0 < found.p50 <= found.p90 <= found.p99 <= found.p999 <= found.max
    models = {found.subject: found.model for found in report.results}
    assert models["book"] == "depth50"
    assert models["features"] == "lob44"
    assert models["on_frame"] == models["ort-step"] == "nano-ssd-random"
    assert [clock.name for clock in report.machine.clocks] == [
        "perf_counter_ns",
        "clock_gettime in compiled code",
    ]


def test_table_and_plot(nano_artifact: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the training extra is not installed")
    path = tmp_path / "stages.png"
    result = run("--model", str(nano_artifact.directory), "--png", str(path), "--seed", "9")
    assert result.exit_code == 0
    for part in (*SUBJECTS, "p99.9", "than ort-window (p50)", "machine: ", "versions: ", "seed 9"):
        assert part in result.stdout
    assert path.read_bytes().startswith(b"\x89PNG")


def test_frames_of_a_capture(nano_artifact: Artifact, data_dir: Path) -> None:
    capture = (
        data_dir
        / "bybit"
        / "spot_btcusdt_cpp_trading_core"
        / "orderbook50_btcusdt_1000frames_20260808.ndjson"
    )
    result = run("--json", "--model", str(nano_artifact.directory), "--capture", str(capture))
    report = msgspec.json.decode(result.stdout, type=Report)
    assert "999 book frames of BTCUSDT" in report.machine.frames
    assert {found.count for found in report.results} == {20}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "count is 0; at least 1 is needed"),
        (["--capture", "no-such-capture.ndjson"], "no-such-capture.ndjson: no such file"),
        (["--model", "no-such-model"], "'no-such-model' came"),
        (["--models-dir", "some-folder"], "some-folder came without --model"),
        (["--png", "no-such-folder/a.png"], "a file in a directory that exists is allowed"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["bench", "stages", *arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_damaged_capture_is_refused(tmp_path: Path, nano_artifact: Artifact) -> None:
    path = tmp_path / "capture.ndjson"
    path.write_text("no frame\n")
    with pytest.raises(CaptureError, match="line 1"):
        run("--model", str(nano_artifact.directory), "--capture", str(path))


def test_the_installed_script(nano_artifact: Artifact) -> None:
    script = shutil.which("mambalob", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the console script is not installed beside this Python")
    arguments = [script, "bench", "stages", "--json", "--model", str(nano_artifact.directory), *FEW]
    done = subprocess.run(arguments, check=True, capture_output=True, timeout=200)
    assert done.stderr == b""
    report = msgspec.json.decode(done.stdout, type=Report)
    assert {found.model for found in report.results} == {"depth50", "lob44", "nano-ssd-random"}
