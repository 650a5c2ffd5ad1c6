"""`inference.artifact`: writing whole or not at all, and every misfit refused by name."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from inference import artifact as module
from inference.artifact import Artifact, load_artifact, verify_artifact, write_artifact
from inference.engines.ort_session import open_graph
from inference.manifest import GraphKind, SchemaReference
from inference.precision import GraphPrecision
from lob.errors import ArtifactError
from lob.schema import LOB44

WriteVariant = Callable[..., Path]
Reduced = dict[tuple[GraphKind, GraphPrecision], bytes]


@pytest.fixture
def variant(models_dir: Path, tmp_path: Path) -> Path:
    """A copy of `tiny`, to be spoilt."""
    return Path(shutil.copytree(models_dir / "tiny", tmp_path / "tiny"))


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def put_graph(directory: Path, kind: str, model: onnx.ModelProto) -> None:
    """Replace a graph and make its checksum right, so that only the graph itself is wrong."""
    content = model.SerializeToString()
    (directory / f"{kind}.onnx").write_bytes(content)
    edit(
        directory,
        lambda document: document["graphs"][kind].update(sha256=hashlib.sha256(content).hexdigest()),
    )


def refusal(directory: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        verify_artifact(load_artifact(directory))
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestLoading:
    def test_answers_all_of_it(self, artifact: Artifact, exported: Any) -> None:
        assert artifact.name == "tiny"
        assert artifact.schema is LOB44
        assert artifact.card() == "# tiny\n"
        assert (artifact.directory / "step.onnx").read_bytes() == exported.graphs["step"]
        assert (artifact.directory / "window.onnx").read_bytes() == exported.graphs["window"]
        manifest = (artifact.directory / "manifest.json").read_bytes()
        assert artifact.sha256 == hashlib.sha256(manifest).hexdigest()
        bare = msgspec.structs.replace(artifact.manifest, graphs={}, recorded_answers=None)
        assert bare == exported.manifest
        assert verify_artifact(artifact).keys() == {("step", "float32"), ("window", "float32")}

    def test_no_directory(self, tmp_path: Path) -> None:
        assert "not a directory" in refusal(tmp_path / "absent")

    def test_no_manifest(self, tmp_path: Path) -> None:
        assert "manifest.json: cannot be read: No such file" in refusal(tmp_path)

    def test_an_endless_manifest_is_not_read(self, variant: Path) -> None:
        (variant / "manifest.json").write_bytes(b" " * (module.MAXIMUM_MANIFEST_BYTES + 1))
        assert f"more than {module.MAXIMUM_MANIFEST_BYTES} bytes" in refusal(variant)

    def test_a_flipped_bit_in_a_graph(self, variant: Path) -> None:
        path = variant / "step.onnx"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        message = refusal(variant)
        assert "graphs.step.sha256" in message
        assert hashlib.sha256(content).hexdigest() in message

    def test_a_missing_graph(self, variant: Path) -> None:
        (variant / "window.onnx").unlink()
        assert "graphs.window.file: no such file" in refusal(variant)

    def test_a_graph_that_may_not_be_read(self, variant: Path) -> None:
        (variant / "window.onnx").chmod(0)
        if os.access(variant / "window.onnx", os.R_OK):
            pytest.skip("whoever runs this may read everything")
        assert "graphs.window.file: cannot be read: Permission denied" in refusal(variant)

    def test_a_graph_beyond_the_allowed_size(self, variant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAXIMUM_GRAPH_BYTES", 1000)
        assert "at most 1000 are allowed" in refusal(variant)

    def test_a_graph_outside_the_directory(self, variant: Path, tmp_path: Path) -> None:
        (variant / "step.onnx").rename(tmp_path / "elsewhere.onnx")
        (variant / "step.onnx").symlink_to(tmp_path / "elsewhere.onnx")
        assert "leads outside the artifact" in refusal(variant)

    def test_a_link_that_stays_inside_is_fine(self, variant: Path) -> None:
        (variant / "step.onnx").rename(variant / "data.onnx")
        (variant / "step.onnx").symlink_to("data.onnx")
        assert ("step", "float32") in verify_artifact(load_artifact(variant))

    @pytest.mark.parametrize(("field", "value"), [("name", "lob999"), ("version", 2), ("hash", "00" * 32)])
    def test_another_schema(self, variant: Path, field: str, value: object) -> None:
        edit(variant, lambda document: document["schema"].update({field: value}))
        message = refusal(variant)
        assert f"schema.{field}" in message
        assert repr(value) in message

    def test_no_graphs(self, variant: Path) -> None:
        edit(variant, lambda document: document.update(graphs={}))
        assert "graphs: none came, step, window or both are allowed" in refusal(variant)

    @pytest.mark.parametrize(("context", "needed"), [("stream", "step"), ("window", "window")])
    def test_the_context_needs_its_graph(self, variant: Path, context: str, needed: str) -> None:
        def change(document: dict[str, Any]) -> None:
            document["context"] = context
            del document["graphs"][needed]

        edit(variant, change)
        assert f"context '{context}' needs '{needed}'" in refusal(variant)


class TestGraphs:
    def test_another_models_graph(self, variant: Path, models_dir: Path) -> None:
        put_graph(variant, "step", onnx.load(models_dir / "tiny-window" / "step.onnx"))
        message = refusal(variant)
        assert "metadata mambalob.model: 'tiny-window' came, 'tiny' is allowed" in message

    def test_a_missing_state_input(self, variant: Path) -> None:
        edit(variant, lambda document: document["state"].pop())
        message = refusal(variant)
        assert (
            "step.onnx: inputs: ['conv_0_in', 'row', 'scan_0_in'] came, ['conv_0_in', 'row'] are" in message
        )

    def test_a_state_of_another_shape(self, variant: Path) -> None:
        edit(variant, lambda document: document["state"][0].update(shape=[1, 4, 4]))
        message = refusal(variant)
        assert "input conv_0_in: shape [1, 3," in message
        assert "[1, 4, 4] is allowed" in message

    def test_another_number_of_horizons(self, variant: Path) -> None:
        def change(document: dict[str, Any]) -> None:
            document["horizons"] = [10, 50]
            document["temperatures"] = [1.0, 1.0]

        edit(variant, change)
        assert "output logits: shape [1, 3, 3] came, [1, 2, 3] is allowed" in refusal(variant)

    def test_another_element_type(self, variant: Path) -> None:
        model = onnx.load(variant / "step.onnx")
        double = helper.make_tensor_value_info("row", TensorProto.DOUBLE, [1, 44])
        model.graph.node.insert(0, helper.make_node("Cast", ["row"], ["row_float"], to=TensorProto.FLOAT))
        for node in model.graph.node[1:]:
            node.input[:] = ["row_float" if name == "row" else name for name in node.input]
        model.graph.input[0].CopyFrom(double)
        put_graph(variant, "step", model)
        assert "input row: type tensor(double) came, tensor(float) is allowed" in refusal(variant)

    def test_an_operator_onnxruntime_does_not_know(self, variant: Path) -> None:
        model = onnx.load(variant / "step.onnx")
        model.graph.node[0].op_type = "Divination"
        put_graph(variant, "step", model)
        message = refusal(variant)
        assert "onnxruntime" in message
        assert "Divination" in message

    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            (b"logits", b"logit{", "refuses it"),  # onnxruntime's message ends with a line break
            (b"mambalob.sampling", b"mambalob.sampl\xe2ng", "is no text"),
            (b"logits", b"logit\xf4", "refuses it"),  # onnxruntime prints such an error, left to itself
        ],
    )
    def test_names_that_are_spoilt(
        self, variant: Path, capsys: pytest.CaptureFixture[str], before: bytes, after: bytes, message: str
    ) -> None:
        content = (variant / "step.onnx").read_bytes()
        assert before in content
        content = after.join(content.rsplit(before, 1))
        (variant / "step.onnx").write_bytes(content)
        edit(variant, lambda d: d["graphs"]["step"].update(sha256=hashlib.sha256(content).hexdigest()))
        assert re.search(message, refusal(variant))
        assert capsys.readouterr().out == ""

    def test_weights_in_another_file(self, variant: Path) -> None:
        model = onnx.load(variant / "step.onnx")
        onnx.save(
            model,
            variant / "step.onnx",
            save_as_external_data=True,
            size_threshold=64,
            location="weights.bin",
        )
        put_graph(variant, "step", onnx.load(variant / "step.onnx", load_external_data=False))
        assert "values in another file came" in refusal(variant)

    def test_a_graph_changed_after_loading(self, variant: Path) -> None:
        loaded = load_artifact(variant)
        (variant / "step.onnx").write_bytes(b"other")
        with pytest.raises(ArtifactError, match="altered after the artifact was loaded"):
            open_graph(variant, "step", loaded.manifest, LOB44.feature_count)


class TestWriting:
    def test_checksums_are_filled_in(self, artifact: Artifact, exported: Any) -> None:
        assert artifact.manifest.graphs.keys() == {"step", "window"}
        for kind, graph in artifact.manifest.graphs.items():
            assert graph.sha256 == hashlib.sha256(exported.graphs[kind]).hexdigest()
            assert graph.precision == "float32"

    def test_reduced_graphs_stand_beside_the_exported_ones(self, exported: Any, tmp_path: Path) -> None:
        reduced: Reduced = {("step", "int8"): exported.graphs["step"]}
        written = write_artifact(tmp_path / "a", exported.manifest, exported.graphs, card="", reduced=reduced)
        assert {graph.precision for graph in written.manifest.graphs.values()} == {"float32"}
        assert written.manifest.graph("step", "int8").file == "step.int8.onnx"
        assert written.manifest.graph("window", "int8") is None
        assert verify_artifact(written).keys() == {
            ("step", "float32"),
            ("window", "float32"),
            ("step", "int8"),
        }
        opened = open_graph(written.directory, "step", written.manifest, 44, precision="int8")
        assert opened.precision == "int8"
        with pytest.raises(ArtifactError, match="no 'window' graph in int8; step in float32, window in"):
            open_graph(written.directory, "window", written.manifest, 44, precision="int8")

    def test_a_reduced_graph_that_was_altered_is_refused(self, exported: Any, tmp_path: Path) -> None:
        reduced: Reduced = {("step", "int8"): exported.graphs["step"]}
        write_artifact(tmp_path / "a", exported.manifest, exported.graphs, card="", reduced=reduced)
        path = tmp_path / "a" / "step.int8.onnx"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"reduced_graphs\.step in int8\.sha256: the file has"):
            load_artifact(tmp_path / "a")

    def test_a_reduced_graph_with_nothing_to_reduce_is_refused(self, exported: Any, tmp_path: Path) -> None:
        step: dict[GraphKind, bytes] = {"step": exported.graphs["step"]}
        refused: tuple[tuple[Reduced, str], ...] = (
            ({("window", "int8"): exported.graphs["window"]}, "came without a float32 graph"),
            ({("step", "float32"): exported.graphs["step"]}, "each but float32 is allowed once"),
        )
        for reduced, said in refused:
            with pytest.raises(ArtifactError, match=said):
                write_artifact(tmp_path / "a", exported.manifest, step, card="", reduced=reduced)

    def test_refuses_to_overwrite_unless_told(self, exported: Any, tmp_path: Path) -> None:
        write_artifact(tmp_path / "a", exported.manifest, exported.graphs, card="first")
        with pytest.raises(ArtifactError, match="exists already"):
            write_artifact(tmp_path / "a", exported.manifest, exported.graphs, card="second")
        assert load_artifact(tmp_path / "a").card() == "first"
        write_artifact(tmp_path / "a", exported.manifest, exported.graphs, card="third", replace=True)
        assert load_artifact(tmp_path / "a").card() == "third"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_never_replaces_what_is_no_artifact(self, exported: Any, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "thesis.txt").write_text("years of work")
        with pytest.raises(ArtifactError, match="is no artifact"):
            write_artifact(tmp_path / "a", exported.manifest, exported.graphs, card="", replace=True)
        assert (tmp_path / "a" / "thesis.txt").read_text() == "years of work"

    @pytest.mark.parametrize("fault", ["graph", "schema", "temperatures", "metadata"])
    def test_what_would_not_load_is_not_written(self, exported: Any, tmp_path: Path, fault: str) -> None:
        manifest, graphs = exported.manifest, dict(exported.graphs)
        if fault == "graph":
            graphs["step"] = graphs["step"][:-100]
        elif fault == "schema":
            manifest = msgspec.structs.replace(
                manifest, schema=SchemaReference(name="lob44", version=1, hash="00" * 32)
            )
        elif fault == "temperatures":
            manifest = msgspec.structs.replace(manifest, temperatures=(1.0, 1.0, -1.0))
        else:
            manifest = msgspec.structs.replace(manifest, name="other")
        with pytest.raises(ArtifactError):
            write_artifact(tmp_path / "a", manifest, graphs, card="")
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_replacement_keeps_the_old_one(self, exported: Any, tmp_path: Path) -> None:
        write_artifact(tmp_path / "a", exported.manifest, exported.graphs, card="first")
        broken = {**exported.graphs, "window": b"garbage"}
        with pytest.raises(ArtifactError):
            write_artifact(tmp_path / "a", exported.manifest, broken, card="second", replace=True)
        assert load_artifact(tmp_path / "a").card() == "first"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_one_graph_is_enough(self, exported: Any, tmp_path: Path) -> None:
        step: dict[GraphKind, bytes] = {"step": exported.graphs["step"]}
        written = write_artifact(tmp_path / "a", exported.manifest, step, card="")
        assert set(written.manifest.graphs) == {"step"}
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
            "CARD.md",
            "manifest.json",
            "step.onnx",
        ]
