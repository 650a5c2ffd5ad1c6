"""The saved state of an unfinished seed: whole at any instant, refused where it is damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lob.errors import InputError
from models.configurations import configuration
from models.mamba_lob import MambaLOB
from training.loop import TrainingConfig, copy_weights, dense_loss, make_optimizer
from training.progress import PROGRESS_FILE, load_progress, save_progress
from training.run_directory import EpochRecord

Parts = tuple[MambaLOB, MambaLOB, torch.optim.AdamW]


@pytest.fixture
def make_parts() -> Callable[[int], Parts]:
    """A model, its running mean and an optimiser that has taken one step, all of a seed."""

    def make(seed: int) -> Parts:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, averaged = (MambaLOB(configuration(block="s6", size="nano")) for _ in range(2))
            optimizer = make_optimizer(model, TrainingConfig())
            loss = dense_loss(model(torch.randn(2, 8, 44)), torch.randint(0, 3, (2, 8, 3)))
            torch.autograd.backward(loss)
            optimizer.step()
        return model, averaged, optimizer

    return make


def save(directory: Path, parts: Parts, epochs: int) -> None:
    """Save `parts` after `epochs` epochs."""
    records = tuple(
        EpochRecord(epoch=number, training_loss=None, validation_log_loss=(1.0,))
        for number in range(epochs + 1)
    )
    save_progress(directory, *parts, best=copy_weights(parts[1]), epochs=records, seconds=1.5)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path, make_parts: Callable[[int], Parts]) -> None:
    saved, fresh = make_parts(0), make_parts(1)
    save(tmp_path, saved, 2)
    found = load_progress(tmp_path, *fresh)
    assert found is not None
    record, best = found
    assert (record.epochs[-1].epoch, record.seconds) == (2, 1.5)
    for one, other in ((saved[0], fresh[0]), (saved[1], fresh[1])):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])
    assert all(torch.equal(best[name], value) for name, value in saved[1].state_dict().items())
    states = (saved[2].state_dict()["state"], fresh[2].state_dict()["state"])
    assert states[0].keys() == states[1].keys()
    for index, moments in states[0].items():
        for name, value in moments.items():
            assert torch.equal(value, states[1][index][name])


def test_only_the_latest_arrays_stay(tmp_path: Path, make_parts: Callable[[int], Parts]) -> None:
    for epochs in (1, 2):
        save(tmp_path, make_parts(0), epochs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress-0002.safetensors", PROGRESS_FILE]


def test_dying_before_the_rename_leaves_the_state_before(
    tmp_path: Path, make_parts: Callable[[int], Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, make_parts(0), 1)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("training.progress.write_json", die)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, make_parts(0), 2)
    found = load_progress(tmp_path, *make_parts(3))
    assert found is not None
    assert found[0].epochs[-1].epoch == 1


def test_nothing_saved_is_none(tmp_path: Path, make_parts: Callable[[int], Parts]) -> None:
    assert load_progress(tmp_path, *make_parts(0)) is None


def test_damage_is_refused(tmp_path: Path, make_parts: Callable[[int], Parts]) -> None:
    save(tmp_path, make_parts(0), 1)
    arrays = tmp_path / "progress-0001.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(InputError, match="sha256"):
        load_progress(tmp_path, *make_parts(0))
    arrays.write_bytes(content[:100])
    with pytest.raises(InputError, match="cannot go on from it"):
        load_progress(tmp_path, *make_parts(0))


def test_another_model_is_refused(tmp_path: Path, make_parts: Callable[[int], Parts]) -> None:
    save(tmp_path, make_parts(0), 1)
    model, averaged = (MambaLOB(configuration(block="ssd", size="nano")) for _ in range(2))
    with pytest.raises(InputError, match="is of another model"):
        load_progress(tmp_path, model, averaged, make_optimizer(model, TrainingConfig()))
