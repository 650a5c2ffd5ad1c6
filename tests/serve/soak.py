"""A soak: the service on the local exchange at 20 times Bybit's rate, with a random fault about every second.

    python -m tests.serve.soak --minutes 15 --json

Two processes as a user starts them, `mambalob exchange` and `mambalob serve`, the second with a tap
(`soak_service.py`). Held against the exchange's own book, which shares no code with ours:

- the whole book under every published prediction, by the digest of all its levels at its `u` and `seq`;
- the whole book that `GET /v1/book` answers, once a second, likewise;
- each prediction that a subscriber receives, against the one that was made (`receive_ns`, `u`, mid).

Besides: nothing in either log but known lines of known levels, no traceback, both processes end with code 0
when asked to, and neither grows.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from inference.prediction import Prediction
from lob.book_digest import book_digest
from serve.client import StreamClient

REPOSITORY = Path(__file__).resolve().parent.parent.parent
REMEMBERED_UPDATES = 300_000
OVERDUE_S = 15.0
MEMORY_JUDGED_S = 300.0
FLAT_SHARE = 0.03
"""How much more memory the last third of a run may take than the first."""
START_TIMEOUT_S = 300.0
UNHANDLED = re.compile(rb"Traceback|\bERROR\b|\bCRITICAL\b|Error:|Exception|never (awaited|retrieved)")
LEVEL = re.compile(rb"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")


@dataclass(frozen=True, kw_only=True)
class SoakConfig:
    """How long and how hard; `fault_every_s` is the mean time between faults. All are above 0."""

    minutes: float = 15.0
    symbols: tuple[str, ...] = ("BTCUSDT",)
    speed: float = 20.0
    fault_every_s: float = 1.0
    depth: int = 50
    seed: int = 7
    stall_ms: int = 1_000
    reconnect_cap_s: float = 1.0  # with a fault a second, the usual 30 s would be spent unconnected
    model: str | None = None


class Tail:
    """The lines that a file gains, from its start; a line that is not yet ended waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def lines(self) -> list[bytes]:
        """Whole lines since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        return lines


@dataclass
class Findings:
    """What the soak saw."""

    updates: int = 0
    predictions: int = 0
    right_books: int = 0
    wrong_books: list[str] = field(default_factory=list)
    unknown_updates: list[str] = field(default_factory=list)
    book_views: int = 0
    right_book_views: int = 0
    not_live_views: int = 0
    wrong_book_views: list[str] = field(default_factory=list)
    received: int = 0
    missed: int = 0  # left out by the service for a reader that did not keep up
    silently_lost: int = 0
    right_received: int = 0
    wrong_received: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    memory_mib: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


class Checker:
    """Compares what the service said with the exchange's own book, as both files grow."""

    def __init__(self, book_log: Path, tap: Path, findings: Findings) -> None:
        self._book_log, self._tap = Tail(book_log), Tail(tap)
        self._findings = findings
        self._truth: OrderedDict[tuple[str, int, int], str] = OrderedDict()  # (symbol, u, seq) -> digest
        self._by_update: dict[tuple[str, int], list[str]] = {}
        self._waiting: deque[tuple[float, tuple[str, int, int], str]] = deque()
        self._made: OrderedDict[tuple[str, int], tuple[int, float]] = OrderedDict()  # by symbol, receive_ns
        self._views: list[tuple[float, str, int, str]] = []
        self._received: list[tuple[float, Prediction]] = []
        self._made_ns: dict[str, list[int]] = {}
        self._received_ns: dict[str, list[int]] = {}

    def add_view(self, symbol: str, update_id: int, digest: str) -> None:
        """A book came over HTTP."""
        self._findings.book_views += 1
        self._views.append((time.monotonic(), symbol, update_id, digest))

    def add_received(self, prediction: Prediction) -> None:
        """A prediction came over the websocket."""
        self._findings.received += 1
        self._received.append((time.monotonic(), prediction))
        self._received_ns.setdefault(prediction.symbol, []).append(prediction.receive_ns)

    def not_received(self) -> int:
        """How many predictions were published between the first and the last received and not received."""
        total = 0
        for symbol, received in self._received_ns.items():
            first, last = min(received), max(received)
            total += sum(first <= made <= last for made in self._made_ns[symbol]) - len(received)
        return total

    def check(self, *, final: bool = False) -> None:
        """Read what is new and compare; what has no counterpart yet waits, but not for ever."""
        self._read()
        now_s = time.monotonic()
        self._check_predictions(now_s, final)
        self._check_views(now_s, final)
        self._check_received(now_s, final)
        while len(self._truth) > REMEMBERED_UPDATES:
            (symbol, update_id, _), digest = self._truth.popitem(last=False)
            same_number = self._by_update[symbol, update_id]
            same_number.remove(digest)
            if not same_number:
                del self._by_update[symbol, update_id]
        while len(self._made) > REMEMBERED_UPDATES:
            self._made.popitem(last=False)

    def _read(self) -> None:
        findings, now_s = self._findings, time.monotonic()
        for line in self._tap.lines():
            symbol, update_id, sequence, receive_ns, mid, digest = line.decode().split()
            findings.predictions += 1
            self._waiting.append((now_s, (symbol, int(update_id), int(sequence)), digest))
            self._made[symbol, int(receive_ns)] = (int(update_id), float(mid))
            self._made_ns.setdefault(symbol, []).append(int(receive_ns))
        for line in self._book_log.lines():
            entry = json.loads(line)
            findings.updates += 1
            key = (entry["topic"].rpartition(".")[2], entry["u"], entry["seq"])
            if key in self._truth:
                self._by_update[key[:2]].remove(self._truth[key])
            self._truth[key] = entry["digest"]
            self._by_update.setdefault(key[:2], []).append(entry["digest"])

    def _check_predictions(self, now_s: float, final: bool) -> None:
        findings = self._findings
        waiting = self._waiting
        self._waiting = deque()
        for came_s, key, digest in waiting:
            wanted = self._truth.get(key)
            if wanted is None and not final and now_s - came_s < OVERDUE_S:
                self._waiting.append((came_s, key, digest))
                continue
            text = f"{key[0]} u {key[1]} seq {key[2]} digest {digest}, the exchange's {wanted}"
            if wanted is None:
                findings.unknown_updates.append(text)
            elif wanted != digest:
                findings.wrong_books.append(text)
            else:
                findings.right_books += 1

    def _check_views(self, now_s: float, final: bool) -> None:
        findings, waiting = self._findings, []
        for came_s, symbol, update_id, digest in self._views:
            wanted = self._by_update.get((symbol, update_id), [])
            if digest in wanted:
                findings.right_book_views += 1
            elif final or now_s - came_s >= OVERDUE_S:
                findings.wrong_book_views.append(f"{symbol} u {update_id} digest {digest}, not {wanted}")
            else:
                waiting.append((came_s, symbol, update_id, digest))
        self._views = waiting

    def _check_received(self, now_s: float, final: bool) -> None:
        findings, waiting = self._findings, []
        for came_s, prediction in self._received:
            made = self._made.get((prediction.symbol, prediction.receive_ns))
            if made == (prediction.update_id, prediction.mid):
                findings.right_received += 1
            elif made is not None or final or now_s - came_s >= OVERDUE_S:
                findings.wrong_received.append(f"{prediction.update_id} {prediction.mid}: made was {made}")
            else:
                waiting.append((came_s, prediction))
        self._received = waiting


class Child:
    """A process of the soak, its log on disk."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.report: dict[str, Any] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str) -> None:
        """Start it and wait until it says where it listens."""
        with self.log.open("xb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=log, cwd=REPOSITORY
            )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT_S)
        if not line:
            raise RuntimeError(f"{self.name} did not come up: {self.log.read_text()[-2000:]}")
        self.report = json.loads(line)

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.returncode is None

    def memory_mib(self) -> float:
        """Resident memory."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024

    async def stop(self) -> int:
        """Ask it to end, then make it; its exit code."""
        process = self._process
        assert process is not None
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
        return await process.wait()

    def log_summary(self) -> tuple[dict[str, int], list[str]]:
        """Lines by level, and the lines that speak of what nobody handled."""
        levels: Counter[str] = Counter()
        unhandled = []
        for line in self.log.read_bytes().splitlines():
            match = LEVEL.search(line)
            levels[match[1].decode() if match else "other"] += 1
            if UNHANDLED.search(line):
                unhandled.append(line.decode(errors="replace")[:500])
        return dict(levels), unhandled


async def soak(config: SoakConfig, folder: Path) -> dict[str, Any]:
    """Run it; the report. `folder` is empty and takes the logs."""
    book_log, fault_log, tap = folder / "books.ndjson", folder / "faults.ndjson", folder / "tap.txt"
    exchange, service = Child("exchange", folder), Child("service", folder)
    findings = Findings()
    checker = Checker(book_log, tap, findings)
    codes: dict[str, int] = {}
    symbols = [word for symbol in config.symbols for word in ("--symbol", symbol)]
    try:
        await exchange.start(
            *("-m", "mambalob", "exchange", "--simulate", "--depth", str(config.depth), *symbols),
            *("--speed", f"{config.speed:g}", "--seed", str(config.seed), "--port", "0", "--json"),
            *("--faults", "random", "--fault-every", f"{config.fault_every_s:g}"),
            *("--fault-log", str(fault_log.resolve()), "--book-log", str(book_log.resolve())),
        )
        model = ("--model", config.model) if config.model else ()
        await service.start(
            *(
                "-m",
                "tests.serve.soak_service",
                str(tap.resolve()),
                *symbols,
                "--port",
                "0",
                "--json",
            ),
            *("--url", exchange.report["url"], "--stall-ms", str(config.stall_ms), *model),
            *("--depth", str(config.depth), "--reconnect-cap-s", f"{config.reconnect_cap_s:g}"),
        )
        began_s = time.monotonic()
        await _run(config, exchange, service, checker, findings)
        seconds = time.monotonic() - began_s
        died = [child.name for child in (exchange, service) if not child.running]
    finally:
        for child in (service, exchange):
            with suppress(AssertionError):
                codes[child.name] = await child.stop()
    checker.check(final=True)
    findings.silently_lost = checker.not_received() - findings.missed
    return _report(config, findings, (exchange, service), codes, fault_log, seconds) | {"died": died}


async def _run(
    config: SoakConfig, exchange: Child, service: Child, checker: Checker, findings: Findings
) -> None:
    """Subscribe, ask for books, sample memory, until time is up or a process has ended."""
    subscriber = asyncio.create_task(_subscribe(service.report["stream"], config.symbols, checker, findings))
    end_s = time.monotonic() + config.minutes * 60
    began_s = time.monotonic()
    sampled_s = 0.0
    try:
        while time.monotonic() < end_s and exchange.running and service.running and not subscriber.done():
            await asyncio.sleep(1.0)
            for symbol in config.symbols:
                url = f"{service.report['url']}/v1/book/{symbol}?levels=50"
                view = await asyncio.to_thread(_read_book, url)
                if view is None:
                    findings.not_live_views += 1
                else:
                    checker.add_view(symbol, *view)
            checker.check()
            elapsed_s = time.monotonic() - began_s
            if elapsed_s - sampled_s >= 5.0:
                sampled_s = elapsed_s
                for child in (exchange, service):
                    findings.memory_mib.setdefault(child.name, []).append((elapsed_s, child.memory_mib()))
        if subscriber.done():
            subscriber.result()
    finally:
        subscriber.cancel()
        await asyncio.gather(subscriber, return_exceptions=True)


async def _subscribe(url: str, symbols: tuple[str, ...], checker: Checker, findings: Findings) -> None:
    client = StreamClient(url, symbols)
    async for push, _ in client.messages():
        findings.missed += push.missed
        if push.type == "prediction":
            checker.add_received(msgspec.json.decode(push.data, type=Prediction))
        else:
            findings.states[msgspec.json.decode(push.data)["state"]] += 1


def _read_book(url: str) -> tuple[int, str] | None:
    """(u, digest) of the book the service answers; None while it is not live."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            view = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return None
    columns = []
    for side in ("bids", "asks"):
        levels = view[side]
        columns += [np.array([price for price, _ in levels]), np.array([size for _, size in levels])]
    return view["update_id"], f"{book_digest(*columns):016x}"


def _memory(samples: list[tuple[float, float]]) -> dict[str, float]:
    """First and last third's medians, the largest, and the slope of the last two thirds a minute, in MiB."""
    third = max(1, len(samples) // 3)
    seconds, mebibytes = (np.array(column) for column in zip(*samples, strict=True))
    slope = np.polyfit(seconds[third:], mebibytes[third:], 1)[0] * 60 if len(samples) > third + 1 else 0.0
    return {
        "first_third_mib": round(float(np.median(mebibytes[:third])), 1),
        "last_third_mib": round(float(np.median(mebibytes[-third:])), 1),
        "largest_mib": round(float(mebibytes.max()), 1),
        "slope_mib_a_minute": round(float(slope), 3),
        "samples": len(samples),
    }


def _report(
    config: SoakConfig,
    findings: Findings,
    children: tuple[Child, ...],
    codes: dict[str, int],
    fault_log: Path,
    seconds: float,
) -> dict[str, Any]:
    faults = Counter(json.loads(line)["kind"] for line in fault_log.read_text().splitlines())
    logs = {child.name: child.log_summary() for child in children}
    unhandled = [f"{name}: {line}" for name, (_, lines) in logs.items() for line in lines]
    return {
        "config": vars(config),
        "seconds": round(seconds, 1),
        "updates_of_the_exchange": findings.updates,
        "updates_a_second": round(findings.updates / seconds),
        "faults": dict(sorted(faults.items())),
        "fault_count": faults.total(),
        "predictions": findings.predictions,
        "right_books": findings.right_books,
        "wrong_books": len(findings.wrong_books),
        "unknown_updates": len(findings.unknown_updates),
        "book_views": findings.book_views,
        "right_book_views": findings.right_book_views,
        "wrong_book_views": len(findings.wrong_book_views),
        "not_live_views": findings.not_live_views,
        "received": findings.received,
        "missed": findings.missed,
        "silently_lost": findings.silently_lost,
        "right_received": findings.right_received,
        "wrong_received": len(findings.wrong_received),
        "states": dict(findings.states),
        "memory": {name: _memory(samples) for name, samples in findings.memory_mib.items()},
        "log_levels": {name: levels for name, (levels, _) in logs.items()},
        "unhandled_errors": len(unhandled),
        "exit_codes": codes,
        "examples": (
            findings.wrong_books[:5]
            + findings.unknown_updates[:5]
            + findings.wrong_book_views[:5]
            + findings.wrong_received[:5]
            + unhandled[:10]
        ),
    }


def is_clean(report: dict[str, Any]) -> bool:
    """Whether nothing was wrong, and enough happened to say so."""
    return (
        all(
            report[name] == 0
            for name in (
                "wrong_books",
                "unknown_updates",
                "wrong_book_views",
                "wrong_received",
                "unhandled_errors",
            )
        )
        and all(code == 0 for code in report["exit_codes"].values())
        and not report["died"]
        and report["silently_lost"] <= 0
        and report["right_books"] == report["predictions"] > 0
        and report["right_received"] > 0
        and report["fault_count"] > 0
        and (
            report["seconds"] < MEMORY_JUDGED_S
            or all(
                memory["last_third_mib"] <= memory["first_third_mib"] * (1 + FLAT_SHARE)
                for memory in report["memory"].values()
            )
        )
    )


def main() -> None:
    """The command; exit code 1 where anything was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--fault-every", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--symbol", action="append", help="by default BTCUSDT alone; repeatable")
    parser.add_argument("--model", help="by default the service's own default")
    parser.add_argument("--logs", type=Path, help="keep the logs in this new folder")
    arguments = parser.parse_args()
    config = SoakConfig(
        minutes=arguments.minutes,
        symbols=tuple(arguments.symbol or ("BTCUSDT",)),
        speed=arguments.speed,
        fault_every_s=arguments.fault_every,
        seed=arguments.seed,
        model=arguments.model,
    )
    with tempfile.TemporaryDirectory() as folder:
        logs = arguments.logs or Path(folder)
        logs.mkdir(exist_ok=True)
        report = asyncio.run(soak(config, logs))
    print(json.dumps(report, indent=2))
    sys.exit(0 if is_clean(report) else 1)


if __name__ == "__main__":
    main()
