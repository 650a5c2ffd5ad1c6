"""Finding models by name and by path."""

import shutil
from pathlib import Path

import pytest

from inference.registry import MODELS_VARIABLE, known_models, load_model, shipped_models
from lob.errors import ArtifactError


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)


def test_what_ships_is_in_the_package() -> None:
    assert shipped_models().name == "zoo"
    assert (shipped_models().parent / "__init__.py").is_file()
    assert {path.parent for path in known_models().values()} == {shipped_models()}


def test_finds_a_name_in_a_directory_of_ones_own(models_dir: Path) -> None:
    assert load_model("tiny", models_dir).directory == models_dir / "tiny"


def test_finds_a_name_through_the_variable(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(models_dir))
    assert load_model("tiny-window").name == "tiny-window"
    assert {"tiny", "tiny-window"} <= set(known_models())


def test_the_option_counts_before_the_variable(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    assert load_model("tiny", models_dir).name == "tiny"


def test_takes_a_path(models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_model(str(models_dir / "tiny")).name == "tiny"
    shutil.copytree(models_dir / "tiny", tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert load_model("./tiny").name == "tiny"


def test_an_unknown_model_lists_the_known_ones(models_dir: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        load_model("huge", models_dir)
    message = str(caught.value)
    for part in ("'huge' came", str(models_dir), "tiny, tiny-window", "path"):
        assert part in message


def test_a_bare_name_never_takes_the_working_directory_but_says_how(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models_dir / "tiny", tmp_path / "local")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"write \./local"):
        load_model("local")


def test_a_directory_must_be_named_as_its_model(models_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "tiny", tmp_path / "other")
    with pytest.raises(ArtifactError, match="name: 'tiny' came, the directory's name 'other' is allowed"):
        load_model("other", tmp_path)


def test_what_is_being_written_is_not_listed(models_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "tiny", tmp_path / ".tiny.0123abcd")
    (tmp_path / "notes").mkdir()
    assert not {".tiny.0123abcd", "notes"} & set(known_models(tmp_path))


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_missing_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    if by_variable:
        monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(ArtifactError, match=MODELS_VARIABLE if by_variable else "--models-dir"):
        known_models(None if by_variable else tmp_path / "absent")
