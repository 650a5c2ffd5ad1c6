"""`inference.manifest`: what is refused, and that the message says where, what came and what is allowed."""

import json
from typing import Any

import msgspec
import pytest

from inference.manifest import GraphFile, Manifest, encode_manifest, parse_manifest, validate_manifest
from lob.errors import ArtifactError


@pytest.fixture
def document(exported: Any) -> dict[str, Any]:
    manifest = msgspec.structs.replace(
        exported.manifest, graphs={"step": GraphFile(file="step.onnx", sha256="ab" * 32)}
    )
    return json.loads(encode_manifest(manifest))


def refusal(document: object) -> str:
    with pytest.raises(ArtifactError) as caught:
        parse_manifest(json.dumps(document).encode(), "some/manifest.json")
    message = str(caught.value)
    assert message.startswith("some/manifest.json: ")
    assert "\n" not in message
    return message.removeprefix("some/manifest.json: ")


def test_reads_back_what_it_wrote(exported: Any) -> None:
    text = encode_manifest(exported.manifest)
    assert parse_manifest(text, "m") == exported.manifest
    assert text.endswith(b"}\n")


def test_field_order_starts_with_the_format_version(exported: Any) -> None:
    assert list(json.loads(encode_manifest(exported.manifest)))[:3] == ["format_version", "name", "version"]


@pytest.mark.parametrize(
    ("field", "value", "parts"),
    [
        ("window_length", 0, ["window_length", "0 came", ">= 2"]),
        ("window_length", 1_000_000, ["window_length", "1000000 came", "<= 10000"]),
        ("warmup_rows", -1, ["warmup_rows", "-1 came", ">= 1"]),
        ("warmup_rows", "many", ["warmup_rows", "'many' came", "int"]),
        ("sampling", "hourly", ["sampling", "'hourly' came", "every_message or top_changed is allowed"]),
        ("context", "both", ["context", "'both' came", "stream or window is allowed"]),
        ("horizons", [50, 10, 100], ["horizons", "[50, 10, 100] came", "ascending"]),
        ("horizons", [10, 10, 100], ["horizons", "[10, 10, 100] came", "ascending"]),
        ("horizons", [], ["horizons", "[] came", ">= 1"]),
        ("horizons", [0, 1, 2], ["horizons[0]", "0 came", ">= 1"]),
        (
            "classes",
            ["up", "flat", "down"],
            ["classes", "['up', 'flat', 'down'] came", "['down', 'flat', 'up']"],
        ),
        ("temperatures", [1.0, 1.0], ["temperatures", "2 came", "one per horizon (3)"]),
        ("temperatures", [1.0, 0.0, 1.0], ["temperatures[1]", "0.0 came", "> 0"]),
        ("temperatures", [1.0, None, 1.0], ["temperatures[1]", "None came", "float"]),
        ("name", "../secret", ["name", "'../secret' came"]),
        ("name", "tiny\n", ["name", "'tiny\\n' came"]),
        ("format_version", 2, ["format_version", "2 came", "this program reads 1"]),
        ("surprise", 1, ["unknown field `surprise`"]),
        ("state", [{"name": "s", "shape": []}], ["state[0].shape", "[] came"]),
        ("state", [{"name": "s", "shape": [1, 0]}], ["state[0].shape[1]", "0 came", ">= 1"]),
        ("state", [{"name": "s", "shape": [1]}] * 2, ["state", "['s', 's'] came", "once"]),
        ("training", None, ["training", "None came", "object"]),
        ("graphs", {"step": {"file": "../x.onnx", "sha256": "ab" * 32}}, ["graphs", "file", "../x.onnx"]),
        ("graphs", {"step": {"file": "/x.onnx", "sha256": "ab" * 32}}, ["graphs", "file", "/x.onnx"]),
        ("graphs", {"step": {"file": "x.onnx", "sha256": "AB"}}, ["graphs", "sha256", "AB"]),
        (
            "graphs",
            {"fused": {"file": "x.onnx", "sha256": "ab" * 32}},
            ["graphs", "step or window is allowed"],
        ),
    ],
)
def test_names_field_what_came_and_what_is_allowed(
    document: dict[str, Any], field: str, value: object, parts: list[str]
) -> None:
    document[field] = value
    message = refusal(document)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("field", ["name", "schema", "horizons", "temperatures", "state", "training"])
def test_a_missing_field_is_named(document: dict[str, Any], field: str) -> None:
    del document[field]
    assert f"missing required field `{field}`" in refusal(document)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^m: "):
        parse_manifest(text, "m")


def test_a_long_value_is_shortened_in_the_message(document: dict[str, Any]) -> None:
    document["name"] = "x" * 5000
    assert len(refusal(document)) < 300


def test_validate_refuses_what_python_let_through(exported: Any) -> None:
    wrong = msgspec.structs.replace(exported.manifest, temperatures=(1.0, float("nan"), 1.0))
    with pytest.raises(ArtifactError, match=r"temperatures\[1\]"):
        validate_manifest(wrong, "given")
    with pytest.raises(ArtifactError, match="cannot be written as JSON"):
        validate_manifest(msgspec.structs.replace(exported.manifest, metrics={"a": object()}), "given")


def test_contradictions_are_refused_in_python_too(exported: Any) -> None:
    with pytest.raises(ValueError, match="one per horizon"):
        msgspec.structs.replace(exported.manifest, temperatures=(1.0,))


def test_a_manifest_is_immutable(exported: Any) -> None:
    manifest: Manifest = exported.manifest
    with pytest.raises(AttributeError):
        manifest.name = "other"  # type: ignore[misc]  # the refusal is the point
