"""A model between runs: its weights as safetensors, its configuration as JSON, nothing pickled."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lob.errors import InputError
from models.configurations import MambaLOBConfig
from models.mamba_lob import MambaLOB

WEIGHTS_FILE, CONFIGURATION_FILE = "model.safetensors", "model.json"
FORMAT_VERSION = 1


def save_model(model: MambaLOB, directory: Path) -> None:
    """Write the two files into `directory` (made if absent); each is written beside and then renamed."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"format_version": FORMAT_VERSION, "model": model.config.as_dict()}
    beside = directory / f".{CONFIGURATION_FILE}.part"
    beside.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    weights_beside = directory / f".{WEIGHTS_FILE}.part"
    save_file(weights, weights_beside)
    weights_beside.replace(directory / WEIGHTS_FILE)
    beside.replace(directory / CONFIGURATION_FILE)


def load_model(directory: Path) -> MambaLOB:
    """The model that `save_model` wrote, ready to run; raises InputError saying which file does not fit."""
    path = directory / CONFIGURATION_FILE
    try:
        content = json.loads(path.read_text())
        version, values = content["format_version"], dict(content["model"])
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; allowed: a folder that `mambalob train` wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a model's configuration: {error}") from error
    if version != FORMAT_VERSION:
        raise InputError(f"{path} has format_version {version!r}; allowed: {FORMAT_VERSION}")
    try:
        model = MambaLOB(MambaLOBConfig.from_dict(values))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    load_weights(model, directory / WEIGHTS_FILE)
    return model.eval()


def load_weights(model: MambaLOB, path: Path) -> None:
    """Put the weights of a safetensors file into `model`; raises InputError naming what does not fit."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from error
    own = model.state_dict()
    for name in sorted(set(own) | set(weights)):
        came = tuple(weights[name].shape) if name in weights else "absent"
        allowed = tuple(own[name].shape) if name in own else "absent"
        if came != allowed:
            raise InputError(f"{path}: {name} is {came}; allowed: {allowed}")
        if not bool(torch.isfinite(weights[name]).all()):
            raise InputError(f"{path}: {name} holds a number that is not finite")
    model.load_state_dict(weights)
