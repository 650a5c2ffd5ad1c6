"""What models in the shadow say: on the disk as whole lines, bounded there and in memory."""

import asyncio
import json
from pathlib import Path

import pytest

from lob.errors import InputError
from serve.shadow_log import ShadowLog, ShadowLogConfig


def put(log: ShadowLog, prediction, numbers: range) -> None:
    for number in numbers:
        log.put(prediction(update_id=number), prediction(update_id=number, mid=1.0))


def updates(path: Path) -> list[int]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(record["shadow"]["update_id"] == record["published"]["update_id"] for record in records)
    return [record["published"]["update_id"] for record in records]


def test_records_are_lines_in_order(tmp_path, prediction) -> None:
    log = ShadowLog(ShadowLogConfig(directory=tmp_path / "new" / "folder"))
    put(log, prediction, range(5))
    log.write_waiting()
    put(log, prediction, range(5, 8))
    log.write_waiting()
    assert updates(tmp_path / "new" / "folder" / "shadow.jsonl") == list(range(8))
    assert (log.written, log.dropped) == (8, 0)


def test_files_rotate_and_the_oldest_go(tmp_path, prediction) -> None:
    log = ShadowLog(ShadowLogConfig(directory=tmp_path, file_bytes=2_000, files=3))
    put(log, prediction, range(100))
    log.write_waiting()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shadow.1.jsonl",
        "shadow.2.jsonl",
        "shadow.jsonl",
    ]
    assert all(path.stat().st_size <= 2_000 for path in tmp_path.iterdir())
    names = ("shadow.2.jsonl", "shadow.1.jsonl", "shadow.jsonl")
    kept = [number for name in names for number in updates(tmp_path / name)]
    assert kept == list(range(100 - len(kept), 100))
    assert log.written == 100


@pytest.mark.parametrize("files", [1, 2])
def test_few_files_are_bounded_too(tmp_path, prediction, files) -> None:
    log = ShadowLog(ShadowLogConfig(directory=tmp_path, file_bytes=1, files=files))
    put(log, prediction, range(4))  # each record is longer than a file may be: one a file
    log.write_waiting()
    assert len(list(tmp_path.iterdir())) == files
    assert updates(tmp_path / "shadow.jsonl") == [3]


def test_what_finds_no_room_is_dropped_and_counted(tmp_path, prediction) -> None:
    log = ShadowLog(ShadowLogConfig(directory=tmp_path, waiting=10))
    put(log, prediction, range(25))
    log.write_waiting()
    assert (log.written, log.dropped) == (10, 15)


def test_a_disk_that_refuses_loses_records_and_nothing_else(tmp_path, prediction) -> None:
    log = ShadowLog(ShadowLogConfig(directory=tmp_path / "folder"))
    (tmp_path / "folder").rmdir()
    put(log, prediction, range(3))
    log.write_waiting()
    assert (log.written, log.dropped) == (0, 3)
    (tmp_path / "folder").mkdir()
    put(log, prediction, range(3, 5))
    log.write_waiting()
    assert updates(tmp_path / "folder" / "shadow.jsonl") == [3, 4]


def test_no_folder_keeps_nothing(prediction) -> None:
    log = ShadowLog(None)
    put(log, prediction, range(3))
    assert (log.written, log.dropped) == (0, 0)


@pytest.mark.parametrize("field", ["file_bytes", "files", "waiting", "interval_s"])
def test_bounds_are_above_zero(tmp_path, field) -> None:
    with pytest.raises(InputError, match=f"{field}: 0 came"):
        ShadowLogConfig(directory=tmp_path, **{field: 0})


@pytest.mark.anyio
async def test_what_waits_at_the_end_is_written(tmp_path, prediction) -> None:
    log = ShadowLog(ShadowLogConfig(directory=tmp_path, interval_s=60))
    task = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    put(log, prediction, range(3))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert updates(tmp_path / "shadow.jsonl") == [0, 1, 2]
