"""What nodes cost: that all are counted, and that the sum is a call of the whole."""

from collections import Counter

import onnx
import pytest

from training import node_costs as subject
from training.node_costs import node_costs


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A few calls of each cut: nothing here depends on how well they are timed."""
    monkeypatch.setattr(subject, "ROUNDS", 2)
    monkeypatch.setattr(subject, "TURN_NS", 1)


@pytest.mark.parametrize("block", ["s6", "ssd"])
@pytest.mark.parametrize("kind", ["step", "window"])
def test_every_operator_is_there_with_its_nodes(model_graphs, spot_dataset, block, kind):
    graph = model_graphs(block, "nano")[kind]
    costs = node_costs(graph, kind, spot_dataset.rows[:100])
    wanted = Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)
    assert {cost.operator: cost.nodes for cost in costs} == wanted
    assert [cost.us for cost in costs] == sorted((cost.us for cost in costs), reverse=True)


def test_a_node_costs_what_its_cut_takes_longer(model_graphs, spot_dataset, monkeypatch):
    monkeypatch.setattr(subject, "_calls_us", lambda cuts: {index: (index + 1) ** 2.0 for index in cuts})
    graph = model_graphs("ssd", "nano")["step"]
    nodes = onnx.load_from_string(graph).graph.node
    costs = {cost.operator: cost.us for cost in node_costs(graph, "step", spot_dataset.rows[:100])}
    for operator, us in costs.items():
        assert us == sum(2 * index + 1 for index, node in enumerate(nodes) if node.op_type == operator)
    assert sum(costs.values()) == len(nodes) ** 2
