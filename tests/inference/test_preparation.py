"""A model that one process made ready is taken by another: the same answers, and nothing that was altered."""

import msgspec
import pytest

from inference.artifact import Artifact
from inference.engines.engine import Description
from inference.fused.packed_model import PackedModel
from inference.pipeline import Pipeline
from inference.preparation import Preparation, PreparationRequest, Words, prepare, take
from inference.rehearsal import REHEARSED_INSTRUMENT, made_up_frames
from lob.errors import ArtifactError, InputError
from lob.rows import RowPath
from lob.venues import make_decoder

FRAMES = 60


def request(artifact: Artifact, **changes: object) -> PreparationRequest:
    asked = PreparationRequest(
        model=artifact.name,
        models_dir=str(artifact.directory.parent),
        engine="auto",
        precision="float32",
        venue="bybit",
        depth=50,
    )
    return msgspec.structs.replace(asked, **changes)


def rows_of(artifact: Artifact) -> RowPath:
    length = artifact.manifest.window_length
    return RowPath(make_decoder("bybit"), REHEARSED_INSTRUMENT, window_length=length, depth=50)


def handed_over(preparation: Preparation, packed: PackedModel | None) -> tuple[Preparation, Words]:
    """As one that came through a pipe."""
    came = msgspec.json.decode(msgspec.json.encode(preparation), type=Preparation)
    room = came.room()
    if packed is not None:
        room[:] = packed.words
    return came, room


def answers(pipeline: Pipeline) -> list[list[list[float]]]:
    pipeline.on_connected()
    frames = zip(range(FRAMES), made_up_frames(), strict=False)
    made = (pipeline.on_frame(frame, number) for number, frame in frames)
    return [[horizon.probabilities for horizon in one.horizons] for one in made if one is not None]


def without_pages(description: Description) -> dict[str, str | int]:
    return {key: value for key, value in description.items() if key != "pages"}


@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("auto", "float32"),
        ("fused", "int8"),
        ("fused", "bfloat16"),
        ("ort-step", "float32"),
        ("ort-step", "float16"),
        ("ort-window", "int8"),
    ],
)
def test_what_is_taken_answers_as_what_was_prepared_bit_for_bit(
    reduced_artifact: Artifact, engine: str, precision: str
) -> None:
    asked = request(reduced_artifact, engine=engine, precision=precision)
    preparation, words = handed_over(*prepare(asked))
    artifact = preparation.artifact
    rows = rows_of(artifact)
    taken = Pipeline(rows, take(preparation, words, rows.window), artifact)
    own = Pipeline.create(reduced_artifact, REHEARSED_INSTRUMENT, engine=engine, precision=precision)
    expected = answers(own)
    assert len(expected) > FRAMES // 2
    assert answers(taken) == expected
    assert without_pages(taken.engine.describe()) == without_pages(own.engine.describe())
    assert preparation.description["precision"] == precision


def test_the_artifact_is_the_same_without_the_records_of_its_training(artifact: Artifact) -> None:
    came = handed_over(*prepare(request(artifact)))[0].artifact
    assert (came.sha256, came.directory, came.schema) == (
        artifact.sha256,
        artifact.directory,
        artifact.schema,
    )
    assert came.manifest.recorded_answers is None
    own = artifact.manifest
    for name in ("name", "version", "graphs", "horizons", "temperatures", "warmup_rows", "window_length"):
        assert getattr(came.manifest, name) == getattr(own, name)


def test_why_another_engine_serves_is_handed_on(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.engines.fused.TOLERANCES", {"float32": -1.0})
    preparation, words = handed_over(*prepare(request(artifact)))
    assert preparation.sizes is None
    assert words.size == 0
    engine = take(preparation, words, rows_of(artifact).window)
    assert engine.name == "ort-step"
    assert "at most -1 is allowed" in str(engine.describe()["fused_refused"])


def test_a_model_that_cannot_serve_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="absent"):
        prepare(request(artifact, model="absent"))
    with pytest.raises(InputError, match="precision: 'float16' came"):
        prepare(request(artifact, precision="float16"))


def test_packed_weights_are_read_to_where_a_page_begins(artifact: Artifact) -> None:
    preparation, packed = prepare(request(artifact))
    room = preparation.room()
    assert packed is not None
    assert room.size == preparation.word_count == packed.words.size > 0
    assert room.ctypes.data % 4096 == 0
