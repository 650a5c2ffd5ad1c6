"""Names aside: new each time, hidden, and known again."""

from pathlib import Path

import pytest

from lob.name_aside import name_aside, original_name


def test_a_name_aside_is_new_hidden_and_beside() -> None:
    path = Path("folder") / "model.onnx"
    first, second = name_aside(path), name_aside(path)
    assert first != second
    assert (first.parent, first.name[0]) == (path.parent, ".")
    assert original_name(first) == original_name(second) == "model.onnx"


@pytest.mark.parametrize(
    "name", ["model.onnx", ".hidden", ".model.0123456", "model.01234567", ".x.01234567.y"]
)
def test_any_other_name_is_none(name: str) -> None:
    assert original_name(Path("folder") / name) is None


def test_a_name_aside_of_a_name_aside_is_of_that() -> None:
    aside = name_aside(Path("a"))
    assert original_name(name_aside(aside)) == aside.name
