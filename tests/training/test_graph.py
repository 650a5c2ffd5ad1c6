import copy
import time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models.configurations import configuration
from models.mamba_lob import MambaLOB
from training.graph import graph_bytes, node_counts, step_graph
from training.parity import measure_parity

BLOCKS = ["s6", "ssd"]


def dimensions(values):
    return {
        value.name: [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in values
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_names_and_shapes_from_outside(model_graphs, random_model, block):
    graphs = {kind: onnx.load_from_string(graph).graph for kind, graph in model_graphs(block, "nano").items()}
    shapes = random_model(block, "nano").config.state_shapes
    state_in = {f"{name}_in": [1, *shape] for name, shape in shapes.items()}
    state_out = {f"{name}_out": [1, *shape] for name, shape in shapes.items()}
    assert dimensions(graphs["step"].input) == {"row": [1, 44], **state_in}
    assert dimensions(graphs["step"].output) == {"logits": [1, 3, 3], **state_out}
    assert dimensions(graphs["window"].input) == {"window": ["batch", "time", 44]}
    assert dimensions(graphs["window"].output) == {"logits": ["batch", 3, 3]}


@pytest.mark.parametrize("block", BLOCKS)
def test_the_files_are_valid_and_of_versions_that_onnxruntime_runs(model_graphs, block):
    for graph in model_graphs(block, "nano").values():
        model = onnx.load_from_string(graph)
        onnx.checker.check_model(model)
        versions = {each.domain: each.version for each in model.opset_import}
        assert versions == {"": 23, "com.microsoft": 1}
        assert {each.key: each.value for each in model.metadata_props} == {"kept": "yes"}


@pytest.mark.parametrize("block", BLOCKS)
def test_the_last_layer_of_a_window_has_a_matrix_for_the_gate_of_one_row(model_graphs, random_model, block):
    graph = onnx.load_from_string(model_graphs(block, "small")["window"]).graph
    tensors = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    model = random_model(block, "small")
    cut = [name for name in tensors if name.startswith("layers.1.block.in_proj.weight")]
    assert len(cut) == 2
    inner = model.config.inner_width
    whole = model.layers[1].block.in_proj.weight.detach().numpy()
    gate = whole[:, :inner] if block == "ssd" else whole[:, inner:]
    rest = whole[:, inner:] if block == "ssd" else whole[:, :inner]
    assert any(np.array_equal(tensors[name], gate) for name in cut)
    assert any(np.array_equal(tensors[name], rest) for name in cut)


@pytest.mark.parametrize("block", BLOCKS)
def test_weights_keep_their_names_and_values(model_graphs, random_model, block):
    model = random_model(block, "small")
    graph = onnx.load_from_string(model_graphs(block, "small")["step"]).graph
    tensors = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    folded = {f"layers.{layer}.block.A_log" for layer in range(2)} | {"linear.weight"}
    if block == "ssd":
        folded |= {f"layers.{layer}.block.D" for layer in range(2)}
    for name, weight in model.state_dict().items():
        if name in folded:
            continue
        np.testing.assert_array_equal(tensors[name], weight.numpy(), err_msg=name)
    for layer in range(2):
        rates = -torch.exp(model.state_dict()[f"layers.{layer}.block.A_log"])
        name = f"layers.{layer}.block.A_log.exp.neg"
        found = tensors[name] if block == "ssd" else tensors[f"{name}.transpose"].T
        np.testing.assert_allclose(found, rates, rtol=1e-6)
    linear = np.zeros((44, 9), np.float32)
    linear[model.linear_columns] = model.linear.weight.detach()
    np.testing.assert_array_equal(tensors["linear.weight.pad"], linear)


def test_no_weight_is_left_out_where_two_are_equal():
    graph = step_graph(MambaLOB(configuration(block="s6", size="nano"))).graph
    names = {each.name for each in graph.initializer}
    assert {"norm_weight", "layers.0.norm_weight"} <= names  # both ones, 32 of them


def test_the_same_weights_give_the_same_bytes(model_graphs, random_model):
    model = random_model("ssd", "nano")
    before = copy.deepcopy(model.state_dict())
    model.train()
    assert graph_bytes(model, 100, {"kept": "yes"}) == model_graphs("ssd", "nano")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("block", BLOCKS)
def test_nothing_of_the_machine_is_in_the_file(model_graphs, block):
    for graph in model_graphs(block, "nano").values():
        assert b".py" not in graph
        assert b"site-packages" not in graph


def test_a_step_has_few_nodes(model_graphs):
    counts = node_counts(model_graphs("ssd", "base")["step"])
    assert counts["LinearAttention"] == counts["CausalConvWithState"] == 4
    assert sum(counts.values()) <= 75


@pytest.mark.parametrize("block", BLOCKS)
def test_a_step_writes_nothing_that_nobody_reads(model_graphs, block):
    graph = onnx.load_from_string(model_graphs(block, "small")["step"]).graph
    written = [name for node in graph.node for name in node.output if name]
    read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
    assert set(written) <= read


@pytest.mark.parametrize("block", BLOCKS)
def test_batch_and_time_are_open_in_the_window_graph(model_graphs, random_model, spot_dataset, block):
    session = ort.InferenceSession(model_graphs(block, "small")["window"], providers=["CPUExecutionProvider"])
    model = random_model(block, "small")
    for batch, rows in ((1, 1), (1, 37), (5, 100), (2, 160)):
        window = np.stack([spot_dataset.rows[300 * b : 300 * b + rows] for b in range(batch)])
        (logits,) = session.run(["logits"], {"window": window})
        expected = model.forward_last(torch.from_numpy(window)).detach()
        np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_both_graphs_answer_the_same(model_graphs, random_model, spot_dataset, block):
    parity = measure_parity(
        random_model(block, "small"), model_graphs(block, "small"), spot_dataset.rows, window_length=100
    )
    assert parity.window_from_step <= 2e-6  # convolution and S6's scan are other operators in each


def test_a_step_is_many_times_faster_than_a_window(model_graphs, random_model, spot_dataset):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    step, window = (
        ort.InferenceSession(model_graphs("ssd", "base")[kind], options, providers=["CPUExecutionProvider"])
        for kind in ("step", "window")
    )
    model = random_model("ssd", "base")
    zeros = zip(model.state_names(), model.initial_state(1), strict=True)
    rows = spot_dataset.rows[:100]
    taken: dict[str, list[int]] = {"step": [], "window": []}
    inputs = {
        "step": {"row": rows[:1], **{f"{name}_in": value.numpy() for name, value in zeros}},
        "window": {"window": rows[None]},
    }
    for _ in range(30):  # interleaved, so that both see the same machine
        for kind, session, calls in (("step", step, 10), ("window", window, 1)):
            for _ in range(calls):
                started = time.perf_counter_ns()
                session.run(None, inputs[kind])
                taken[kind].append(time.perf_counter_ns() - started)
    assert np.median(taken["window"]) > 6 * np.median(taken["step"])


class LastTwoRows(nn.Module):
    """A causal model that has nothing of Mamba: the difference to the row before, through a matrix."""

    features = 44

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(44, 9))

    def state_names(self) -> tuple[str, ...]:
        return ("previous",)

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return (torch.zeros(batch, 44),)

    def forward(self, x: Tensor) -> Tensor:
        before = torch.nn.functional.pad(x[:, :-1], (0, 0, 1, 0))
        return ((x - before) @ self.weight).unflatten(-1, (3, 3))

    def forward_last(self, x: Tensor) -> Tensor:
        return self.forward(x)[:, -1]

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        (previous,) = state
        return ((x - previous) @ self.weight).unflatten(-1, (3, 3)), x * 1


def test_any_causal_model_is_exported():
    model = LastTwoRows()
    rows = np.random.default_rng(0).normal(size=(150, 44)).astype(np.float32)
    graphs = graph_bytes(model, 30, {})
    assert dimensions(onnx.load_from_string(graphs["step"]).graph.output) == {
        "logits": [1, 3, 3],
        "previous_out": [1, 44],
    }
    assert measure_parity(model, graphs, rows, window_length=30).holds
