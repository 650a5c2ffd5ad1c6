"""The archive's days over real HTTP, from a server that fails in every way the test asks it to."""

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lob.captures.index import index_path, read_index
from lob.errors import CaptureError, InputError
from mambalob import main
from serve.archive import ArchiveDay, FetchedDay, check_base_url, days_between, fetch_days, likely_depths
from serve.reconnect import ReconnectPolicy
from serve.resumable_download import DownloadPolicy
from serve.verification import verify_captures

DAY = date(2024, 12, 1)
PATH = "/orderbook/linear/XRPUSDT/2024-12-01_XRPUSDT_ob500.data.zip"
POLICY = DownloadPolicy(timeout_s=2, retry=ReconnectPolicy(initial_s=0.01, factor=1, cap_s=0.01, attempts=4))


class ArchiveServer(ThreadingHTTPServer):
    """Serves `files`, one request a line of `faults`, then faultlessly; notes every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.requests: list[tuple[str, str | None]] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/orderbook"


class Handler(BaseHTTPRequestHandler):
    """One request, by the next fault: a status, `drop N`, `stall`, `whole`, `shifted`, or `cut N`."""

    protocol_version = "HTTP/1.1"
    server: ArchiveServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        fault, _, argument = (self.server.faults.pop(0) if self.server.faults else "").partition(" ")
        content = self.server.files.get(self.path)
        if fault.isdigit() or content is None:
            self.send_response(int(fault or 404))
            if argument:
                self.send_header("Retry-After", argument)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "cut":
            content = content[: int(argument)]  # an answer that is whole by its own account
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and fault != "whole" else 0
        if wanted and first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "shifted":
            first -= 10
        body = content[first:]
        self.send_response(206 if wanted and fault != "whole" else 200)
        if wanted and fault != "whole":
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{len(content)}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "drop":
            self.wfile.write(body[: int(argument)])
            self.close_connection = True
        elif fault == "stall":
            self.wfile.write(body[:100])
            self.wfile.flush()
            threading.Event().wait(4)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Be silent."""


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with ArchiveServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def archived(data_dir: Path) -> bytes:
    """A real file of the archive: 50 frames of XRPUSDT."""
    return (data_dir / "bybit/linear_xrpusdt_ob500_nautilus/xrpusdt-ob500.data.zip").read_bytes()


def fetch(server: ArchiveServer, root: Path, *, days: int = 1, depth: int | None = 500) -> list[FetchedDay]:
    return list(
        fetch_days(
            category="linear",
            symbol="XRPUSDT",
            days=days_between(DAY, date(2024, 12, days), today=date(2025, 1, 1)),
            depth=depth,
            root=root,
            base_url=server.base_url,
            policy=POLICY,
        )
    )


def place(root: Path) -> Path:
    return root / "bybit/linear/XRPUSDT/orderbook.500/2024-12-01_XRPUSDT_ob500.data.zip"


def zipped(member: str, lines: list[bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, b"\n".join(lines) + b"\n")
    return content.getvalue()


def lines_of(archived: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(archived)) as archive:
        return archive.read(archive.namelist()[0]).splitlines()


def test_a_day_comes_whole_with_its_index_and_is_not_asked_for_twice(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    (fetched,) = fetch(server, tmp_path)
    assert place(tmp_path).read_bytes() == archived
    assert (fetched.status, fetched.frames, fetched.gaps, fetched.requests) == ("fetched", 50, 0, 1)
    index = read_index(place(tmp_path))
    assert (index.snapshots, index.changes, index.depth, index.tick_size) == (1, 49, 500, "0.0001")
    assert index.first_update_id == 20254869
    (again,) = fetch(server, tmp_path)
    assert (again.status, again.frames) == ("present", 50)
    assert server.requests == [(PATH, None)]
    (report,) = verify_captures([tmp_path])
    assert report.is_whole(allow_gaps=False)
    assert not list(tmp_path.rglob("*.part"))


def test_a_connection_that_breaks_goes_on_where_it_broke(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    server.faults = ["drop 5000", "503 0", "drop 70000", "500", "drop 100"]
    (fetched,) = fetch(server, tmp_path)
    assert place(tmp_path).read_bytes() == archived
    wanted = [None, *(f"bytes={start}-" for start in (5000, 5000, 75000, 75000, 75100))]
    assert [asked for _, asked in server.requests] == wanted
    assert fetched.requests == 6


def test_attempts_without_progress_are_bounded_and_the_next_run_goes_on(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    server.faults = ["drop 5000", "500", "500", "500", "500"]
    with pytest.raises(
        CaptureError, match=r"given up after 4 attempts without progress: .*HTTP 500; 5,000 bytes"
    ):
        fetch(server, tmp_path)
    assert len(server.requests) == 4
    part = place(tmp_path).with_name(place(tmp_path).name + ".part")
    assert part.read_bytes() == archived[:5000]
    (report,) = verify_captures([tmp_path])
    assert report.faults == ("its download is not finished; `mambalob fetch` goes on with it",)
    server.faults = []
    (fetched,) = fetch(server, tmp_path)
    assert (fetched.resumed_bytes, fetched.requests) == (5000, 1)
    assert server.requests[-1] == (PATH, "bytes=5000-")
    assert place(tmp_path).read_bytes() == archived


def test_a_silent_server_is_given_up_and_asked_again(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    server.faults = ["stall"]
    (fetched,) = fetch(server, tmp_path)
    assert fetched.requests == 2
    assert place(tmp_path).read_bytes() == archived


@pytest.mark.parametrize("fault", ["whole", "shifted"])
def test_a_server_that_ignores_or_mistakes_the_range(server, tmp_path, archived, fault) -> None:
    server.files[PATH] = archived
    server.faults = ["drop 3000", fault]
    fetch(server, tmp_path)
    assert server.requests[1] == (PATH, "bytes=3000-")
    assert place(tmp_path).read_bytes() == archived


def test_a_part_that_is_whole_or_too_long_already(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    part = place(tmp_path).with_name(place(tmp_path).name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(archived)
    (fetched,) = fetch(server, tmp_path)
    assert (fetched.requests, fetched.resumed_bytes) == (1, len(archived))
    place(tmp_path).unlink()
    index_path(place(tmp_path)).unlink()
    part.write_bytes(archived + b"more")
    fetch(server, tmp_path)
    assert place(tmp_path).read_bytes() == archived


def test_a_part_of_another_file_is_fetched_anew(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    part = place(tmp_path).with_name(place(tmp_path).name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 2000)
    (fetched,) = fetch(server, tmp_path)
    assert [wanted for _, wanted in server.requests] == ["bytes=2000-", None]
    assert place(tmp_path).read_bytes() == archived
    assert fetched.requests == 2


def test_a_truncated_file_that_claims_to_be_whole_is_refused(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    server.faults = [f"cut {len(archived) // 2}"]
    with pytest.raises(CaptureError, match="no whole zip file"):
        fetch(server, tmp_path)
    assert not list(tmp_path.rglob("*.zip*"))
    fetch(server, tmp_path)
    assert place(tmp_path).read_bytes() == archived


def test_days_that_the_archive_lacks(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    reports = fetch(server, tmp_path, days=3)
    assert [report.status for report in reports] == ["fetched", "missing", "missing"]
    other = fetch(server, tmp_path / "other", depth=200)
    assert other == [FetchedDay(day="2024-12-01", status="missing", depth=200)]
    assert not list((tmp_path / "other").rglob("*"))


def test_the_depth_is_the_one_that_the_archive_has(server, tmp_path, archived) -> None:
    assert likely_depths(date(2025, 8, 20)) == (500, 200)
    assert likely_depths(date(2025, 8, 21)) == (200, 500)
    lines = [line.replace(b"orderbook.500", b"orderbook.200") for line in lines_of(archived)]
    server.files[PATH.replace("500", "200")] = zipped("2024-12-01_XRPUSDT_ob200.data", lines)
    (fetched,) = fetch(server, tmp_path, depth=None)
    assert (fetched.status, fetched.depth) == ("fetched", 200)
    assert [path.rpartition("_")[2] for path, _ in server.requests] == ["ob500.data.zip", "ob200.data.zip"]


@pytest.mark.parametrize(
    ("spoil", "member", "expected"),
    [
        (lambda lines: lines[1:], None, "a snapshot is expected first, 49 changes"),
        (
            lambda lines: [*lines, b'{"topic":"orderbook.500.XRPUSDT","type":"del'],
            None,
            "line 51: expected one JSON",
        ),
        (
            lambda lines: lines,
            "2024-12-02_XRPUSDT_ob500.data",
            "a zip of 2024-12-01_XRPUSDT_ob500.data is expected",
        ),
        (
            lambda lines: [line.replace(b"XRPUSDT", b"BTCUSDT") for line in lines],
            None,
            "the book of XRPUSDT at depth 500 is expected, BTCUSDT",
        ),
        (
            lambda lines: [line.replace(b'"ts":17330', b'"ts":17331') for line in lines],
            None,
            "times of 2024-12-01 are expected",
        ),
        (lambda lines: [b"<html>not found</html>"], None, "expected"),
    ],
)
def test_a_file_that_is_not_the_day_is_refused(server, tmp_path, archived, spoil, member, expected) -> None:
    name = member or "2024-12-01_XRPUSDT_ob500.data"
    server.files[PATH] = zipped(name, spoil(lines_of(archived)))
    with pytest.raises(CaptureError, match=expected):
        fetch(server, tmp_path)
    assert not list(tmp_path.rglob("*.zip*"))


def test_a_gap_of_the_exchange_s_own_is_told_and_no_fault_of_the_download(server, tmp_path, archived) -> None:
    lines = lines_of(archived)
    server.files[PATH] = zipped("2024-12-01_XRPUSDT_ob500.data", [*lines[:20], *lines[21 : 20 + 2], lines[0]])
    (fetched,) = fetch(server, tmp_path)
    assert fetched.gaps == 1
    (report,) = verify_captures([tmp_path])
    assert report.breaks == ("gap at frame 21: update 20254889 is missing",)
    assert report.is_whole(allow_gaps=True)
    assert not report.is_whole(allow_gaps=False)


def test_a_wrong_checksum_within_the_zip_is_refused(server, tmp_path, archived) -> None:
    spoiled = bytearray(zipped("2024-12-01_XRPUSDT_ob500.data", lines_of(archived)))
    place_of_crc = spoiled.rindex(b"PK\x01\x02") + 16
    spoiled[place_of_crc] ^= 0xFF
    spoiled[14] ^= 0xFF
    server.files[PATH] = bytes(spoiled)
    with pytest.raises(CaptureError, match="Bad CRC-32"):
        fetch(server, tmp_path)


def test_a_file_that_was_changed_since_is_not_taken_for_present(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    fetch(server, tmp_path)
    place(tmp_path).write_bytes(archived[:-1])
    with pytest.raises(CaptureError, match="its index says"):
        fetch(server, tmp_path)


def test_an_index_that_is_missing_is_made(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    fetch(server, tmp_path)
    index = read_index(place(tmp_path))
    index_path(place(tmp_path)).unlink()
    (fetched,) = fetch(server, tmp_path)
    assert fetched.status == "present"
    assert read_index(place(tmp_path)) == index


def test_refusals_for_good_are_not_repeated(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    server.faults = ["403"]
    with pytest.raises(CaptureError, match="the server refuses it \\(HTTP 403\\)"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1


def test_settings_that_are_refused() -> None:
    for url in ("ftp://127.0.0.1/", "http://archive.example/", "https://", "nonsense"):
        with pytest.raises(InputError, match="base_url"):
            check_base_url(url)
    assert check_base_url("https://archive.example/orderbook") == "https://archive.example/orderbook"
    with pytest.raises(InputError, match="the last is not allowed before the first"):
        days_between(date(2024, 12, 2), DAY, today=date(2025, 1, 1))
    for first, last in (("2019-12-31", "2020-01-02"), ("2024-12-30", "2025-01-02")):
        with pytest.raises(
            InputError, match=f"from {first} to {last} came; 2020-01-01 to 2025-01-01, today in UTC, are"
        ):
            days_between(date.fromisoformat(first), date.fromisoformat(last), today=date(2025, 1, 1))
    assert days_between(date(2024, 12, 31), date(2025, 1, 1), today=date(2025, 1, 1))[-1] == date(2025, 1, 1)
    sound = ArchiveDay(category="linear", symbol="BTCUSDT", day=DAY, depth=500)
    wrong: dict[str, Any] = {"symbol": "../x", "category": "option", "depth": 50}
    for field, value in wrong.items():
        with pytest.raises(InputError, match=field):
            replace(sound, **{field: value})
    with pytest.raises(InputError, match="a number of attempts is needed"):
        DownloadPolicy(retry=ReconnectPolicy())


def test_the_command(server, tmp_path, archived) -> None:
    server.files[PATH] = archived
    arguments = ["fetch", "--symbol", "XRPUSDT", "--from", "2024-12-01", "--out", str(tmp_path)]
    arguments += ["--base-url", server.base_url]
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["frames"] == 50
    done = CliRunner().invoke(main, [*arguments, "--to", "2024-12-02"])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"2024-12-01: present, {place(tmp_path)}: {len(archived):,} bytes, 50 frames, 0 gaps",
        "2024-12-02: not in the archive",
    ]
    assert "the archive lacks 1 of 2 days: 2024-12-02" in done.stderr
