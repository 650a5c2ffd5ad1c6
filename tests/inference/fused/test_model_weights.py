"""A model read off its step graph: sizes, the numbers without a name, and what is refused."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inference.fused.model_weights import model_weights, pack_weights
from inference.fused.sizes import parameter_words
from inference.fused.weight_format import PRECISIONS, weight_format
from inference.onnx_weights import read_weights
from lob.errors import ArtifactError
from models.configurations import MambaLOBConfig, configuration

BLOCKS = ("ssd", "s6")


def altered(graph: bytes, **tensors: Any) -> bytes:
    """`graph` with initializers replaced, or removed where None; `__` in a name stands for a point."""
    model = onnx.load_from_string(graph)
    for spelled, values in tensors.items():
        name = spelled.replace("__", ".")
        kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
        assert len(kept) == len(model.graph.initializer) - 1
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        if values is not None:
            model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model.SerializeToString()


def refusal(graph: bytes) -> str:
    with pytest.raises(ArtifactError) as caught:
        model_weights(read_weights(graph, "some.onnx"))
    assert str(caught.value).startswith("some.onnx: ")
    return str(caught.value)


@pytest.mark.parametrize("size", ["nano", "small"])
@pytest.mark.parametrize("block", BLOCKS)
def test_sizes_are_those_of_the_configuration(exported_model: Any, block: Any, size: Any) -> None:
    config = configuration(block=block, size=size)
    sizes = exported_model(config)[0].sizes
    assert (sizes.block, sizes.layers, sizes.features) == (block, config.layers, 44)
    assert (sizes.width, sizes.inner, sizes.state) == (config.width, config.inner_width, config.state_size)
    assert (sizes.taps, sizes.outputs) == (config.conv_width, 9)
    if block == "ssd":
        assert (sizes.heads, sizes.head_width) == (config.heads, config.head_width)
    else:
        assert sizes.rank == config.dt_rank
    assert (sizes.linear_first, sizes.linear_count) == (40, 3)
    assert (sizes.clip_low, sizes.clip_high) == (-config.clip, config.clip)
    assert sizes.epsilon == pytest.approx(1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_packed_weights_fill_just_what_a_kernel_reads(exported_model: Any, block: Any) -> None:
    model, _ = exported_model(configuration(block=block, size="nano"))
    for precision in PRECISIONS:
        weights = weight_format(precision)
        assert pack_weights(model, weights).size == parameter_words(model.sizes, weights)


def test_a_head_that_fills_no_vector_is_refused(exported_model: Any) -> None:
    narrow = MambaLOBConfig(block="ssd", size="x", layers=1, width=16, state_size=4, head_width=8)
    with pytest.raises(
        ArtifactError, match="head width 8 came; a multiple of 16 is supported by engine fused"
    ):
        exported_model(narrow)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_missing_weight_is_named(exported_model: Any, block: Any) -> None:
    _, graph = exported_model(configuration(block=block, size="nano"))
    for name in ("head__weight", "layers__0__block__dt_bias", "normaliser__mean"):
        assert f"initializer {name.replace('__', '.')}: none came" in refusal(altered(graph, **{name: None}))


def test_weights_of_another_shape_or_type_are_named(exported_model: Any) -> None:
    _, graph = exported_model(configuration(block="ssd", size="nano"))
    short = np.zeros(43, np.float32)
    assert "normaliser.mean: shape [43] came, [44] is allowed" in refusal(
        altered(graph, normaliser__mean=short)
    )
    double = np.zeros(44)
    assert "normaliser.mean: float64 came, float32 is allowed" in refusal(
        altered(graph, normaliser__mean=double)
    )
    vector = np.zeros(9, np.float32)
    assert "head.weight: shape [9] came, a matrix is allowed" in refusal(altered(graph, head__weight=vector))


def test_a_graph_of_something_else_is_refused() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [])
    assert "no layer came" in refusal(onnx.helper.make_model(graph).SerializeToString())


def test_norms_that_differ_in_epsilon_are_refused(exported_model: Any) -> None:
    _, graph = exported_model(configuration(block="ssd", size="nano"))
    model = onnx.load_from_string(graph)
    norm = next(node for node in model.graph.node if node.op_type == "RMSNormalization")
    (epsilon,) = (attribute for attribute in norm.attribute if attribute.name == "epsilon")
    epsilon.f = 1e-3
    assert "epsilon of the norms" in refusal(model.SerializeToString())
