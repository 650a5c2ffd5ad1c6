import pytest
import torch

from lob.errors import InputError
from models.normaliser import Normaliser


def test_rows_are_centred_scaled_and_clipped():
    normaliser = Normaliser(3, clip=4.0)
    normaliser.set(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.5, 2.0]))
    rows = torch.tensor([[1.0, 3.0, 1.0], [101.0, -98.0, 3.0]])
    assert torch.equal(normaliser(rows), torch.tensor([[0.0, 2.0, -1.0], [4.0, -4.0, 0.0]]))


def test_a_feature_that_never_varies_keeps_its_scale():
    normaliser = Normaliser(2, clip=4.0)
    normaliser.set(torch.tensor([5.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert torch.equal(normaliser(torch.tensor([6.0, 1.0])), torch.tensor([1.0, 1.0]))


@pytest.mark.parametrize(
    ("mean", "scale", "message"),
    [
        (torch.zeros(3), torch.ones(2), "mean has shape \\(3,\\); allowed: \\(2,\\)"),
        (torch.zeros(2), torch.tensor([1.0, torch.nan]), "scale holds a number that is not finite"),
        (torch.zeros(2), torch.tensor([1.0, -1.0]), "scale holds a number below 0"),
    ],
)
def test_what_does_not_fit_is_refused(mean, scale, message):
    with pytest.raises(InputError, match=message):
        Normaliser(2, clip=4.0).set(mean, scale)
