"""The soak, for MAMBALOB_SOAK_MINUTES (1) minutes, and that its checker finds what it is for."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.serve.soak import Checker, Findings, SoakConfig, Tail, is_clean, soak

MINUTES = float(os.environ.get("MAMBALOB_SOAK_MINUTES", "1"))


@pytest.mark.slow
@pytest.mark.timeout(int(MINUTES * 60) + 600)
def test_soak(tmp_path: Path) -> None:
    config = SoakConfig(minutes=MINUTES, model="btc-perp-ssd-small")
    report = asyncio.run(soak(config, tmp_path))
    print(json.dumps(report, indent=2))
    assert is_clean(report)


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    books, tap = tmp_path / "books", tmp_path / "tap"
    lines = [{"topic": "orderbook.50.X", "u": u, "seq": 10 * u, "digest": f"{u:016x}"} for u in range(1, 5)]
    books.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return books, tap


def checked(logs: tuple[Path, Path], tapped: str) -> Findings:
    findings = Findings()
    logs[1].write_text(tapped)
    Checker(*logs, findings).check(final=True)
    return findings


class TestChecker:
    def test_right_books_are_counted(self, logs: tuple[Path, Path]) -> None:
        findings = checked(logs, f"X 2 20 5 100.5 {2:016x}\nX 3 30 6 100.5 {3:016x}\n")
        assert (findings.predictions, findings.right_books, findings.updates) == (2, 2, 4)
        assert findings.wrong_books == findings.unknown_updates == []

    def test_a_wrong_book_is_found(self, logs: tuple[Path, Path]) -> None:
        findings = checked(logs, f"X 2 20 5 100.5 {3:016x}\n")
        assert (findings.right_books, len(findings.wrong_books)) == (0, 1)

    def test_a_book_the_exchange_never_had_is_found(self, logs: tuple[Path, Path]) -> None:
        findings = checked(logs, f"X 2 21 5 100.5 {2:016x}\n")
        assert (findings.right_books, len(findings.unknown_updates)) == (0, 1)

    def test_wrong_views_are_found(self, logs: tuple[Path, Path]) -> None:
        findings = Findings()
        checker = Checker(*logs, findings)
        checker.add_view("X", 2, f"{2:016x}")
        checker.add_view("X", 3, f"{2:016x}")
        checker.check(final=True)
        assert (findings.right_book_views, len(findings.wrong_book_views)) == (1, 1)


CLEAN = {
    "wrong_books": 0,
    "unknown_updates": 0,
    "wrong_book_views": 0,
    "wrong_received": 0,
    "unhandled_errors": 0,
    "exit_codes": {"exchange": 0, "service": 0},
    "died": [],
    "silently_lost": 0,
    "predictions": 9,
    "right_books": 9,
    "right_received": 9,
    "fault_count": 3,
    "seconds": 900,
    "memory": {"service": {"first_third_mib": 200.0, "last_third_mib": 201.0}},
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"wrong_books": 1},
        {"unknown_updates": 1},
        {"unhandled_errors": 1},
        {"exit_codes": {"exchange": 0, "service": 1}},
        {"died": ["service"]},
        {"silently_lost": 1},
        {"predictions": 0, "right_books": 0},
        {"right_books": 8},
        {"memory": {"service": {"first_third_mib": 200.0, "last_third_mib": 220.0}}},
    ],
)
def test_whatever_is_wrong_makes_a_run_unclean(wrong: dict[str, object]) -> None:
    assert is_clean(CLEAN)
    assert not is_clean(CLEAN | wrong)


def test_a_line_that_is_not_ended_waits(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_bytes(b"one\ntw")
    assert tail.lines() == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\n")
    assert tail.lines() == [b"two"]
