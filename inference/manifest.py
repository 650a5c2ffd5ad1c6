"""The manifest of a trained artifact: what a model is, what it was fed, and which graphs hold it.

A manifest is a contract between training and serving. Reading one refuses whatever is missing, unknown or out
of range; whether it fits the files beside it and this program's schema is `inference.artifact`'s question.
"""

import re
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from inference.precision import GraphPrecision, Precision
from lob.errors import ArtifactError
from lob.schema import Sampling

FORMAT_VERSION = 1

CLASSES = ("down", "flat", "up")

GraphKind = Literal["step", "window"]
Context = Literal["stream", "window"]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]*\Z", max_length=64)]
Version = Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]*\Z", max_length=32)]
Label = Annotated[str, Meta(min_length=1, max_length=64)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
GraphFileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.onnx\Z", max_length=128)]
TensorName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z", max_length=64)]
Dimension = Annotated[int, Meta(ge=1, le=1 << 20)]
Count = Annotated[int, Meta(ge=0)]
PositiveCount = Annotated[int, Meta(ge=1)]
Temperature = Annotated[float, Meta(gt=0, le=1000)]


class ManifestPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a manifest: immutable, its fields named, unknown ones refused."""


class Architecture(ManifestPart, frozen=True, kw_only=True):
    """The model's sizes; whatever else its configuration holds goes into `details`."""

    family: Label
    block: Label
    size: Label
    layers: PositiveCount
    width: PositiveCount
    state_size: Count
    expand: PositiveCount
    parameters: PositiveCount
    details: dict[str, Any] = {}


class SchemaReference(ManifestPart, frozen=True, kw_only=True):
    """The feature schema a model was trained on."""

    name: Label
    version: PositiveCount
    hash: Sha256


class StateTensor(ManifestPart, frozen=True, kw_only=True):
    """One state tensor of the step graph; its input is `<name>_in`, its output `<name>_out`, both float32."""

    name: TensorName
    shape: Annotated[tuple[Dimension, ...], Meta(min_length=1, max_length=8)]


class TrainingFile(ManifestPart, frozen=True, kw_only=True):
    """One capture a model was trained on: its span in nanoseconds since the epoch and its sampled rows."""

    name: Label
    sha256: Sha256
    first_ns: Count
    last_ns: Count
    rows: Count


class TrainingData(ManifestPart, frozen=True, kw_only=True):
    """What a model was trained on, for how many seconds; anything else goes into `details`."""

    files: tuple[TrainingFile, ...]
    rows: Count
    seconds: Annotated[float, Meta(ge=0)]
    seed: int
    details: dict[str, Any] = {}


class GraphFile(ManifestPart, frozen=True, kw_only=True):
    """An ONNX file beside the manifest."""

    file: GraphFileName
    sha256: Sha256
    precision: GraphPrecision = "float32"


class AccuracyCost(ManifestPart, frozen=True, kw_only=True):
    """What a number format costs an engine on one stream's held-out part at one horizon, against float32.

    The scores are those in `precision`; `*_rise` and `*_loss` are how much worse than the same engine's in
    float32, negative where they are better. `changed_directions` is the share of rows whose likeliest class
    is another, `probability_difference` the largest of all rows and classes.
    """

    engine: Label
    precision: Precision
    stream: Label
    horizon: PositiveCount
    rows: PositiveCount
    log_loss: float
    log_loss_rise: float
    calibration_error: float
    calibration_error_rise: float
    macro_f1: float
    macro_f1_loss: float
    changed_directions: Annotated[float, Meta(ge=0, le=1)]
    probability_difference: Annotated[float, Meta(ge=0, le=1)]


class RecordedAnswers(ManifestPart, frozen=True, kw_only=True):
    """What the float32 graphs answered to made-up rows when the model was written.

    `mean` and `scale` (F,) say around what the rows are made up; `logits` (H, C) were the answers after each
    number of `rows` (`inference.recorded_answers`).
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    rows: tuple[PositiveCount, ...]
    logits: tuple[tuple[tuple[float, ...], ...], ...]


class Manifest(ManifestPart, frozen=True, kw_only=True):
    """Everything that must fit before a model may serve.

    `window_length` is L, `warmup_rows` how many rows a stream engine takes before its first answer,
    `horizons` (H) are counted in rows, `temperatures` (H) divide the logits. `graphs` are those exported, in
    float32, `reduced_graphs` the same in shorter numbers; `write_artifact` fills both in. `accuracy_costs`
    are those of the number formats that were measured, `recorded_answers` what graphs are held to where they
    are opened; `write_artifact` records them.
    """

    format_version: Annotated[int, Meta(ge=1)] = FORMAT_VERSION
    name: Name
    version: Version
    architecture: Architecture
    schema: SchemaReference
    sampling: Sampling
    context: Context
    window_length: Annotated[int, Meta(ge=2, le=10_000)]
    warmup_rows: Annotated[int, Meta(ge=1, le=10_000)]
    horizons: Annotated[tuple[PositiveCount, ...], Meta(min_length=1, max_length=16)]
    classes: tuple[str, ...] = CLASSES
    state: Annotated[tuple[StateTensor, ...], Meta(max_length=256)]
    temperatures: Annotated[tuple[Temperature, ...], Meta(min_length=1, max_length=16)]
    training: TrainingData
    metrics: dict[str, Any] = {}
    graphs: dict[GraphKind, GraphFile] = {}
    reduced_graphs: dict[GraphKind, tuple[GraphFile, ...]] = {}
    accuracy_costs: tuple[AccuracyCost, ...] = ()
    recorded_answers: RecordedAnswers | None = None
    libraries: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Refuse fields that contradict each other (ValueError; a ValidationError while decoding)."""
        if list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError(f"horizons: {list(self.horizons)} came, strictly ascending numbers are allowed")
        if len(self.temperatures) != len(self.horizons):
            raise ValueError(
                f"temperatures: {len(self.temperatures)} came, "
                f"one per horizon ({len(self.horizons)}) is allowed"
            )
        if self.classes != CLASSES:
            raise ValueError(f"classes: {list(self.classes)} came, {list(CLASSES)} in this order is allowed")
        names = [tensor.name for tensor in self.state]
        if len(set(names)) != len(names):
            raise ValueError(f"state: the names {names} came, each may stand once")
        self._check_graphs()
        self._check_answers()

    def _check_answers(self) -> None:
        recorded = self.recorded_answers
        if recorded is None:
            return
        if len(recorded.rows) != len(recorded.logits) or len(set(recorded.rows)) != len(recorded.rows):
            raise ValueError(
                f"recorded_answers: rows {list(recorded.rows)} and {len(recorded.logits)} logits came, "
                "each row once and logits for each are allowed"
            )

    def _check_graphs(self) -> None:
        for kind, graph in self.graphs.items():
            if graph.precision != "float32":
                raise ValueError(
                    f"graphs.{kind}.precision: {graph.precision!r} came, 'float32' is allowed; "
                    "others stand under reduced_graphs"
                )
        for kind, reduced in self.reduced_graphs.items():
            precisions = [graph.precision for graph in reduced]
            if kind not in self.graphs:
                raise ValueError(f"reduced_graphs.{kind}: came without a float32 graph under graphs.{kind}")
            if "float32" in precisions or len(set(precisions)) != len(precisions):
                raise ValueError(
                    f"reduced_graphs.{kind}: the precisions {precisions} came, "
                    "each but float32 is allowed once"
                )
        files = [graph.file for _, graph in self.all_graphs()]
        if len(set(files)) != len(files):
            raise ValueError(f"graphs: the files {files} came, each may stand once")

    def all_graphs(self) -> list[tuple[GraphKind, GraphFile]]:
        """Every graph with its kind: those exported, then the reduced ones."""
        reduced = [(kind, graph) for kind, graphs in self.reduced_graphs.items() for graph in graphs]
        return [*self.graphs.items(), *reduced]

    def graph(self, kind: GraphKind, precision: str = "float32") -> GraphFile | None:
        """The `kind` graph in that number format; None where the model has none."""
        fitting = (graph for own, graph in self.all_graphs() if own == kind and graph.precision == precision)
        return next(fitting, None)


def parse_manifest(text: bytes, source: str) -> Manifest:
    """The manifest in JSON `text`; ArtifactError names source, field, what came, what is allowed."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{source}: not JSON: {error}") from error
    came = document.get("format_version") if isinstance(document, dict) else None
    if came != FORMAT_VERSION:
        raise ArtifactError(f"{source}: format_version: {came!r} came, this program reads {FORMAT_VERSION}")
    return _convert(document, source)


def validate_manifest(manifest: Manifest, source: str) -> Manifest:
    """`manifest` as it would be read back from its own JSON; raises ArtifactError like `parse_manifest`."""
    try:
        text = encode_manifest(manifest)
    except (TypeError, ValueError, msgspec.EncodeError) as error:
        raise ArtifactError(f"{source}: cannot be written as JSON: {error}") from error
    return parse_manifest(text, source)


def encode_manifest(manifest: Manifest) -> bytes:
    """Indented JSON, fields in the order of the class, ending with a newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _convert(document: object, source: str) -> Manifest:
    try:
        return msgspec.convert(document, Manifest)
    except msgspec.ValidationError as error:
        message = str(error)
        place = re.search(r" - at (?:`key` in )?`\$(\S*)`\Z", message)
        reason, path = (message[: place.start()], place.group(1)) if place else (message, "")
        if not path:
            raise ArtifactError(f"{source}: {reason}") from error
        choices = _CHOICES.get(re.split(r"[.\[]", path)[-1]) if "enum" in reason else None
        allowed = f", {' or '.join(choices)} is allowed" if choices else ""
        raise ArtifactError(
            f"{source}: {path.lstrip('.')}: {reason} ({_at(document, path)} came{allowed})"
        ) from error


_CHOICES = {
    "graphs": get_args(GraphKind),
    "sampling": get_args(Sampling),
    "context": get_args(Context),
    "precision": get_args(GraphPrecision),
}


def _at(document: object, path: str) -> str:
    """The value at msgspec's `path` (".state[0].shape"), shortened for a message."""
    value: Any = document
    for key, index in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", path):
        if index == "...":
            break
        try:
            value = value[int(index)] if index else value[key]
        except (KeyError, IndexError, TypeError):
            return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
