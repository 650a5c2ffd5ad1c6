"""The command `bench book`: real runs of small counts; no test looks at how long anything took."""

from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from bench.commands.bench import command
from bench.peers.book_peer import DISTRIBUTIONS, installed_peers
from bench.report import Report
from lob.book import OrderBook
from mambalob import main

FEW = ["--count", "10", "--warmup", "2"]
PEERS, ABSENT = installed_peers()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["book", *FEW, *arguments], catch_exceptions=False)


def test_json_is_one_object_with_every_depth() -> None:
    result = run("--json")
    assert result.exit_code == 0
    assert result.stderr.count("\n") == len(ABSENT)
    assert result.stdout.count("\n") == 1
    report = msgspec.json.decode(result.stdout, type=Report)
    found = {(one.subject, one.model) for one in report.results}
    assert len(found) == len(report.results)
    for depth in ("depth50", "depth200", "depth1000"):
        assert {(subject, depth) for subject in ("book", "decode", "row", *PEERS)} <= found
    for one in report.results:
        assert (one.unit, one.count) == ("us", 10)
        assert 0 < one.p50 <= one.p90 <= one.p99 <= one.p999 <= one.max
    assert len(report.machine.checks) == 3
    assert all(check.endswith("equal ours at every level") for check in report.machine.checks)
    for peer in PEERS:
        assert report.versions[DISTRIBUTIONS[peer]] == version(DISTRIBUTIONS[peer])


def test_depths_are_chosen() -> None:
    report = msgspec.json.decode(run("--json", "--depth", "200", "--depth", "50").stdout, type=Report)
    assert [one.model for one in report.results if one.subject == "book"] == ["depth50", "depth200"]
    assert "10 bids and 10 asks each, depth 200, seed 0" in report.machine.frames


def test_table_says_what_is_timed_and_that_the_books_are_equal(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the training extra is not installed")
    path = tmp_path / "books.png"
    result = run("--depth", "50", "--seed", "9", "--png", str(path))
    assert result.exit_code == 0
    for part in (
        "depth50",
        "p50 over that of row, depth50: ",
        "row: RowPath.on_frame(frame, receive_ns)",
        "seed 9",
        "checked: ",
        "equal ours at every level",
        *(f"{peer}: " for peer in PEERS),
    ):
        assert part in result.stdout
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_peer_that_is_not_installed_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bench.peers.book_peer._MODULES", dict.fromkeys(DISTRIBUTIONS, "a_module_that_is_nowhere")
    )
    result = run("--json", "--depth", "50")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"Note: {name} is left out, {distribution} is not installed: pip install 'mambalob[peers]'"
        for name, distribution in DISTRIBUTIONS.items()
    ]
    report = msgspec.json.decode(result.stdout, type=Report)
    assert [one.subject for one in report.results] == ["book", "book-best", "decode", "row"]


def test_a_wrong_book_gives_an_error_and_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    right = OrderBook.printed
    shortened = iter([True])  # the first book that is read out: ours

    def wrong(book: OrderBook, levels: int) -> object:
        bids, asks = right(book, levels)
        return (bids[:-1], asks) if next(shortened, False) else (bids, asks)

    monkeypatch.setattr(OrderBook, "printed", wrong)
    result = CliRunner().invoke(main, ["bench", "book", *FEW, "--depth", "50"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "depth50: bids, 50 levels, ours 49" in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1 + len(ABSENT)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--count", "0"], 1, "count is 0; at least 1 is needed"),
        (["--depth", "60"], 2, "'60' is not one of '50', '200', '1000'"),
        (["--png", "no-such-folder/a.png"], 1, "a file in a directory that exists is allowed"),
    ],
)
def test_an_error_is_plain(arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["bench", "book", *arguments])
    assert result.exit_code == code
    assert result.stdout == ""
    assert message in result.stderr
