"""`mambalob train`: a run's folder, the same after a real kill as without one."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from safetensors.torch import load_file

from mambalob import main
from training.commands.train import ConsoleWatcher
from training.run_directory import EpochRecord, read_run, read_seed

SMALL = ["--size", "nano", "--lanes", "4", "--lane-rows", "200", "--chunk-rows", "64"]
SMALL += ["--validate-on", "walk"]


def data_options(data_folders: dict[str, Path]) -> list[str]:
    """The two data sets of the same time."""
    return ["--data", str(data_folders["walk"]), "--data", str(data_folders["walk-too"])]


def test_a_run_of_two_seeds(data_folders: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["train", *data_options(data_folders), *SMALL, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*arguments, "--epochs", "2", "--seeds", "2", "--json"])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [seed["seed"] for seed in report["seeds"]] == [0, 1]
    losses = [read_seed(tmp_path / "run" / f"seed-{n}").mean_validation_log_loss for n in (0, 1)]
    assert report["best"] == f"seed-{losses.index(min(losses))}"
    assert read_run(tmp_path / "run").model["size"] == "nano"
    epochs = [line for line in result.stderr.splitlines() if line.startswith("seed 1, epoch")]
    assert len(epochs) == 3
    assert "\r" not in result.stderr  # no bar where there is no terminal


def test_a_process_killed_goes_on_to_the_same_weights(data_folders: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["train", *data_options(data_folders), *SMALL, "--epochs", "12", "--patience", "12"]
    command = [sys.executable, "-m", "mambalob", *arguments, "--out", str(tmp_path / "killed")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    null = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=null, stderr=null) as process:
        progress = tmp_path / "killed" / "seed-0" / "progress.json"
        deadline = time.monotonic() + 120
        while not progress.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert progress.exists(), "it ended before it could be killed"
    assert not (progress.parent / "result.json").exists()
    for name, more in (("killed", ["--resume"]), ("whole", [])):
        result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / name), *more])
        assert result.exit_code == 0, result.stderr
    killed, whole = (tmp_path / name / "seed-0" for name in ("killed", "whole"))
    weights, expected = load_file(killed / "model.safetensors"), load_file(whole / "model.safetensors")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert read_seed(killed).epochs == read_seed(whole).epochs
    assert read_seed(killed).temperatures == read_seed(whole).temperatures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs: 0 came, 1 or more is allowed"),
        (["--validate-on", "other"], "reference: 'other' came"),
        (["--averaging", "2"], "averaging: 2.0 came"),
    ],
)
def test_a_wrong_option_is_one_line(
    data_folders: dict[str, Path], tmp_path: Path, options: list[str], message: str
) -> None:
    arguments = ["train", *data_options(data_folders), "--out", str(tmp_path / "run"), *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_data_set_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "a folder that `mambalob build` wrote is needed" in result.stderr


def test_seeds_are_named_or_counted(data_folders: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["train", *data_options(data_folders), "--out", str(tmp_path / "run"), "--seeds", "2"]
    result = CliRunner().invoke(main, [*arguments, "--seed", "5"])
    assert result.exit_code == 2
    assert "use one of the two" in result.stderr


def test_a_terminal_gets_a_bar_that_follows_the_steps() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    progress = Progress(TextColumn("{task.description}"), BarColumn(), console=console, transient=True)
    watcher = ConsoleWatcher(console, progress, seed=4)
    with progress:
        watcher.on_step(2, 0.5, 0.75)
        (task,) = progress.tasks
        assert (task.completed, task.total) == (0.5, 1.0)
        assert task.description == "seed 4, epoch 2, loss 0.7500"
        watcher.on_epoch(EpochRecord(epoch=2, training_loss=0.7, validation_log_loss=(0.8, 1.0)), True)
    assert "seed 4, epoch 2: training 0.7000, validation 0.9000 (0.8000 1.0000) *" in written.getvalue()
