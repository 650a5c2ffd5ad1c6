"""A capture is proven whole, or each fault of it is named."""

import json
import os
import shutil
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner

from inference.folder_lock import folder_lock
from lob.captures import InstrumentHint, RecordingWriter
from lob.captures.index import index_path, read_index, write_index
from lob.captures.inspection import inspect_capture
from lob.captures.layout import recording_path
from lob.captures.rotation import RotatingWriter, RotationPolicy
from lob.errors import CaptureError, InputError
from lob.instrument import Instrument
from lob.rows import RowPath
from lob.venues import make_decoder
from mambalob import main
from serve.verification import FileReport, verify_captures

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")
START_NS = 1_700_000_001_000_000_000


def record(folder: Path, frames: list[bytes], *, close: bool = True) -> list[Path]:
    """`frames` 20 ms apart in files of three seconds each."""
    writer = RotatingWriter(
        RowPath(make_decoder("bybit"), INSTRUMENT, depth=50),
        depth=50,
        name_file=lambda receive_ns: recording_path(folder, receive_ns),
        created_ns=START_NS,
        policy=RotationPolicy(every_s=3, file_bytes=None),
    )
    for number, frame in enumerate(frames):
        writer.record(START_NS + number * 20_000_000, frame)
    if close:
        writer.close()
    else:
        writer.abandon()
    return sorted(folder.glob("*.zst"))


def verify(*paths: Path) -> list[FileReport]:
    return verify_captures(paths)


def lines_of(path: Path) -> list[bytes]:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()).splitlines()


def rewrite(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(zstandard.compress(b"\n".join(lines) + b"\n"))


@pytest.fixture
def files(tmp_path: Path, market_frames: list[bytes]) -> list[Path]:
    """A recording of four whole files."""
    return record(tmp_path, market_frames)


def test_a_whole_recording(files: list[Path], tmp_path: Path, market_frames: list[bytes]) -> None:
    reports = verify(tmp_path)
    assert [report.path for report in reports] == list(map(str, files))
    assert len(files) == 4
    for report, path in zip(reports, files, strict=True):
        assert (report.faults, report.breaks, report.notes) == ((), (), ())
        assert report.index == read_index(path)
        assert report.is_whole(allow_gaps=False)
    assert sum(report.index.frames for report in reports) == len(market_frames)
    assert verify(files[2])[0].faults == ()


def test_a_byte_that_changed(files: list[Path]) -> None:
    content = bytearray(files[1].read_bytes())
    content[len(content) // 2] ^= 1
    files[1].write_bytes(content)
    (report,) = verify(files[1])
    assert any("sha256" in fault for fault in report.faults)
    assert not report.is_whole(allow_gaps=True)


def test_a_file_that_was_cut(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:-30])
    (report,) = verify(files[1])
    assert "the file was cut" in report.faults[0]
    assert "sha256" in report.faults[1]


def test_a_line_that_is_no_json(files: list[Path]) -> None:
    lines = lines_of(files[1])
    lines[20] = lines[20][:50]
    rewrite(files[1], lines)
    (report,) = verify(files[1])
    assert "line 21: expected a recorded frame" in report.faults[0]


def test_an_index_that_is_wrong_missing_or_unreadable(files: list[Path]) -> None:
    text = index_path(files[0]).read_text()
    index_path(files[0]).write_text(text.replace('"gaps": 0', '"gaps": 3'))
    index_path(files[1]).unlink()
    index_path(files[2]).write_text("{")
    reports = verify(*files[:3])
    assert reports[0].faults == ("gaps: 0 counted, the index says 3",)
    assert reports[1].faults == ("it has no index beside it",)
    assert "no index of a capture" in reports[2].faults[0]


def test_lost_books_are_listed(tmp_path: Path, market_frames: list[bytes]) -> None:
    crossed = json.loads(market_frames[80])
    crossed["data"]["b"] = [["900000.00", "1"]]
    spoiled = [*market_frames[:40], *market_frames[41:60], market_frames[0], *market_frames[1:80]]
    spoiled += [json.dumps(crossed).encode(), b'{"topic":"orderb', *market_frames[82:90]]
    (path,) = record(tmp_path, spoiled[:150])
    (report,) = verify(path)
    updates = [json.loads(frame)["data"]["u"] for frame in market_frames]
    assert report.faults == ()
    assert report.breaks == (
        f"gap at frame 41: update {updates[40]} is missing",
        f"crossed at frame 140: update {updates[80]} after {updates[79]}",
        "not json at frame 141: unreadable",
    )
    assert report.is_whole(allow_gaps=True)
    assert not report.is_whole(allow_gaps=False)


def test_a_file_of_the_middle_that_is_missing(files: list[Path], tmp_path: Path) -> None:
    files[2].unlink()
    reports = verify(tmp_path)
    missing = (
        f"part 2 is missing of its recording, between {files[1].name} (part 1) and this file (part 3): "
        f"updates {read_index(files[1]).last_update_id + 1} to {read_index(files[3]).checkpoint_update_id} "
        "are missing"
    )
    assert reports[2].faults == (missing,)
    assert [len(report.faults) for report in reports] == [0, 0, 1]


def test_a_file_that_lost_its_end_before_the_next(files: list[Path], tmp_path: Path) -> None:
    rewrite(files[1], lines_of(files[1])[:-3])
    index_path(files[1]).unlink()
    reports = verify(tmp_path)
    checkpoint = read_index(files[2]).checkpoint_update_id
    assert reports[2].faults == (
        f"it goes on from update {checkpoint}, and {files[1].name} before it ends with update "
        f"{checkpoint - 3}: updates {checkpoint - 2} to {checkpoint} are missing",
    )


def test_recordings_one_after_another_need_not_continue(tmp_path: Path, market_frames: list[bytes]) -> None:
    record(tmp_path, market_frames[:100])
    record(tmp_path, market_frames[:100])  # the same second: a number in the name
    assert [report.is_whole(allow_gaps=False) for report in verify(tmp_path)] == [True, True]


def test_a_part_is_a_fault_unless_a_recorder_is_at_it(tmp_path: Path, market_frames: list[bytes]) -> None:
    record(tmp_path, market_frames[:100], close=False)
    (report,) = verify(tmp_path)
    assert "it was never closed: its recorder was killed" in report.faults[0]
    with folder_lock(tmp_path):
        assert verify(tmp_path) == []
        assert len(verify(next(tmp_path.glob("*.part")))) == 1  # named itself, it is told about


def test_the_command_names_the_faults_and_ends_with_1(files: list[Path], tmp_path: Path) -> None:
    run = CliRunner().invoke
    whole = run(main, ["record", "--verify", str(tmp_path)])
    assert whole.exit_code == 0, whole.output
    assert len(whole.stdout.splitlines()) == len(files)
    assert f"{files[0]}: whole, " in whole.stdout
    files[1].write_bytes(files[1].read_bytes()[:-30])
    faulty = run(main, ["record", "--verify", str(tmp_path), "--json"])
    assert faulty.exit_code == 1
    assert [bool(json.loads(line)["faults"]) for line in faulty.stdout.splitlines()][1]
    assert "captures not whole; what is wrong stands above" in faulty.stderr
    missing = run(main, ["record", "--verify", str(tmp_path / "missing")])
    assert missing.exit_code == 1
    assert "no such file" in missing.stderr


def test_the_command_closes_what_was_left_where_asked(tmp_path: Path, market_frames: list[bytes]) -> None:
    record(tmp_path, market_frames[:100], close=False)
    run = CliRunner().invoke
    assert run(main, ["record", "--verify", str(tmp_path)]).exit_code == 1
    closed = run(main, ["record", "--verify", "--salvage", str(tmp_path)])
    assert closed.exit_code == 0, closed.output
    assert "closed, as its recorder was killed" in closed.stderr
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--verify"], "--verify needs a CAPTURE"),
        (["some.zst"], "go with --verify"),
        (["--symbol", "BTCUSDT"], "one of --out FILE and --into DIR is needed"),
        (["--symbol", "BTCUSDT", "--out", "a", "--into", "b"], "one of --out FILE and --into DIR is needed"),
        (["--out", "a"], "--symbol is needed to record"),
    ],
)
def test_arguments_that_do_not_fit(arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(main, ["record", *arguments])
    assert result.exit_code == 2
    assert expected in result.stderr


def test_a_folder_that_is_held_is_not_held_twice(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path),
        pytest.raises(InputError, match="another process like this one is at work there"),
        folder_lock(tmp_path),
    ):
        pass
    with folder_lock(tmp_path), folder_lock(tmp_path, ".another"):
        pass


def test_captures_of_others_are_verified_without_an_index(data_dir: Path) -> None:
    (zipped,) = verify(data_dir / "bybit/linear_xrpusdt_ob500_nautilus/xrpusdt-ob500.data.zip")
    assert (zipped.faults, zipped.breaks) == ((), ())
    assert zipped.notes == ("it has no index to hold its bytes against",)
    assert zipped.index.snapshots == 1
    with pytest.raises(CaptureError, match="no such file"):
        verify(data_dir / "none")


def without_books(files: list[Path], folder: Path) -> list[Path]:
    """The frames of a recording's files as plain lines, the first file alone beginning with a book."""
    copies = []
    for number, path in enumerate(files):
        copies.append(folder / f"day-{number}.ndjson")
        lines = [json.loads(line)["frame"] for line in lines_of(path)[1:]]
        copies[-1].write_text("\n".join(lines) + "\n")
    return copies


def test_a_file_without_a_book_is_judged_after_the_one_before_it(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    days = without_books(files, folder)
    reports = verify(folder)
    assert [report.faults + report.breaks for report in reports] == [()] * 4
    for before, report in zip(days, reports[1:], strict=False):
        assert (
            f"it begins without a book and continues {before.name}, after which it was read" in report.notes
        )
    assert reports[2].index.first_update_id == reports[1].index.last_update_id + 1
    (alone,) = verify(days[2])
    first = reports[2].index.first_update_id
    assert any(
        f"from update {first} on, are not checked; they need the file before" in n for n in alone.notes
    )
    days[1].unlink()
    missing = verify(folder)
    last = reports[0].index.last_update_id
    assert missing[1].faults == (
        f"it begins without a book at update {first}, and day-0.ndjson before it ends with update {last}: "
        f"updates {last + 1} to {first - 1} are missing, a file between the two perhaps",
    )
    assert not missing[1].is_whole(allow_gaps=True)


def test_a_gap_at_a_later_place_of_a_file_without_a_book_is_told(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    days = without_books(files, folder)
    lines = days[1].read_text().splitlines(keepends=True)
    days[1].write_text("".join(lines[:50] + lines[52:]))
    lost = json.loads(lines[50])["data"]["u"]
    reports = verify(folder)
    assert reports[1].breaks == (f"gap at frame 51: updates {lost} to {lost + 1} are missing",)
    assert any("its 150 changes" in note for note in reports[2].notes)


def test_a_stated_book_that_is_not_the_one_before(files: list[Path], tmp_path: Path) -> None:
    lines = lines_of(files[2])
    header = json.loads(lines[0])
    checkpoint = json.loads(header["checkpoint"]["frame"])
    checkpoint["data"]["b"][3][1] = "123.456"
    header["checkpoint"]["frame"] = json.dumps(checkpoint)
    rewrite(files[2], [json.dumps(header).encode(), *lines[1:]])
    index_path(files[2]).unlink()
    assert verify(tmp_path)[2].faults[-1] == (
        f"the book that it says it begins with, at update {checkpoint['data']['u']}, is not the one that "
        f"{files[1].name} ends with"
    )


def test_a_recording_without_a_book_is_not_whole(tmp_path: Path, market_frames: list[bytes]) -> None:
    first, last = (json.loads(market_frames[place])["data"]["u"] for place in (1, 9))
    (path,) = record(tmp_path, market_frames[1:10])
    (report,) = verify(path)
    assert (report.faults, report.notes) == ((), ())
    assert report.breaks == (f"no snapshot came; its 9 changes, from update {first} on, are not checked",)
    assert (report.index.holds_book, report.index.waiting, last) == (False, 9, first + 8)
    assert not report.is_whole(allow_gaps=False)
    assert report.is_whole(allow_gaps=True)
    result = CliRunner().invoke(main, ["record", "--verify", str(path)])
    assert result.exit_code == 1
    assert f"{path}: NOT WHOLE, 9 frames" in result.stdout
    assert "  lost book: no snapshot came; its 9 changes" in result.stdout


@pytest.mark.parametrize("said", [[], [b'{"op":"pong"}']], ids=["nothing", "an answer"])
def test_a_file_that_holds_nothing_of_the_market_is_not_whole(tmp_path: Path, said: list[bytes]) -> None:
    path = tmp_path / "a.jsonl.zst"  # as an older version of the recorder left it
    hint = InstrumentHint(symbol="BTCUSDT", tick_size="0.10")
    with RecordingWriter(path, venue="bybit", instruments=[hint], created_ns=START_NS) as writer:
        for frame in said:
            writer.write(START_NS, frame)
    write_index(path, inspect_capture(path, INSTRUMENT).index)
    (report,) = verify(path)
    assert report.faults == ("it holds nothing of the market",)
    assert report.breaks == ()
    assert not report.is_whole(allow_gaps=True)


def test_files_of_a_recording_that_are_not_here(files: list[Path], tmp_path: Path) -> None:
    files[0].unlink()
    files[1].unlink()
    reports = verify(tmp_path)
    assert reports[0].faults == ()
    assert "it is part 2 of its recording, of which parts 0 to 1 are not here" in reports[0].notes
    (tmp_path / "2999.jsonl.zst").write_bytes(files[2].read_bytes())
    assert verify(tmp_path)[2].faults[-1] == (
        f"it is part 2 of its recording and comes by its name after {files[3].name}, which is part 3: "
        "renamed, or there twice"
    )


def test_an_index_without_end_is_not_read(files: list[Path]) -> None:
    index_path(files[0]).write_text("[" * (5 << 20))
    assert "no index of a capture (more than 4,194,304 bytes)" in verify(files[0])[0].faults[0]
    index_path(files[0]).write_text("[" * 1_000_000)
    assert "no index of a capture" in verify(files[0])[0].faults[0]


def test_days_of_a_real_capture_without_a_snapshot_continue(data_dir: Path) -> None:
    days = [data_dir / f"binance/cm_ethusd_perp_{day}.gz" for day in ("20240808", "20240809")]
    first, second = verify(*days)
    assert (first.faults, first.breaks, second.faults, second.breaks) == ((), (), (), ())
    assert second.index.snapshots == 0
    assert second.index.changes > 10_000
    assert second.index.gaps == 0


def test_names_of_odd_characters_forge_no_line_and_break_nothing(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b"a\nb.jsonl.zst: whole\x1b[31m.jsonl.zst", b"\xff\xfe.jsonl.zst", "ü €.jsonl.zst".encode()]
    for name in names:
        shutil.copy(files[0], folder / os.fsdecode(name))
    run = CliRunner().invoke
    told = run(main, ["record", "--verify", str(folder)])
    assert told.exit_code == 1
    assert all(line.startswith((str(folder), "  ")) for line in told.stdout.splitlines())
    assert "\x1b" not in told.stdout
    assert f"{folder}/\\udcff\\udcfe.jsonl.zst: NOT WHOLE" in told.stdout
    assert f"{folder}/ü €.jsonl.zst: NOT WHOLE" in told.stdout
    as_json = run(main, ["record", "--verify", "--json", str(folder)])
    assert len([json.loads(line) for line in as_json.stdout.splitlines()]) == 3
    for number, name in enumerate(names):
        built = run(main, ["build", str(folder / os.fsdecode(name)), "--out", str(tmp_path / f"d{number}")])
        assert built.exit_code == 0, built.output
        replayed = run(main, ["replay", str(folder / os.fsdecode(name)), "--emit", "book", "--json"])
        assert replayed.exit_code == 0, replayed.output
    refused = run(main, ["build", str(files[0]), "--out", str(tmp_path / os.fsdecode(b"\xff"))])
    assert refused.exit_code == 1
    assert "printable text is allowed; give it with --name" in refused.stderr
