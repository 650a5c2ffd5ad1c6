"""Each peer's model has the parameters it was published with, its shapes, and its own kind of arithmetic."""

import pytest
import torch
from torch import nn

from bench.peers import bin_ctabl, deeplob, lstm_a, reference_mamba

# Of DeepLOB's convolutions over four time steps, once a process.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model_class", "exact", "published"),
    [
        (reference_mamba.ReferenceMamba, reference_mamba.PARAMETERS, 480_000),
        (lstm_a.LSTMA, lstm_a.PARAMETERS, 161_000),
        (deeplob.DeepLOB, deeplob.PARAMETERS, 60_000),
        (bin_ctabl.BiNCTABL, bin_ctabl.PARAMETERS, 11_000),
    ],
)
def test_parameters_are_those_published(model_class: type[nn.Module], exact: int, published: int) -> None:
    found = parameters(model_class())
    assert found == exact
    assert found == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize(
    ("model", "shape", "answer"),
    [
        (reference_mamba.ReferenceMamba(layers=1), (5, reference_mamba.FEATURES), (1, 3, 3)),
        (lstm_a.LSTMA(), (lstm_a.WINDOW, lstm_a.FEATURES), (1, 1)),
        (deeplob.DeepLOB(), (deeplob.WINDOW, deeplob.FEATURES), (1, 3)),
        (bin_ctabl.BiNCTABL(), (bin_ctabl.WINDOW, bin_ctabl.FEATURES), (1, 3)),
    ],
)
def test_a_window_gives_an_answer_that_depends_on_it(
    model: nn.Module, shape: tuple[int, int], answer: tuple[int, ...]
) -> None:
    one, other = torch.randn(1, *shape), torch.randn(1, *shape)
    with torch.inference_mode():
        assert model(one).shape == answer
        assert not torch.allclose(model(one), model(other))


@pytest.mark.parametrize(
    ("model", "shape"),
    [(deeplob.DeepLOB(), (100, 40)), (bin_ctabl.BiNCTABL(), (10, 40))],
)
def test_classifiers_answer_probabilities(model: nn.Module, shape: tuple[int, int]) -> None:
    with torch.inference_mode():
        found = model(torch.randn(4, *shape))
    assert found.min() > 0
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(4))


def test_the_step_of_lstm_a_is_its_window_row_by_row() -> None:
    model = lstm_a.LSTMA()
    step = lstm_a.LSTMAStep(model)
    window = torch.randn(1, lstm_a.WINDOW, lstm_a.FEATURES)
    with torch.inference_mode():
        expected, state = model(window), lstm_a.initial_state()
        for row in window[0]:
            answer, *state = step(row.view(1, 1, -1), *state)
    torch.testing.assert_close(answer, expected)


def test_the_reference_scan_is_the_recurrence_of_its_paper() -> None:
    block = reference_mamba.ReferenceBlock(8, 4).double()
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    with torch.inference_mode():
        torch.set_default_dtype(torch.float64)
        try:
            found = block(x)
        finally:
            torch.set_default_dtype(torch.float32)
        u, z = block.in_proj(x).chunk(2, dim=-1)
        padded = torch.cat([torch.zeros(1, 3, 16, dtype=torch.float64), u], dim=1)
        taps = block.conv.weight[:, 0, :]  # (E, K)
        u = torch.stack(
            [(padded[0, t : t + 4].T * taps).sum(dim=-1) + block.conv.bias for t in range(6)]
        )  # (L, E)
        u = torch.nn.functional.silu(u)
        dt, b, c = block.x_proj(u).split([2, 4, 4], dim=-1)
        dt = torch.nn.functional.softplus(block.dt_proj(dt))
        rows = []
        for channel in range(16):
            h = torch.zeros(4, dtype=torch.float64)
            row = []
            for t in range(6):
                h = (
                    torch.exp(-dt[t, channel] * torch.exp(block.A_log)) * h
                    + dt[t, channel] * b[t] * u[t, channel]
                )
                row.append(h @ c[t] + block.D[channel] * u[t, channel])
            rows.append(torch.stack(row))
        y = torch.stack(rows, dim=1) * torch.nn.functional.silu(z[0])  # (L, E)
        expected = block.out_proj(y)[None]
    torch.testing.assert_close(found, expected)


def test_the_attention_of_tabl_weighs_time_steps_and_keeps_its_diagonal() -> None:
    layer = bin_ctabl.TemporalAttentionBilinear((4, 3), (5, 1))
    x = torch.randn(2, 4, 5)
    with torch.inference_mode():
        before = layer(x)
        layer.W.add_(torch.eye(5))  # the diagonal is no parameter of the result
        torch.testing.assert_close(layer(x), before)
        layer.W[0, 1] += 1
        assert not torch.allclose(layer(x), before)
