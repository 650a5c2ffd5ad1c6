import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inference.manifest import GraphKind
from lob.errors import ArtifactError, InputError
from models.configurations import BLOCKS, SIZES
from training.parity import measure_parity, require_parity


def changed(graph: bytes, name: str, change) -> bytes:
    """The graph with one of its weights changed."""
    model = onnx.load_from_string(graph)
    (tensor,) = [each for each in model.graph.initializer if each.name == name]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return model.SerializeToString()


def weights(graph: bytes) -> list[str]:
    """The names of a graph's float32 arrays that come from the model."""
    tensors = onnx.load_from_string(graph).graph.initializer
    return [each.name for each in tensors if each.data_type == onnx.TensorProto.FLOAT and len(each.dims)]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
def test_the_gate_holds_on_real_rows(random_model, model_graphs, spot_dataset, block, size):
    parity = require_parity(
        random_model(block, size), model_graphs(block, size), spot_dataset.rows, window_length=100
    )
    assert parity.tolerance == 1e-5
    assert (parity.starts, parity.steps, parity.window_length) == (8, 100, 100)
    assert 0 < parity.step <= 1e-5  # two implementations in float32: not the same bits
    assert 0 < parity.window <= 1e-5


@pytest.mark.parametrize("block", BLOCKS)
def test_windows_of_other_lengths(random_model, model_graphs, spot_dataset, block):
    for length in (20, 130):
        parity = require_parity(
            random_model(block, "nano"), model_graphs(block, "nano"), spot_dataset.rows, window_length=length
        )
        assert parity.window_length == length


@pytest.mark.parametrize("kind", ["step", "window"])
@pytest.mark.parametrize("block", BLOCKS)
def test_any_broken_weight_makes_it_fail(random_model, model_graphs, spot_dataset, block, kind):
    model, graphs = random_model(block, "nano"), model_graphs(block, "nano")
    names = weights(graphs[kind])
    assert len(names) >= 13
    for name in names:
        broken = {**graphs, kind: changed(graphs[kind], name, lambda values: values * np.float32(1.5))}
        with pytest.raises(ArtifactError, match=r"logits differ .*nothing is written"):
            require_parity(model, broken, spot_dataset.rows, window_length=100)


@pytest.mark.parametrize("block", BLOCKS)
def test_one_number_of_a_matrix_makes_it_fail(random_model, model_graphs, spot_dataset, block):
    def flip(values):
        values[5, 7] *= -1
        return values

    graphs = model_graphs(block, "nano")
    step = changed(graphs["step"], "layers.0.block.out_proj.weight", flip)
    with pytest.raises(ArtifactError, match="logits differ"):
        require_parity(
            random_model(block, "nano"), {**graphs, "step": step}, spot_dataset.rows, window_length=100
        )


def test_a_number_that_is_none_makes_it_fail(random_model, model_graphs, spot_dataset):
    graphs = model_graphs("ssd", "nano")
    step = changed(graphs["step"], "head.weight", lambda values: values * np.float32(np.nan))
    parity = measure_parity(
        random_model("ssd", "nano"), {**graphs, "step": step}, spot_dataset.rows, window_length=100
    )
    assert math.isnan(parity.step)
    assert not parity.holds


def test_a_state_that_is_not_handed_on_makes_it_fail(random_model, model_graphs, spot_dataset):
    graphs = model_graphs("ssd", "nano")
    model = onnx.load_from_string(graphs["step"])
    for node in model.graph.node:
        if "scan_0_in" in node.input:
            node.output[1] = "unused"
    model.graph.node.append(onnx.helper.make_node("Identity", ["scan_0_in"], ["scan_0_out"]))
    with pytest.raises(ArtifactError, match="logits differ"):
        require_parity(
            random_model("ssd", "nano"),
            {**graphs, "step": model.SerializeToString()},
            spot_dataset.rows,
            window_length=100,
        )


def test_the_graphs_of_another_model_make_it_fail(random_model, model_graphs, spot_dataset):
    with pytest.raises(ArtifactError, match="does not take what its model takes"):
        require_parity(
            random_model("s6", "nano"), model_graphs("ssd", "nano"), spot_dataset.rows, window_length=100
        )


def test_swapped_graphs_make_it_fail(random_model, model_graphs, spot_dataset):
    graphs = model_graphs("ssd", "nano")
    swapped: dict[GraphKind, bytes] = {"step": graphs["window"], "window": graphs["step"]}
    with pytest.raises(ArtifactError, match="does not take what its model takes"):
        require_parity(random_model("ssd", "nano"), swapped, spot_dataset.rows, window_length=100)


def test_what_is_no_graph_is_refused(random_model, model_graphs, spot_dataset):
    graphs = {**model_graphs("ssd", "nano"), "window": b"not a graph"}
    with pytest.raises(ArtifactError, match=r"the window graph: onnxruntime .* refuses it"):
        require_parity(random_model("ssd", "nano"), graphs, spot_dataset.rows, window_length=100)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((99, 44), np.float32), "99 rows came; the parity gate needs at least 100"),
        (np.zeros((200, 43), np.float32), "rows have shape \\(200, 43\\); allowed: \\(T, 44\\)"),
        (np.full((200, 44), np.inf, np.float32), "rows hold a number that is not finite"),
    ],
)
def test_rows_that_do_not_fit_are_refused(random_model, model_graphs, rows, message):
    with pytest.raises(InputError, match=message):
        measure_parity(random_model("ssd", "nano"), model_graphs("ssd", "nano"), rows, window_length=100)
