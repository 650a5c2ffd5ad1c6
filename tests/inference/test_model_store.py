"""`inference.model_store` on a real file system: versions appear, count, and go, whole or not at all."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inference.artifact import Artifact, load_artifact, verify_artifact
from inference.folder_lock import folder_lock
from inference.model_store import LOCK_FILE, ModelStore
from inference.registry import ActiveVersion, active_version, known_models, load_model, load_named
from lob.errors import ArtifactError


@pytest.fixture
def store(sources: dict[str, Path], tmp_path: Path) -> ModelStore:
    """A directory in which versions 1 and 2 of `tiny` are installed, 1 active."""
    store = ModelStore(tmp_path / "models")
    for version in "12":
        store.install(sources[version])
    return store


def active(store: ModelStore) -> tuple[str, str | None]:
    found = active_version(store.directory, "tiny")
    assert found is not None
    return found.version, found.previous


def test_the_first_version_is_active_and_others_are_asked_for_by_version(store: ModelStore) -> None:
    assert load_model("tiny", store.directory).manifest.version == "1"
    assert load_model("tiny@2", store.directory).manifest.version == "2"
    assert load_model("tiny@2", store.directory).card() == "# tiny 2\n"
    known = {name: path for name, path in known_models(store.directory).items() if name.startswith("tiny")}
    assert known == {
        "tiny": store.directory / "tiny" / "1",
        "tiny@2": store.directory / "tiny" / "2",
    }


def test_activation_moves_the_bare_name_and_rollback_moves_it_back(store: ModelStore) -> None:
    assert store.activate("tiny", "2") == ActiveVersion(version="2", previous="1")
    assert load_model("tiny", store.directory).manifest.version == "2"
    assert store.activate("tiny", "2") == ActiveVersion(version="2", previous="1")  # changes nothing
    assert store.rollback("tiny") == ActiveVersion(version="1", previous="2")
    assert store.rollback("tiny") == ActiveVersion(version="2", previous="1")


def test_installing_may_activate_at_once(store: ModelStore, sources: dict[str, Path]) -> None:
    assert store.install(sources["3"], activate=True).active
    assert active(store) == ("3", "1")


def test_a_model_comes_with_its_reduced_graphs(reduced_artifact: Artifact, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    installed = store.install(reduced_artifact.directory).artifact
    assert verify_artifact(installed) == verify_artifact(reduced_artifact)
    assert len(installed.manifest.all_graphs()) == 6


def test_there_is_nothing_to_roll_back_to_before_the_first_activation(store: ModelStore) -> None:
    with pytest.raises(ArtifactError, match="no version was active before"):
        store.rollback("tiny")


def test_a_version_never_changes(store: ModelStore, sources: dict[str, Path]) -> None:
    with pytest.raises(ArtifactError, match="is there already"):
        store.install(sources["1"])


def test_the_active_version_is_not_removed_and_the_one_before_is_forgotten(store: ModelStore) -> None:
    store.activate("tiny", "2")
    with pytest.raises(ArtifactError, match="stands for this version"):
        store.remove("tiny", "2")
    store.remove("tiny", "1")
    assert active(store) == ("2", None)
    assert sorted(path.name for path in (store.directory / "tiny").iterdir()) == ["2", "active.json"]
    with pytest.raises(ArtifactError, match="version '1' came, 2 is there"):
        store.activate("tiny", "1")


def test_a_spoilt_source_is_not_installed_and_leaves_nothing(
    store: ModelStore, sources: dict[str, Path], tmp_path: Path
) -> None:
    spoilt = Path(shutil.copytree(sources["3"], tmp_path / "spoilt"))
    with (spoilt / "step.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff\xff")
    with pytest.raises(ArtifactError, match="sha256"):
        store.install(spoilt)
    assert sorted(path.name for path in (store.directory / "tiny").iterdir()) == ["1", "2", "active.json"]


def test_a_version_spoilt_in_its_place_is_not_activated(store: ModelStore) -> None:
    (store.directory / "tiny" / "2" / "step.onnx").write_bytes(b"garbage")
    with pytest.raises(ArtifactError, match="sha256"):
        store.activate("tiny", "2")
    assert active(store) == ("1", None)


def test_a_version_in_anothers_place_is_refused(store: ModelStore) -> None:
    shutil.copytree(store.directory / "tiny" / "2", store.directory / "tiny" / "9")
    with pytest.raises(ArtifactError, match="its manifest says tiny@2, its place tiny@9"):
        store.activate("tiny", "9")
    with pytest.raises(ArtifactError, match="version: '2' came, the directory's name '9' is allowed"):
        load_model("tiny@9", store.directory)


def test_links_that_lead_out_of_the_artifact_are_not_installed(
    store: ModelStore, sources: dict[str, Path], tmp_path: Path
) -> None:
    linked = Path(shutil.copytree(sources["3"], tmp_path / "linked"))
    (linked / "step.onnx").unlink()
    (linked / "step.onnx").symlink_to(sources["3"] / "step.onnx")
    with pytest.raises(ArtifactError, match="leads outside the artifact"):
        store.install(linked)


@pytest.mark.parametrize("content", [b"", b"no JSON", b'{"version":"../../1"}', b'{"version":"7"}'])
def test_a_spoilt_choice_is_named_and_written_anew(store: ModelStore, content: bytes) -> None:
    (store.directory / "tiny" / "active.json").write_bytes(content)
    with pytest.raises(ArtifactError):
        load_model("tiny", store.directory)
    assert {"tiny@1", "tiny@2"} <= set(known_models(store.directory))
    store.activate("tiny", "2")
    assert load_model("tiny", store.directory).manifest.version == "2"


def test_an_artifact_that_is_no_directory_of_versions_stays_as_it_is(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(sources["1"], tmp_path / "tiny")
    with pytest.raises(ArtifactError, match="is an artifact itself"):
        ModelStore(tmp_path).install(sources["2"])
    assert load_model("tiny@1", tmp_path).directory == tmp_path / "tiny"
    with pytest.raises(ArtifactError, match="'tiny@2' came"):
        load_model("tiny@2", tmp_path)


@pytest.mark.parametrize("name", ["../tiny", "tiny@../2", "tiny@", "Tiny", "", "tiny/1"])
def test_a_name_never_leads_out_of_the_directory(store: ModelStore, name: str) -> None:
    with pytest.raises(ArtifactError, match="came; allowed: NAME"):
        load_named(name, store.directory)


def test_a_path_is_offered_only_where_one_is_taken(store: ModelStore) -> None:
    with pytest.raises(ArtifactError, match="or a path to an artifact's directory"):
        load_model("huge", store.directory)
    with pytest.raises(ArtifactError, match="'huge' came, known in") as caught:
        load_named("huge", store.directory)
    assert "or a path" not in str(caught.value)


def test_two_commands_do_not_change_a_directory_at_once(store: ModelStore) -> None:
    with folder_lock(store.directory, LOCK_FILE), pytest.raises(ArtifactError, match="one at a time"):
        store.activate("tiny", "2")


KILLED_AT_EVERY_STEP = """
import json, os, pathlib, sys
from inference.model_store import ModelStore

directory, source, then = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]


def dies_at(step):
    left = [step]

    def before(call):
        def counted(*arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                os._exit(137)
            return call(*arguments, **named)
        return counted

    os.fsync, os.mkdir, os.rename, os.replace, os.unlink, os.rmdir = map(
        before, (os.fsync, os.mkdir, os.rename, os.replace, os.unlink, os.rmdir)
    )
    store = ModelStore(directory)
    if then == "install":
        store.install(source, activate=True)
    else:
        store.remove("tiny", "2")


for step in range(100):
    child = os.fork()
    if child == 0:
        dies_at(step)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps({"step": step, "code": code}), flush=True)
    sys.stdin.readline()
    if code == 0:
        break
"""


@pytest.mark.parametrize("then", ["install", "remove"])
def test_a_command_killed_at_any_step_leaves_a_directory_that_can_be_used(
    store: ModelStore, sources: dict[str, Path], then: str
) -> None:
    if sys.platform == "win32":
        pytest.skip("needs fork")
    kills = 0
    script = [sys.executable, "-c", KILLED_AT_EVERY_STEP, str(store.directory), str(sources["3"]), then]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            code = json.loads(line)["code"]
            kills += code == 137
            assert code in (0, 137)
            listed = known_models(store.directory)
            for name in listed:
                if name.startswith("tiny"):
                    verify_artifact(load_model(name, store.directory))
            version, _ = active(store)
            assert load_model("tiny", store.directory).manifest.version == version
            if then == "install" and code == 137 and (store.directory / "tiny" / "3").exists():
                store.activate("tiny", "1")  # whoever goes on finds it installed, and begins again
                store.remove("tiny", "3")
            elif then == "remove" and code == 137 and not (store.directory / "tiny" / "2").exists():
                store.install(load_artifact(sources["2"]).directory)
            child.stdin.write("\n")
            child.stdin.flush()
    assert child.returncode == 0
    assert kills >= 4
    left = {path.name for path in (store.directory / "tiny").iterdir()}
    assert left == ({"1", "2", "3", "active.json"} if then == "install" else {"1", "active.json"})
