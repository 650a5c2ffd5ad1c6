"""Output that appears whole or not at all."""

from pathlib import Path

import pytest

from inference.output_file import open_output
from lob.errors import InputError


def test_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with open_output(str(target)) as stream:
        stream.write(b"line\n")
        assert not target.exists()
    assert target.read_bytes() == b"line\n"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("existing", [True, False])
def test_after_an_exception_all_is_as_before(tmp_path: Path, existing: bool) -> None:
    target = tmp_path / "out"
    if existing:
        target.write_bytes(b"before")

    def interrupted() -> None:
        with open_output(str(target)) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([b"before"] if existing else [])


def test_what_is_no_regular_file_is_written_to_and_stays(tmp_path: Path) -> None:
    with open_output("/dev/null") as stream:
        stream.write(b"gone")
    assert not Path("/dev/null").is_file()
    with pytest.raises(InputError, match=r"out: .* cannot be written"), open_output(str(tmp_path)):
        pass


def test_a_full_disk_is_told() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(InputError, match="No space left"), open_output(str(full)) as stream:
        stream.write(b"x" * 100_000)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory"), open_output(str(tmp_path / "a" / "b")):
        pass


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_output("-") as stream:
        stream.write(b"line\n")
    assert capfdbinary.readouterr().out == b"line\n"
