from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lob.schema import LOB44
from models.configurations import BLOCKS, SIZES, MambaLOBConfig, configuration
from models.mamba_lob import LINEAR_FEATURES, MambaLOB, parameter_count
from models.weight_decay import parameter_groups

FORMS = [(block, size) for block in BLOCKS for size in SIZES]
COUNTS = {
    ("s6", "base"): (450_000, 550_000),
    ("ssd", "base"): (400_000, 500_000),
    ("s6", "small"): (60_000, 80_000),
    ("ssd", "small"): (60_000, 80_000),
    ("s6", "nano"): (5_000, 12_000),
    ("ssd", "nano"): (5_000, 12_000),
}


@pytest.mark.parametrize(("block", "size"), FORMS)
def test_sizes(make_model, block, size):
    low, high = COUNTS[block, size]
    assert low <= parameter_count(make_model(block, size)) <= high


@pytest.mark.parametrize(("block", "size"), FORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_steps_equal_forward(make_model, block, size, dtype, tolerance):
    model = make_model(block, size).to(dtype)
    x = torch.randn(2, 50, 44, dtype=dtype)
    expected = model(x)  # (2, 50, 3, 3)
    state = model.initial_state(2)
    for t in range(50):
        logits, *state = model.step(x[:, t], *state)
        torch.testing.assert_close(logits, expected[:, t], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(model.forward_last(x), expected[:, -1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("block", BLOCKS)
def test_chunks_equal_the_whole_with_gradients_through_the_state(make_model, block):
    model = make_model(block, "nano").double()
    x = torch.randn(3, 40, 44, dtype=torch.float64, requires_grad=True)
    whole = model(x)
    first, *state = model.forward_from(x[:, :17], *model.initial_state(3))
    second, *state = model.forward_from(x[:, 17:], *state)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, rtol=1e-12, atol=1e-12)
    (expected,) = torch.autograd.grad(whole[:, -1].sum(), x)
    (came,) = torch.autograd.grad(second[:, -1].sum(), x)
    assert came[:, :17].abs().max() > 0
    torch.testing.assert_close(came, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("block", "size"), FORMS)
def test_the_future_changes_nothing_in_the_past(make_model, block, size):
    model = make_model(block, size)
    x = torch.randn(2, 60, 44)
    changed = x.clone()
    changed[:, 37:] = 100 * torch.randn(2, 23, 44)
    before, after = model(x), model(changed)
    assert torch.equal(before[:, :37], after[:, :37])
    assert not torch.equal(before[:, 37], after[:, 37])


@pytest.mark.parametrize("block", BLOCKS)
def test_streams_of_a_batch_do_not_mix(make_model, block):
    model = make_model(block, "small").double()
    x = torch.randn(3, 20, 44, dtype=torch.float64)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", BLOCKS)
def test_training_starts_at_the_linear_path(block):
    model = MambaLOB(configuration(block=block, size="nano"))
    x = torch.randn(2, 9, 44)
    assert torch.equal(model(x), torch.zeros(2, 9, 3, 3))
    torch.nn.init.normal_(model.linear.weight)
    torch.nn.init.normal_(model.linear_bias)
    model.normaliser.set(torch.full((44,), 0.5), torch.full((44,), 2.0))
    chosen = [LOB44.feature_names.index(name) for name in LINEAR_FEATURES]
    expected = ((x[..., chosen] - 0.5) / 2) @ model.linear.weight + model.linear_bias
    torch.testing.assert_close(model(x), expected.unflatten(-1, (3, 3)))
    model(x).square().sum().backward()
    assert model.head.weight.grad.abs().max() > 0


@pytest.mark.parametrize("block", BLOCKS)
def test_state_names_shapes_and_zeros(make_model, block):
    model = make_model(block, "small")
    inner, states, heads = 128, model.config.state_size, model.config.heads
    channels = inner + 2 * states if block == "ssd" else inner
    scan = (heads, states, 32) if block == "ssd" else (states, inner)
    assert model.state_names() == ("conv_0", "scan_0", "conv_1", "scan_1")
    state = model.initial_state(5)
    assert [tuple(each.shape) for each in state] == [(5, 3, channels), (5, *scan)] * 2
    assert all(not each.any() for each in state)


def test_s6_starts_canonically():
    block: Any = MambaLOB(configuration(block="s6", size="base")).layers[1].block
    rates = torch.arange(1.0, 17.0).expand(256, 16)
    torch.testing.assert_close(block.A_log.exp(), rates)
    assert torch.equal(block.D, torch.ones(256))
    dt = F.softplus(block.dt_bias)
    assert dt.min() >= 0.99e-3
    assert dt.max() <= 1.01e-1
    assert dt.max() / dt.min() > 30  # spread over the two decades


def test_ssd_starts_canonically():
    torch.manual_seed(0)
    config = configuration(block="ssd", size="base")
    blocks: list[Any] = [MambaLOB(config).layers[0].block for _ in range(20)]
    rates = torch.cat([block.A_log.exp() for block in blocks])
    dt = F.softplus(torch.cat([block.dt_bias for block in blocks]))
    assert rates.min() >= 1
    assert rates.max() <= 16
    assert rates.std() > 3  # uniform: 4.3
    assert dt.min() >= 0.99e-3
    assert dt.max() <= 1.01e-1
    assert 0.8 < dt.log10().diff().std() / (2 / 6**0.5) < 1.2  # log-uniform over two decades
    assert all(torch.equal(block.D, torch.ones(config.heads)) for block in blocks)


@pytest.mark.parametrize("block", BLOCKS)
def test_weight_decay_leaves_marked_parameters_alone(block):
    model = MambaLOB(configuration(block=block, size="small"))
    decayed, free = parameter_groups(model, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    endings = {names[id(parameter)].split(".")[-1] for parameter in free["params"]}
    assert endings == {"A_log", "D", "dt_bias", "conv_bias", "norm_weight", "linear_bias"}
    assert {names[id(parameter)].split(".")[-1] for parameter in decayed["params"]} == {
        "weight",
        "conv_weight",
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_it_learns_what_only_memory_can_tell(block):
    torch.manual_seed(0)
    model = MambaLOB(
        MambaLOBConfig(block=block, size="test", layers=1, width=16, state_size=8, horizons=(1,))
    )
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay=0.01), lr=2e-2)
    losses = []
    for _ in range(200):
        x = torch.randn(16, 64, 44)
        labels = 1 + x[:, :, 0].cumsum(1).sign().long()  # the sign of a feature's sum since the first row
        loss = F.cross_entropy(model(x)[:, 20:, 0].flatten(0, 1), labels[:, 20:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # The priors alone score log 2 = 0.69; the convolution's four rows tell little of a sum of 20 and more.
    assert sum(losses[-20:]) / 20 < 0.45
