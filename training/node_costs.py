"""What each kind of node costs a call of an exported graph, by subtraction.

The graph is cut after its first node, its second, and so on, and all cuts are timed in turns; a node costs
what its cut takes longer than the one before. The sum over all nodes is what the whole takes. onnxruntime's
own profile is no use here: writing down a node takes some 6 us, ten times as long as most nodes.
"""

import dataclasses
import gc
from collections import Counter
from collections.abc import Callable
from time import perf_counter_ns

import numpy as np
import onnx

from inference.engines.ort_session import new_session
from inference.engines.prepared_run import prepared_run
from inference.graph_interface import ROW, WINDOW
from inference.manifest import GraphKind
from training.graph_names import read_names
from training.parity import Floats

ROUNDS = 21
TURN_NS = 400_000  # a cut's turn is calls until so much is spent
UNDISTURBED = 0.1
"""The quantile that counts: other work on the machine lengthens calls, nothing shortens them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeCost:
    """The nodes of one operator and what they take of a call, all together."""

    operator: str
    nodes: int
    us: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Cut:
    """A prepared call of a graph's first nodes, and the memory it works on, which it does not keep alive."""

    run: Callable[[], None]
    memory: tuple[dict[str, Floats], dict[str, Floats]]


def node_costs(graph: bytes, kind: GraphKind, rows: Floats) -> tuple[NodeCost, ...]:
    """The cost of each operator in the `kind` graph, the dearest first; `rows` (L, F) are a window.

    A node whose answer is not float32 counts with the one after it. What other work on the machine adds
    to one cut it takes from the next, so that a cheap operator may come out below 0 where it is busy. Raises
    ArtifactError where onnxruntime refuses the graph.
    """
    model = onnx.load_from_string(graph)
    operators = [node.op_type for node in model.graph.node]
    cuts = {index: _cut_after(model, index, kind, rows) for index in range(len(operators))}
    counts, spent, before = Counter(operators), dict.fromkeys(operators, 0.0), 0.0
    for index, us in _calls_us({index: cut for index, cut in cuts.items() if cut is not None}).items():
        spent[operators[index]] += us - before
        before = us
    return tuple(
        NodeCost(operator=operator, nodes=counts[operator], us=spent[operator])
        for operator in sorted(counts, key=lambda operator: -spent[operator])
    )


def _cut_after(model: onnx.ModelProto, index: int, kind: GraphKind, rows: Floats) -> _Cut | None:
    """The nodes up to number `index`; None where that one's answer is not float32."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    del graph.node[index + 1 :]
    read = read_names(graph)
    written = {name for node in graph.node for name in node.output}
    answer = next(name for name in reversed(graph.node[index].output) if name)
    outputs = [output for output in graph.output if output.name in written]
    if all(output.name != answer for output in outputs):
        outputs.append(onnx.helper.make_empty_tensor_value_info(answer))
    for field, kept in (
        (graph.output, outputs),
        (graph.input, [each for each in graph.input if each.name in read]),
        (graph.initializer, [each for each in graph.initializer if each.name in read]),
    ):
        del field[:]
        field.extend(kept)
    session = new_session(cut.SerializeToString(), kind, f"the {kind} graph up to node {index}")
    given = {ROW: rows[-1:], WINDOW: rows[None]}
    inputs = {
        each.name: np.ascontiguousarray(given[each.name], np.float32)
        if each.name in given
        else np.zeros(each.shape, np.float32)
        for each in session.get_inputs()
    }
    names = [each.name for each in session.get_outputs()]
    found = dict(zip(names, session.run(names, inputs), strict=True))
    if any(value.dtype != np.float32 for value in found.values()):
        return None
    answers = {name: np.array(value, order="C") for name, value in found.items()}
    return _Cut(run=prepared_run(session, inputs, answers), memory=(inputs, answers))


def _calls_us(cuts: dict[int, _Cut]) -> dict[int, float]:
    """What a call of each cut takes undisturbed; taken in turns with the garbage collector off."""
    taken: dict[int, list[int]] = {index: [] for index in cuts}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for index, cut in cuts.items():
                cut.run()  # brings its weights into the caches
                spent = 0
                while spent < TURN_NS:
                    started = perf_counter_ns()
                    cut.run()
                    taken[index].append(perf_counter_ns() - started)
                    spent += taken[index][-1]
    finally:
        if enabled:
            gc.enable()
    return {index: float(np.quantile(calls, UNDISTURBED)) / 1e3 for index, calls in taken.items()}
