import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lob.errors import InputError
from models.checkpoint import CONFIGURATION_FILE, WEIGHTS_FILE, load_model, save_model


@pytest.mark.parametrize("block", ["s6", "ssd"])
def test_a_model_comes_back_as_it_was(make_model, tmp_path, block):
    model = make_model(block, "nano")
    save_model(model, tmp_path / "run")
    loaded = load_model(tmp_path / "run")
    assert loaded.config == model.config
    x = torch.randn(2, 20, 44)
    assert torch.equal(loaded(x), model(x))  # the normaliser is part of it
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [CONFIGURATION_FILE, WEIGHTS_FILE]


def test_saving_again_replaces(make_model, tmp_path):
    save_model(make_model("ssd", "nano", seed=1), tmp_path)
    second = make_model("ssd", "nano", seed=2)
    save_model(second, tmp_path)
    assert torch.equal(load_model(tmp_path).embedding.weight, second.embedding.weight)


def damage_weight(name: str, value: torch.Tensor | None):
    def damage(folder):
        weights = load_file(folder / WEIGHTS_FILE)
        if value is None:
            del weights[name]
        else:
            weights[name] = value
        save_file(weights, folder / WEIGHTS_FILE)

    return damage


def damage_configuration(**changes):
    def damage(folder):
        content = json.loads((folder / CONFIGURATION_FILE).read_text())
        (folder / CONFIGURATION_FILE).write_text(json.dumps({**content, **changes}))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weight("head.weight", None), "head.weight is absent; allowed: \\(32, 9\\)"),
        (damage_weight("head.weight", torch.zeros(32, 6)), "head.weight is \\(32, 6\\); allowed"),
        (damage_weight("head.weight", torch.full((32, 9), torch.nan)), "head.weight holds a number that is"),
        (damage_weight("other", torch.zeros(1)), "other is \\(1,\\); allowed: absent"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"no"), "cannot be read as safetensors"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "cannot be read"),
        (lambda folder: (folder / CONFIGURATION_FILE).unlink(), "No such file"),
        (lambda folder: (folder / CONFIGURATION_FILE).write_text("{"), "not a model's configuration"),
        (lambda folder: (folder / CONFIGURATION_FILE).write_text("[]"), "not a model's configuration"),
        (damage_configuration(format_version=9), "format_version 9; allowed: 1"),
        (damage_configuration(model={"block": "ssd"}), "model.json: configuration lacks the fields"),
        (damage_configuration(model=7), "not a model's configuration"),
    ],
)
def test_what_does_not_fit_is_named(make_model, tmp_path, damage, message):
    save_model(make_model("ssd", "nano"), tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)
