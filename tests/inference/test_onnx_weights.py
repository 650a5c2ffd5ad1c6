"""`inference.onnx_weights` against the onnx package on the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from inference.onnx_weights import read_weights
from lob.errors import ArtifactError


def graph_of(*tensors: onnx.TensorProto, **attributes: Any) -> bytes:
    node = helper.make_node("Clip", ["x", "low"], ["y"], **attributes)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    graph = helper.make_graph([node], "g", [value], [], initializer=list(tensors))
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


@pytest.mark.parametrize("kind", ["step", "window"])
def test_reads_what_the_onnx_package_reads(exported: Any, kind: str) -> None:
    model = onnx.load_from_string(exported.graphs[kind])
    came = read_weights(exported.graphs[kind], kind)
    assert set(came.tensors) == {tensor.name for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        wanted = numpy_helper.to_array(tensor)
        found = came.tensors[tensor.name]
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        assert found.tobytes() == wanted.tobytes()
    for node, wanted_node in zip(came.nodes, model.graph.node, strict=True):
        assert node.operator == wanted_node.op_type
        assert node.inputs == tuple(wanted_node.input)
        assert node.outputs == tuple(wanted_node.output)
        floats = {a.name: a.f for a in wanted_node.attribute if a.type == onnx.AttributeProto.FLOAT}
        assert floats.items() <= node.floats.items()


@settings(max_examples=50)
@given(
    shape=st.lists(st.integers(0, 200), max_size=4).filter(lambda sizes: np.prod(sizes) < 5000),
    dtype=st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.float16, np.bool_]),
    epsilon=st.floats(width=32, allow_nan=False),
)
def test_any_shape_and_type(shape: list[int], dtype: Any, epsilon: float) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    came = read_weights(graph_of(numpy_helper.from_array(values, "w"), epsilon=epsilon), "m")
    assert came.tensors["w"].shape == values.shape
    assert came.tensors["w"].tobytes() == values.tobytes()
    assert came.nodes[0].floats == {"epsilon": epsilon}


def test_values_in_another_file_are_refused(exported: Any, tmp_path: Path) -> None:
    model = onnx.load_from_string(exported.graphs["step"])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=64, location="w.bin")
    with pytest.raises(ArtifactError, match=r"^m: tensor .*: values in another file came"):
        read_weights((tmp_path / "m.onnx").read_bytes(), "m")


def test_a_type_that_weights_do_not_come_in_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"^m: initializer w: type 8 came"):
        read_weights(graph_of(helper.make_tensor("w", TensorProto.STRING, [1], [b"text"])), "m")
    typed = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    assert not typed.raw_data
    with pytest.raises(ArtifactError, match=r"^m: initializer w: type 1 came, .* as raw data are allowed"):
        read_weights(graph_of(typed), "m")


def test_values_that_do_not_fill_their_shape_are_refused() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.dims[0] = 5
    with pytest.raises(ArtifactError, match=r"^m: not an ONNX file"):
        read_weights(graph_of(tensor), "m")


@pytest.mark.parametrize("cut", [1, 2, 10, 100])
def test_a_cut_file_is_refused(exported: Any, cut: int) -> None:
    with pytest.raises(ArtifactError, match=r"^some\.onnx: not an ONNX file"):
        read_weights(exported.graphs["step"][:-cut], "some.onnx")


@settings(max_examples=200)
@given(content=st.binary(max_size=200))
def test_any_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError):
        read_weights(content, "some.onnx")


def test_asking_for_what_is_not_there() -> None:
    low = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "low")
    weights = read_weights(graph_of(low), "m")
    with pytest.raises(ArtifactError, match=r"^m: initializer w: none came"):
        weights.tensor("w")
    with pytest.raises(ArtifactError, match=r"^m: initializer low: shape \[2\] came, \[3\] is allowed"):
        weights.tensor("low", (3,))
    for name in ("low", "w"):
        with pytest.raises(ArtifactError, match=rf"^m: initializer {name}: .* came, one number is allowed"):
            weights.number(name)
