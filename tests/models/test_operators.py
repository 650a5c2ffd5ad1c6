import torch
import torch.nn.functional as F  # noqa: N812

from models.operators import add_rms_norm, causal_conv, rms_norm


def test_the_convolution_is_pytorchs_with_the_state_as_its_padding():
    torch.manual_seed(0)
    x, state = torch.randn(2, 9, 5), torch.randn(2, 3, 5)
    weight, bias = torch.randn(5, 1, 4), torch.randn(5)
    y, next_state = causal_conv(x, weight, bias, state)
    padded = torch.cat((state, x), dim=1)
    expected = F.conv1d(padded.transpose(1, 2), weight, bias, groups=5).transpose(1, 2)
    torch.testing.assert_close(y, expected)
    assert torch.equal(next_state, x[:, -3:])


def test_rows_fewer_than_the_state_keep_the_older_ones():
    state = torch.arange(6.0).view(1, 3, 2)
    x = torch.full((1, 1, 2), 9.0)
    _, next_state = causal_conv(x, torch.ones(2, 1, 4), torch.zeros(2), state)
    assert torch.equal(next_state, torch.cat((state[:, 1:], x), dim=1))


def test_the_norm_is_over_the_root_mean_square():
    x, residual, weight = torch.randn(2, 3, 8), torch.randn(2, 3, 8), torch.randn(8)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    torch.testing.assert_close(rms_norm(x, weight, 1e-5), expected)
    normed, total = add_rms_norm(x, residual, weight, 1e-5)
    torch.testing.assert_close(normed, rms_norm(x + residual, weight, 1e-5))
    torch.testing.assert_close(total, x + residual)
