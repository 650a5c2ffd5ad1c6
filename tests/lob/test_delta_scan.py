"""A path that scans frames is the path that decodes them: same status, book, rows, times, message, counters.

Without the compiler an index past the end is an IndexError: `test_without_the_compiler` runs this file so.
"""

import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from lob.captures import open_capture
from lob.delta_scan import follow, new_stream, scan_delta
from lob.instrument import Instrument, infer_instrument
from lob.market import SimulatedMarket
from lob.messages import BookUpdate
from lob.row_kernels import ELSEWHERE, scan_and_sample
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder

MUTATIONS = 1_000 if config.DISABLE_JIT else 10_000
SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
ARCHIVE = "bybit/linear_xrpusdt_ob500_nautilus/xrpusdt-ob500.data.zip"
Level = tuple[str, str]


def content(message: object) -> object:
    """A message to compare: `Raw` compares by identity."""
    if not isinstance(message, BookUpdate):
        return message
    return [bytes(one) if isinstance(one, msgspec.Raw) else one for one in msgspec.structs.astuple(message)]


class Pair:
    """Both paths fed the same frames; `feed` fails where they differ in anything."""

    def __init__(self, tick_size: str = "0.10", capacity: int = 2000, sampling: str = "top_changed") -> None:
        self.slow, self.fast = (
            RowPath(
                make_decoder("bybit"),
                Instrument(symbol="BTCUSDT", tick_size=tick_size),
                sampling=sampling,
                window_length=20,
                capacity=capacity,
                scan=scan,
            )
            for scan in (False, True)
        )

    def feed(self, frame: bytes, receive_ns: int = 1_700_000_000_000_000_000) -> tuple[RowStatus, bool]:
        """(status, whether the frame was scanned)."""
        slow, fast = self.slow.on_frame(frame, receive_ns), self.fast.on_frame(frame, receive_ns)
        assert fast is slow, frame
        scanned = self.fast._scanned is not None
        assert self.slow._scanned is None
        assert self.fast.held_snapshot == self.slow.held_snapshot
        self.compare(frame)
        return fast, scanned

    def compare(self, frame: bytes) -> None:
        slow, fast = self.slow, self.fast
        for name in ("update_id", "exchange_ms", "gateway_ms"):
            assert getattr(fast, name) == getattr(slow, name), frame
            assert type(getattr(fast, name)) is int
        assert fast._stream[:4].tolist() == slow._stream[:4].tolist(), frame
        assert fast.counters == slow.counters
        assert fast.book.header.tolist() == slow.book.header.tolist(), frame
        for side in range(2):
            count = slow.book.header[side]
            assert fast.book.keys[side, :count].tobytes() == slow.book.keys[side, :count].tobytes(), frame
            assert fast.book.sizes[side, :count].tobytes() == slow.book.sizes[side, :count].tobytes(), frame
        assert (fast.window.count, fast.window.position) == (slow.window.count, slow.window.position)
        assert fast.window.storage.tobytes() == slow.window.storage.tobytes(), frame
        assert fast._top.tobytes() == slow._top.tobytes(), frame
        assert content(fast.message) == content(slow.message), frame


def make_frame(
    kind: str = "delta",
    *,
    u: int = 2,
    b: list[Level] | None = None,
    a: list[Level] | None = None,
    depth: int = 50,
    symbol: str = "BTCUSDT",
    seq: int = 7,
) -> bytes:
    data = {"s": symbol, "b": b or [], "a": a or [], "u": u, "seq": seq}
    topic = f"orderbook.{depth}.{symbol}"
    whole = {"topic": topic, "type": kind, "ts": 1_700_000_000_002, "data": data, "cts": 1_700_000_000_000}
    return json.dumps(whole, separators=(",", ":")).encode()


def make_snapshot(
    bid: str = "99.9", deeper: str = "99.8", ask: str = "100.1", higher: str = "100.2"
) -> bytes:
    return make_frame("snapshot", u=1, b=[(bid, "1"), (deeper, "2.5")], a=[(ask, "3"), (higher, "0.001")])


SNAPSHOT = make_snapshot()


def started(**settings: Any) -> Pair:
    pair = Pair(**settings)
    assert pair.feed(SNAPSHOT) == (RowStatus.SNAPSHOT, False)
    return pair


@pytest.mark.parametrize("sampling", ["top_changed", "every_message"])
def test_all_changes_of_a_stream_are_scanned(sampling: str) -> None:
    market = SimulatedMarket()
    pair = Pair(market.configuration.instrument.tick_size, 16_384, sampling)
    first, *rest = [
        pair.feed(frame.replace(market.configuration.instrument.symbol.encode(), b"BTCUSDT"))
        for _, frame in market.frames(200)
    ]
    assert first == (RowStatus.SNAPSHOT, False)
    assert {scanned for status, scanned in rest} == {True}


@pytest.mark.parametrize("name", [SPOT, ARCHIVE])
def test_all_changes_of_real_captures_are_scanned(data_dir: Path, name: str) -> None:
    capture = list(open_capture(data_dir / name))
    decoder = make_decoder("bybit")
    updates = [one for one in (decoder.decode(frame) for _, frame in capture) if isinstance(one, BookUpdate)]
    levels = [
        level for one in updates for side in (one.bids, one.asks) for level in msgspec.json.decode(side)
    ]
    symbol = updates[0].symbol
    pair = Pair(infer_instrument(symbol, [price for price, _ in levels]).tick_size)
    named = [frame.replace(symbol.encode(), b"BTCUSDT") for _, frame in capture]
    taken = [pair.feed(frame, one.receive_ns) for frame, one in zip(named, capture, strict=True)]
    changes = sum(not one.is_snapshot for one in updates)
    assert sum(scanned for _, scanned in taken) == changes > 40


def test_what_is_taken_and_what_is_not() -> None:
    pair = Pair()
    good = make_frame(b=[("99.9", "4")])
    for frame, status, scanned in (
        (good, RowStatus.WAITING, False),  # no topic is followed yet
        (SNAPSHOT, RowStatus.SNAPSHOT, False),
        (good, RowStatus.ROW, True),
        (good, RowStatus.IGNORED, True),
        (make_frame(u=3), RowStatus.NO_ROW, True),  # no levels
        (make_frame(u=2, seq=8), RowStatus.GAP, True),  # the numbers began anew unseen
        (SNAPSHOT, RowStatus.SNAPSHOT, False),
        (make_frame(u=2, seq=9), RowStatus.NO_ROW, True),
        (make_frame(u=2, seq=9), RowStatus.IGNORED, True),
        (make_frame(u=3, b=[("99.85", "4")]), RowStatus.MALFORMED, False),
        (make_frame(u=4), RowStatus.WAITING, True),
        (SNAPSHOT, RowStatus.SNAPSHOT, False),
        (make_frame(u=4), RowStatus.GAP, True),
        (SNAPSHOT, RowStatus.SNAPSHOT, False),
        (make_frame(b=[("100.1", "1")]), RowStatus.CROSSED, True),
        (SNAPSHOT, RowStatus.SNAPSHOT, False),
        (make_frame(b=[("99.9", "0"), ("99.8", "0")]), RowStatus.ONE_SIDED, True),
        (make_frame(u=3, b=[("99.9", "1")]), RowStatus.ROW, True),
        (make_frame(u=1, b=[("99.9", "1")]), RowStatus.ONE_SIDED, False),  # a restart is a snapshot
        (make_frame(u=2, a=[("100.1", "1")]), RowStatus.SNAPSHOT, True),  # the new book's first row
        (make_frame(u=3, depth=200), RowStatus.OTHER_STREAM, False),
        (make_frame(u=3, symbol="ETHUSDT"), RowStatus.OTHER_STREAM, False),
        (b'{"op":"pong"}', RowStatus.NOT_BOOK, False),
        (b"", RowStatus.NOT_JSON, False),
    ):
        assert pair.feed(frame) == (status, scanned), frame


def test_full_book_overflows_alike() -> None:
    pair = started(capacity=3)
    assert pair.feed(make_frame(b=[("99.7", "1")])) == (RowStatus.ROW, True)
    assert pair.feed(make_frame(u=3, b=[("99.6", "1")])) == (RowStatus.OVERFLOW, True)
    pair.feed(SNAPSHOT)
    assert pair.feed(make_frame(b=[("99.9", "1")] * 4)) == (RowStatus.OVERFLOW, False)


def test_reset_stops_scanning_until_a_snapshot() -> None:
    pair = started()
    assert pair.feed(make_frame()) == (RowStatus.NO_ROW, True)
    pair.slow.reset()
    pair.fast.reset()
    assert pair.feed(make_frame(u=3)) == (RowStatus.WAITING, False)
    assert pair.feed(SNAPSHOT.replace(b"orderbook.50", b"orderbook.200")) == (RowStatus.SNAPSHOT, False)
    assert pair.feed(make_frame()) == (RowStatus.OTHER_STREAM, False)
    assert pair.feed(make_frame(depth=200)) == (RowStatus.NO_ROW, True)


def test_every_cut_and_every_byte_changed() -> None:
    """All prefixes and suffixes of a delta, and at each place other bytes."""
    good = make_frame(b=[("99.9", "4.25"), ("99.8", "0")], a=[("100.1", "7")])
    cuts = [good[:end] for end in range(len(good))] + [good[start:] for start in range(1, len(good))]
    spoilt = [b"}", b'"', b"\0", b"\xff", b"0", b"9", b",", b"]", b"[", b"{", b":", b".", b" ", b"\\", b"s"]
    changed = [good[:at] + byte + good[at + 1 :] for at in range(len(good)) for byte in spoilt]
    pair = Pair()
    for frame in [*cuts, good + b"}", good + b"\0", *changed]:
        pair.feed(SNAPSHOT)
        pair.feed(frame)


PIECES = [
    *(bytes([byte]) for byte in b'"}{[],: \\019.-e\n\0\xff'),
    *(b'"topic":', b'"type":"delta"', b'"ts":1', b'"data":{', b'"cts":0', b'"s":"BTCUSDT"', b'"b":[]'),
    *(b'"a":[]', b'"u":2', b'"seq":1', b'["99.9","1"]', b"null", b"true", b"1e3", b"1.0", b"000"),
    *(b"18446744073709551616", b"4611686018427387905"),
]


def mutated(frame: bytes, others: list[bytes], chance: random.Random) -> bytes:
    text = bytearray(frame)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(6):
            case 0:
                text[at:at] = chance.choice(PIECES)
            case 1:
                del text[at : at + chance.choice((1, 1, 2, 8, 40))]
            case 2:
                text[at : at + 1] = chance.choice(PIECES)
            case 3:
                text[at:at] = text[at : at + chance.randrange(1, 60)]
            case 4:
                other = chance.choice(others)
                start = chance.randrange(len(other))
                text[at : at + chance.randrange(40)] = other[start : start + chance.randrange(40)]
            case 5:
                digits = [place for place, byte in enumerate(text) if byte in b"0123456789"]
                if digits:
                    text[chance.choice(digits)] = chance.choice(b"0123456789")
        if not text:
            break
    return bytes(text)


def test_mutated_frames() -> None:
    chance = random.Random(20)
    market = SimulatedMarket()
    symbol = market.configuration.instrument.symbol.encode()
    frames = [frame.replace(symbol, b"BTCUSDT") for _, frame in islice(market.frames(100), 100)]
    pair = Pair(market.configuration.instrument.tick_size, 16_384)
    taken = total = 0
    while total < MUTATIONS:
        pair.feed(frames[0])
        for place in range(1, chance.randrange(2, 60)):
            for _ in range(chance.choice((0, 1, 1, 2))):
                _, scanned = pair.feed(mutated(frames[place], frames, chance))
                total += 1
                taken += scanned
            pair.feed(frames[place])
    assert 0 < taken < total


NUMBER = st.one_of(
    st.decimals(min_value=0, max_value=200, places=1).map(str),
    st.from_regex(r"\A[0-9]{1,20}(\.[0-9]{0,20})?\Z"),
    st.sampled_from(["0", "0.0", "00", "1.", ".1", "-1", "+1", "1e2", "", "1 ", "99.90000", "099.9", "NaN"]),
    st.sampled_from(["9007199254740991", "9007199254740992", "999999999999999999", "0.000000000000000001"]),
)
PRICE = st.one_of(st.integers(980, 1020).map(lambda ticks: f"{ticks / 10:.1f}"), NUMBER)
LEVELS = st.lists(st.tuples(PRICE, NUMBER), max_size=4)
LARGE = st.sampled_from([10**17, 10**18 - 1, 10**18, 2**62, 2**62 + 1, 1.5, True, None, "2"])
INTEGER = st.one_of(st.integers(0, 5), st.integers(-3, 2**66), LARGE)
TOPIC = st.sampled_from(
    ["orderbook.50.BTCUSDT"] * 9 + ["orderbook.200.BTCUSDT", "orderbook.50.BTCUSDTX", "orderbook.50.BTCUSD"]
)


@st.composite
def any_frame(draw: st.DrawFn) -> bytes:
    """Bybit's document with keys in any order, some missing, doubled or foreign, and odd numbers."""

    def pairs_of(**values: st.SearchStrategy[Any]) -> list[tuple[str, str]]:
        pairs = [(key, draw(value)) for key, value in values.items()]
        texts = [
            (key, value if key == "data" else json.dumps(value, separators=(",", ":")))
            for key, value in pairs
        ]
        texts = draw(st.permutations(texts))
        if draw(st.integers(0, 5)) == 0:
            del texts[draw(st.integers(0, len(texts) - 1))]
        if draw(st.integers(0, 5)) == 0:
            texts.append(draw(st.sampled_from([*texts, ("x", "1"), ("", "[]"), ("tsx", "3")])))
        return texts

    space = draw(st.sampled_from([""] * 6 + [" "]))

    def object_text(pairs: list[tuple[str, str]]) -> str:
        return "{" + ",".join(f'"{key}":{space}{value}' for key, value in pairs) + "}"

    data = pairs_of(
        s=st.sampled_from(["BTCUSDT"] * 9 + ["ETHUSDT"]),
        b=LEVELS,
        a=LEVELS,
        u=st.one_of(st.integers(1, 6), INTEGER),
        seq=INTEGER,
    )
    kind = st.sampled_from(["delta"] * 9 + ["snapshot", "other"])
    number = st.one_of(st.just(5), INTEGER)
    whole = pairs_of(topic=TOPIC, type=kind, ts=number, data=st.just(object_text(data)), cts=number)
    return object_text(whole).encode()


GRIDS = {
    "0.10": ("99.9", "99.8", "100.1", "100.2"),
    "0.1": ("99.9", "99.8", "100.1", "100.2"),
    "0.05": ("99.95", "99.8", "100.1", "100.25"),
    "0.25": ("99.75", "99.5", "100.25", "100.5"),
    "1": ("99", "98", "101", "102"),
    "0.00000001": ("99.5", "99", "100.5", "101"),
}


@settings(max_examples=20 if config.DISABLE_JIT else 300, deadline=None)
@given(st.lists(any_frame(), min_size=1, max_size=8), st.sampled_from(sorted(GRIDS)))
def test_frames_of_every_shape(frames: list[bytes], tick_size: str) -> None:
    pair = Pair(tick_size)
    assert pair.feed(make_snapshot(*GRIDS[tick_size])) == (RowStatus.SNAPSHOT, False)
    for frame in frames:
        pair.feed(frame)


def test_a_refused_frame_changes_nothing_but_the_room_for_levels() -> None:
    path = started().fast
    book = path.book
    state = (book.header, book.keys[:2], book.sizes[:2], path._top, path.window.storage, path._stream)
    before = [part.tobytes() for part in state]
    good = make_frame(b=[("99.9", "4")])
    for spoilt, by in ((b"000}", b"000"), (b'"4"', b'"4x"'), (b"delta", b"deltb"), (b'"u":2', b'"u":1')):
        bad = good.replace(spoilt, by)
        assert bad != good
        arguments = (book.header, book.keys, book.sizes, path._top, path.window.storage, path._stream)
        assert scan_and_sample(*arguments, path.window.next_slot, bad) == ELSEWHERE
        assert [part.tobytes() for part in state] == before


def test_a_symbol_that_json_may_write_in_more_than_one_way_is_not_followed() -> None:
    book = Pair().fast.book
    for symbol in ('A"B', "A}B", "A\\B", "Aé", "A" * 120):
        stream = new_stream(False)
        assert not follow(stream, b"orderbook.50.", symbol.encode())
        assert scan_delta(make_frame(symbol=symbol), stream, book.header, book.keys, book.sizes)[0] == -1
    assert not follow(new_stream(False), b"", b"BTCUSDT")


def test_other_kinds_of_bytes_are_decoded() -> None:
    assert started().feed(bytearray(make_frame())) == (RowStatus.NO_ROW, False)  # type: ignore[arg-type]  # on purpose


def test_a_venue_without_a_scanner_decodes() -> None:
    path = RowPath(make_decoder("binance"), Instrument(symbol="BTCUSDT", tick_size="0.1"))
    assert not path.scans


def test_mid_of_a_row_is_the_book_s() -> None:
    for tick_size, grid in GRIDS.items():
        pair = Pair(tick_size)
        pair.feed(make_snapshot(*grid))
        for path in (pair.slow, pair.fast):
            assert path.row_mid == path.mid == path.book.mid


def test_mid_of_prices_that_take_all_bits_is_the_book_s() -> None:
    """Twice the mid has 54 bits: one division of floats would round twice."""
    bid, ask = 2**53 - 3, 2**53 - 2
    pair = Pair("1")
    prices = (str(bid), str(bid - 1), str(ask), str(ask + 1))
    assert pair.feed(make_snapshot(*prices))[0] is RowStatus.SNAPSHOT
    assert np.isnan(pair.fast._mid[0])
    assert pair.fast.row_mid == pair.fast.mid == (bid + ask) / 2


@pytest.mark.skipif(config.DISABLE_JIT, reason="this is what that runs")
def test_without_the_compiler() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(Path(__file__))]
    came = subprocess.run(
        [*command, "-k", "not real_captures"], env=environment, capture_output=True, text=True, check=False
    )
    assert came.returncode == 0, came.stdout[-3000:]
