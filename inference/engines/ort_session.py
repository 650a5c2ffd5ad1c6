"""Opening an onnxruntime session for one symbol's ticks: one thread, no spinning, checked before use."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime as ort

from inference.engines.engine import Description
from inference.engines.state_in_place import states_in_place
from inference.graph_interface import (
    check_arguments,
    check_metadata,
    graph_inputs,
    graph_metadata,
    graph_outputs,
)
from inference.manifest import GraphKind, Manifest
from inference.onnx_file import summarize_graph
from inference.onnx_weights import read_nodes
from inference.recorded_answers import check_answers
from lob.errors import ArtifactError

Session: TypeAlias = ort.InferenceSession

_FATAL = 4  # failures come back as exceptions; a second copy on stderr helps nobody


@dataclass(frozen=True, kw_only=True)
class OpenedGraph:
    """A session that fits its manifest, with the node count of its file.

    `in_place`: the state tensors that may be written where they are read.
    """

    session: Session
    kind: GraphKind
    precision: str
    nodes: int
    in_place: frozenset[str]


def session_options(kind: GraphKind) -> ort.SessionOptions:
    """Options for a call that takes microseconds: the caller's thread does all the work, in order.

    The memory of a run is planned once as one block (`enable_mem_pattern`; without it a step of the
    428k-parameter SSD model took 73 us, with it 68). A step graph does not reuse parts of that block within a
    run: 64 us, and the block stays small; for a window of 100 rows reuse made no difference in time and keeps
    it small. The arena made no difference either way and stays on. (Medians on one 2-core machine; ratios are
    what carries over.)
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_profiling = False
    options.enable_mem_pattern = True
    options.enable_mem_reuse = kind == "window"
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def open_graph(
    directory: Path, kind: GraphKind, manifest: Manifest, features: int, *, precision: str = "float32"
) -> OpenedGraph:
    """A session for the `kind` graph in `directory`, held against `manifest` and F = `features`.

    The file is read once, so what was checked is what runs. Raises ArtifactError where the manifest names no
    such graph or another checksum, where onnxruntime refuses the graph, where it keeps weights in other
    files, where inputs, outputs or metadata do not fit, or it does not answer what the manifest recorded.
    """
    model, source = read_graph(directory, kind, manifest, precision)
    summary = summarize_graph(model, source)
    if summary.external_tensors:
        raise ArtifactError(
            f"{source}: tensor {summary.external_tensors[0]}: values in another file came, "
            "only values inside the graph file are allowed"
        )
    session = new_session(model, kind, source)
    try:
        check_arguments(source, "input", session.get_inputs(), graph_inputs(manifest, kind, features))
        check_arguments(source, "output", session.get_outputs(), graph_outputs(manifest, kind))
        check_metadata(source, session.get_modelmeta().custom_metadata_map, graph_metadata(manifest))
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{source}: a name or its metadata is no text: {error}") from error
    check_answers(session, kind, manifest, precision, source)
    nodes = read_nodes(model, source)
    hidden = len(nodes) != summary.nodes  # in subgraphs or functions, which may read a state as well
    states = () if hidden else tuple(tensor.name for tensor in manifest.state)
    return OpenedGraph(
        session=session,
        kind=kind,
        precision=precision,
        nodes=summary.nodes,
        in_place=states_in_place(nodes, states),
    )


def new_session(model: bytes, kind: GraphKind, source: str) -> Session:
    """A session for the bytes of a graph, unchecked; raises ArtifactError where onnxruntime refuses them."""
    try:
        return Session(
            model,
            session_options(kind),
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # with it a refusal is printed on standard output, then tried once more
        )
    except Exception as error:  # onnxruntime's own errors share no base class but Exception
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{source}: onnxruntime {ort.__version__} refuses it: {reason}") from error


def read_graph(
    directory: Path, kind: GraphKind, manifest: Manifest, precision: str = "float32"
) -> tuple[bytes, str]:
    """The bytes of the `kind` graph, held against the manifest's checksum, and its path for messages.

    Raises ArtifactError where the manifest names no such graph, it cannot be read, or was altered.
    """
    graph = manifest.graph(kind, precision)
    if graph is None:
        came = [f"{own} in {each.precision}" for own, each in manifest.all_graphs()]
        raise ArtifactError(
            f"{directory}: graphs: no {kind!r} graph in {precision}; {', '.join(came)} came with the model"
        )
    path = directory / graph.file
    source = str(path)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{source}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(model).hexdigest() != graph.sha256:
        raise ArtifactError(f"{source}: sha256: the file was altered after the artifact was loaded")
    return model, source


def describe_graph(engine: str, opened: OpenedGraph, manifest: Manifest) -> Description:
    """What an engine that runs `opened` says about itself.

    `context` is how this engine serves, `trained_context` how the model was trained and its accuracy
    measured.
    """
    return {
        "model": manifest.name,
        "version": manifest.version,
        "engine": engine,
        "graph": opened.kind,
        "precision": opened.precision,
        "context": "stream" if opened.kind == "step" else "window",
        "trained_context": manifest.context,
        "graph_nodes": opened.nodes,
        "parameters": manifest.architecture.parameters,
        "threads": 1,
        "onnxruntime": ort.__version__,
        "numpy": np.__version__,
    }
