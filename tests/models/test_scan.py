from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.scan import s6_chunked, s6_reference, ssd_chunked, ssd_reference

Scan = Callable[..., tuple[Tensor, Tensor]]
BATCH, HEADS, WIDTH, STATE, CHANNELS = 2, 3, 4, 5, 6
LENGTHS = [(1, 4), (3, 4), (8, 4), (37, 8), (37, 1), (37, 64)]  # rows, rows in a chunk


def ssd_inputs(rows: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(rows)
    shapes = [(BATCH, rows, HEADS, WIDTH), (BATCH, rows, HEADS), (BATCH, rows, STATE), (BATCH, rows, STATE)]
    v, g, k, q = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return [v, -g.abs(), k, q, torch.randn(BATCH, HEADS, STATE, WIDTH, dtype=dtype)]


def s6_inputs(rows: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(rows)
    v, dt = (torch.randn(BATCH, rows, CHANNELS, dtype=dtype) for _ in range(2))
    k, q = (torch.randn(BATCH, rows, STATE, dtype=dtype) for _ in range(2))
    A = -torch.rand(CHANNELS, STATE, dtype=dtype) * 3
    return [v, dt.abs(), A, k, q, torch.randn(BATCH, CHANNELS, STATE, dtype=dtype)]


SCANS: dict[str, tuple[Callable[[int, torch.dtype], list[Tensor]], Scan, Scan]] = {
    "ssd": (ssd_inputs, ssd_reference, ssd_chunked),
    "s6": (s6_inputs, s6_reference, s6_chunked),
}


def with_gradients(scan: Scan, inputs: list[Tensor], *more: int) -> tuple[list[Tensor], list[Tensor]]:
    """Both outputs, and the gradients of a loss in which each number of both has a weight of its own."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    outputs = scan(*leaves, *more)
    torch.manual_seed(1)
    weighted = [(output * torch.randn(output.shape, dtype=output.dtype)).sum() for output in outputs]
    loss = torch.stack(weighted).sum()
    loss.backward()
    return [output.detach() for output in outputs], [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize(("rows", "chunk_rows"), LENGTHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_chunked_equals_the_loop_in_values_and_gradients(name, rows, chunk_rows, dtype, tolerance):
    make, reference, chunked = SCANS[name]
    inputs = make(rows, dtype)
    expected, expected_gradients = with_gradients(reference, inputs)
    outputs, gradients = with_gradients(chunked, inputs, chunk_rows)
    for came, wanted in zip(outputs + gradients, expected + expected_gradients, strict=True):
        torch.testing.assert_close(came, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", SCANS)
def test_gradients_equal_finite_differences(name):
    make, _, chunked = SCANS[name]
    inputs = [each.requires_grad_() for each in make(7, torch.float64)]
    assert torch.autograd.gradcheck(lambda *leaves: chunked(*leaves, 3), inputs)


@pytest.mark.parametrize("name", SCANS)
def test_the_state_carries_from_chunk_to_chunk(name):
    make, _, chunked = SCANS[name]
    inputs = [each.requires_grad_() for each in make(20, torch.float64)]
    along = [each.ndim > 2 for each in inputs[:-1]]  # A (E, N) has no time axis
    first = [each[:, :9] if timed else each for each, timed in zip(inputs, along, strict=False)]
    second = [each[:, 9:] if timed else each for each, timed in zip(inputs, along, strict=False)]
    y_first, state = chunked(*first, inputs[-1], 4)
    y_second, state = chunked(*second, state, 4)
    y, last = chunked(*inputs, 4)
    torch.testing.assert_close(torch.cat((y_first, y_second), dim=1), y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)
    joined = torch.autograd.grad((y_first.sum() + y_second.sin().sum() + state.sum()), inputs)
    whole = torch.autograd.grad((y[:, :9].sum() + y[:, 9:].sin().sum() + last.sum()), inputs)
    for came, wanted in zip(joined, whole, strict=True):
        torch.testing.assert_close(came, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("decay", [0.0, 1e-6, 100.0, 1e4])
def test_no_decay_is_too_weak_or_too_strong(name, decay):
    make, reference, chunked = SCANS[name]
    inputs = make(50, torch.float32)
    inputs[1] = torch.full_like(inputs[1], -decay if name == "ssd" else decay)
    if name == "s6":
        inputs[2] = -torch.ones_like(inputs[2])
    expected, expected_gradients = with_gradients(reference, inputs)
    outputs, gradients = with_gradients(chunked, inputs, 16)
    for came, wanted in zip(outputs + gradients, expected + expected_gradients, strict=True):
        assert torch.isfinite(came).all()
        torch.testing.assert_close(came, wanted, rtol=1e-4, atol=2e-4)


def test_a_weak_decay_after_strong_ones_keeps_its_digits():
    # Cumulative sums near -3,000: their float32 differences would be wrong by 1e-4 and more.
    v, g, k, q, state = ssd_inputs(32, torch.float32)
    g[:, :30] = -100.0
    g[:, 30:] = -1e-3
    exact, _ = ssd_reference(*(each.double() for each in (v, g, k, q, state)))
    y, _ = ssd_chunked(v, g, k, q, state, 32)
    torch.testing.assert_close(y[:, 31].double(), exact[:, 31], rtol=2e-6, atol=2e-6)
