"""A MambaLOB with random weights of any size, as its step graph gives it, and its step in plain numpy."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from inference.fused.model_weights import ModelWeights, model_weights
from inference.onnx_weights import read_weights
from models.configurations import MambaLOBConfig
from models.mamba_lob import MambaLOB
from training.graph import step_graph

Floats = npt.NDArray[np.float64]
PlainStep = Callable[[Any], Floats]


@pytest.fixture(scope="session")
def exported_model() -> Callable[[MambaLOBConfig], tuple[ModelWeights, bytes]]:
    """Weights of a configuration as read from its step graph, and that graph; every path counts."""

    @cache
    def export(config: MambaLOBConfig) -> tuple[ModelWeights, bytes]:
        torch.manual_seed(5)
        model = MambaLOB(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.abs().max():
                    parameter.normal_(std=0.1)
            for name, parameter in model.named_parameters():
                if "norm_weight" in name or name.endswith(".D"):
                    parameter.uniform_(0.5, 1.5)
            model.normaliser.mean.normal_()
            model.normaliser.inverse_scale.uniform_(0.5, 2.0)
        graph = step_graph(model).SerializeToString()
        return model_weights(read_weights(graph, "a graph")), graph

    return export


@pytest.fixture(scope="session")
def plain_stepper() -> Callable[[ModelWeights], PlainStep]:
    """A model's step, row (F,) -> logits (outputs,), from a zero state: float64, no packing, no lanes."""
    return _plain_stepper


def _plain_stepper(model: ModelWeights) -> PlainStep:
    sizes = model.sizes
    E, N, R = sizes.inner, sizes.state, sizes.rank
    w = {name: tensor.astype(np.float64) for name, tensor in model.graph.tensors.items()}
    channels = E + 2 * N if sizes.block == "ssd" else E
    states = [(np.zeros((sizes.taps - 1, channels)), np.zeros((E, N))) for _ in range(sizes.layers)]

    def step(row: Any) -> Floats:
        x0 = (row.astype(np.float64) - w["normaliser.mean"]) * w["normaliser.inverse_scale"]
        x0 = np.clip(x0, sizes.clip_low, sizes.clip_high)  # (F,)
        residual = x0 @ w["embedding.weight"]  # (D,)
        for index, (conv, scan) in enumerate(states):
            prefix = f"layers.{index}.block."
            p = {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}
            projected = (_rms(residual) * w[f"layers.{index}.norm_weight"]) @ p["in_proj.weight"]
            if sizes.block == "ssd":
                z, new, dt = np.split(projected, [E, 2 * E + 2 * N])
            else:
                new, z = np.split(projected, [E])
            taps = np.vstack([conv, new])  # (K, channels)
            signal = _silu((taps * p["conv_weight"][:, 0].T).sum(axis=0) + p["conv_bias"])
            if sizes.block == "ssd":
                signal, k, q = np.split(signal, [E, E + N])
                dt = np.logaddexp(0, dt + p["dt_bias"])  # (H,)
                decay = np.repeat(np.exp(dt * p["A_log.exp.neg"]), sizes.head_width)[:, None]
                dt, skip = np.repeat(dt, sizes.head_width), p["D.matmul"]
            else:
                dt, k, q = np.split(signal @ p["x_proj.weight"], [R, R + N])
                dt = np.logaddexp(0, dt @ p["dt_proj.weight"] + p["dt_bias"])  # (E,)
                decay, skip = np.exp(dt[:, None] * p["A_log.exp.neg.transpose"].T), p["D"]
            scan = decay * scan + (dt * signal)[:, None] * k  # (E, N)
            states[index] = taps[1:], scan
            y = (scan @ q + skip * signal) * _silu(z)  # (E,)
            if sizes.block == "ssd":
                y = _rms(y) * p["norm_weight"]
            residual = residual + y @ p["out_proj.weight"]
        direct = x0 @ w["linear.weight.pad"]
        logits: Floats = _rms(residual) * w["norm_weight"] @ w["head.weight"] + direct + w["linear_bias"]
        return logits

    return step


def _silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def _rms(x: Floats) -> Floats:
    return x / np.sqrt(np.mean(x * x) + 1e-5)
