"""A model that one process made ready is taken by another: the same answers, and nothing that was altered."""

from pathlib import Path

import msgspec
import pytest

from inference.artifact import Artifact
from inference.engines.engine import Description
from inference.engines.fused import FusedEngine
from inference.pipeline import Pipeline
from inference.preparation import Preparation, PreparationRequest, prepare, take
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


def through_json(preparation: Preparation) -> Preparation:
    return msgspec.json.decode(msgspec.json.encode(preparation), type=Preparation)


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
    reduced_artifact: Artifact, tmp_path: Path, engine: str, precision: str
) -> None:
    asked = request(reduced_artifact, engine=engine, precision=precision)
    preparation = through_json(prepare(asked, tmp_path / "packed"))
    artifact = preparation.artifact
    rows = rows_of(artifact)
    taken = Pipeline(rows, take(preparation, rows.window), artifact)
    own = Pipeline.create(reduced_artifact, REHEARSED_INSTRUMENT, engine=engine, precision=precision)
    expected = answers(own)
    assert len(expected) > FRAMES // 2
    assert answers(taken) == expected
    assert without_pages(taken.engine.describe()) == without_pages(own.engine.describe())
    assert preparation.description["precision"] == precision


def test_the_artifact_is_the_same_without_the_records_of_its_training(
    artifact: Artifact, tmp_path: Path
) -> None:
    came = through_json(prepare(request(artifact), tmp_path / "packed")).artifact
    assert (came.sha256, came.directory, came.schema) == (
        artifact.sha256,
        artifact.directory,
        artifact.schema,
    )
    assert came.manifest.recorded_answers is None
    own = artifact.manifest
    for name in ("name", "version", "graphs", "horizons", "temperatures", "warmup_rows", "window_length"):
        assert getattr(came.manifest, name) == getattr(own, name)


def test_why_another_engine_serves_is_handed_on(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.engines.fused.TOLERANCES", {"float32": -1.0})
    preparation = prepare(request(artifact), tmp_path / "packed")
    assert preparation.packed is None
    engine = take(through_json(preparation), rows_of(artifact).window)
    assert engine.name == "ort-step"
    assert "at most -1 is allowed" in str(engine.describe()["fused_refused"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "that are not the"),
        (lambda content: content[:-4], "that are not the"),
        (None, "cannot be read: No such file"),
    ],
)
def test_packed_weights_that_were_altered_are_refused(
    artifact: Artifact, tmp_path: Path, spoil: object, said: str
) -> None:
    path = tmp_path / "packed"
    preparation = prepare(request(artifact), path)
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ArtifactError, match=said):
        take(preparation, rows_of(artifact).window)


def test_a_model_that_cannot_serve_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "packed"
    with pytest.raises(ArtifactError, match="absent"):
        prepare(request(artifact, model="absent"), path)
    with pytest.raises(InputError, match="precision: 'float16' came"):
        prepare(request(artifact, precision="float16"), path)
    assert not path.exists()


def test_packed_weights_begin_on_a_page(artifact: Artifact, tmp_path: Path) -> None:
    engine = take(prepare(request(artifact), tmp_path / "packed"), rows_of(artifact).window)
    assert isinstance(engine, FusedEngine)
    assert engine.packed().words.ctypes.data % 4096 == 0
