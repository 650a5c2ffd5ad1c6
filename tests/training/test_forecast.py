"""Logits of a part: the same as in one piece, from zero wherever the book started anew."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.configurations import configuration
from models.mamba_lob import MambaLOB
from tests.training.plain_rows import served_rows, stretch_logits
from training.dataset import Dataset
from training.forecast import CHUNK_ROWS, part_logits, scored_rows, validation_log_losses
from training.metrics import log_loss, log_softmax
from training.pool import pool_streams


@pytest.fixture(scope="module")
def model() -> MambaLOB:
    """A model whose state-space path speaks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MambaLOB(configuration(block="ssd", size="nano"))
        torch.nn.init.normal_(model.head.weight)
    return model


def test_chunks_carry_the_state(model: MambaLOB, make_dataset: Callable[..., Dataset]) -> None:
    rows = make_dataset(rows=CHUNK_ROWS + 77).rows
    with torch.no_grad():
        whole = model(torch.from_numpy(rows)[None])[0].numpy()
    np.testing.assert_allclose(stretch_logits(model, rows), whole, atol=1e-5)


def test_the_state_starts_from_zero_at_each_segment(
    model: MambaLOB, make_dataset: Callable[..., Dataset]
) -> None:
    (stream,) = pool_streams([make_dataset(rows=1500, segments=2)])
    logits = part_logits(model, stream, "training")
    assert logits.shape == (len(stream.split.training), 3, 3)
    (_, border), (second, past) = stream.segments("training")
    assert border == second == 750
    np.testing.assert_array_equal(
        logits[second:past], stretch_logits(model, stream.dataset.rows[second:past])
    )


def test_the_service_answers_from_the_last_row_of_the_warm_up_on(
    make_dataset: Callable[..., Dataset],
) -> None:
    (stream,) = pool_streams([make_dataset(rows=1500, segments=2)])
    served = served_rows(stream, "training", 32)
    assert np.flatnonzero(~served).tolist() == [*range(31), *range(750, 781)]
    for k in (1, 2, 7):
        expected = [row for row in np.flatnonzero(served).tolist() if row % k == 0]
        assert scored_rows(stream, "training", 32, k=k).tolist() == expected


def test_the_validation_loss_is_the_mean_of_the_streams(
    model: MambaLOB, make_dataset: Callable[..., Dataset]
) -> None:
    streams = pool_streams([make_dataset("one", rows=900), make_dataset("other", rows=900, seed=4)])
    losses = []
    for stream in streams:
        served = served_rows(stream, "validation", 32)
        logits = part_logits(model, stream, "validation")
        labels = stream.part_labels("validation")
        for horizon in range(3):
            kept = served & (labels[:, horizon] >= 0)
            losses.append(log_loss(log_softmax(logits[kept, horizon]), labels[kept, horizon]))
    expected = np.reshape(losses, (2, 3)).mean(axis=0)
    np.testing.assert_allclose(validation_log_losses(model, streams, 32), expected)


def test_an_empty_part_has_no_logits(model: MambaLOB, make_dataset: Callable[..., Dataset]) -> None:
    _, short = pool_streams([make_dataset("long", rows=2500), make_dataset("short", rows=300, seed=1)])
    assert part_logits(model, short, "test").shape == (0, 3, 3)
