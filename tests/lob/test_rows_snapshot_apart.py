"""Snapshots that come by another way than the changes, as Binance's do: what is kept, joined and refused."""

from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import MAXIMUM_PENDING, RowPath
from lob.schema import LOB44
from lob.venues import make_decoder

SPOT = Instrument(symbol="BTCUSDT", tick_size="0.01")


def change(
    first: int, update: int, *, previous: int | None = None, size: int = 1, symbol: str = "BTCUSDT"
) -> bytes:
    """A Binance change that sets the bid 99.00 to `size`; with `previous`, a futures one."""
    futures = "" if previous is None else f'"T":{update},"pu":{previous},'
    return (
        f'{{"stream":"s@depth","data":{{"e":"depthUpdate","E":{update},"s":"{symbol}",{futures}'
        f'"U":{first},"u":{update},"b":[["99.00","{size}"]],"a":[]}}}}'
    ).encode()


def snapshot(update: int) -> bytes:
    return (
        f'{{"lastUpdateId":{update},"bids":[["99.00","50"],["98.00","1"]],"asks":[["101.00","1"]]}}'.encode()
    )


def binance_path(sampling: str = "every_message") -> RowPath:
    return RowPath(make_decoder("binance"), SPOT, LOB44, sampling, 8)


def test_spot_changes_before_the_snapshot_are_joined() -> None:
    path = binance_path()
    for first, update in ((10, 12), (13, 15), (16, 16), (17, 20)):
        assert path.on_frame(change(first, update, size=update), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(14), 7_000_000_000) is RowStatus.SNAPSHOT
    assert path.update_id == 20
    assert path.exchange_ms == 20
    assert path.window.count == 1
    assert path.book.bids(1)[1].tolist() == [20.0]
    assert path.on_frame(change(21, 22), 0) is RowStatus.ROW


def test_snapshot_without_a_time_takes_the_receive_time() -> None:
    path = binance_path()
    assert path.on_frame(snapshot(14), 7_123_999_999) is RowStatus.SNAPSHOT
    assert path.exchange_ms == path.gateway_ms == 7_123


def test_futures_changes_before_the_snapshot_are_joined() -> None:
    path = binance_path()
    for first, update, previous in ((10, 12, 8), (20, 25, 12), (31, 40, 25)):
        assert path.on_frame(change(first, update, previous=previous, size=update), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(22), 0) is RowStatus.SNAPSHOT
    assert (path.update_id, path.exchange_ms) == (40, 40)
    assert path.on_frame(change(44, 50, previous=40), 0) is RowStatus.ROW
    assert path.on_frame(change(55, 60, previous=51), 0) is RowStatus.GAP


def test_changes_after_the_snapshot_join_it() -> None:
    path = binance_path()
    assert path.on_frame(snapshot(22), 0) is RowStatus.SNAPSHOT
    assert path.on_frame(change(10, 20, previous=8), 0) is RowStatus.IGNORED
    assert path.on_frame(change(21, 25, previous=20), 0) is RowStatus.ROW
    assert path.on_frame(change(30, 33, previous=25), 0) is RowStatus.ROW


def test_snapshot_older_than_what_was_kept_is_a_gap_and_a_newer_one_joins() -> None:
    path = binance_path()
    for first, update in ((10, 12), (13, 15)):
        path.on_frame(change(first, update), 0)
    assert path.on_frame(snapshot(8), 0) is RowStatus.GAP
    assert not path.book.usable
    assert path.on_frame(change(16, 18), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(11), 0) is RowStatus.SNAPSHOT
    assert path.update_id == 18


def test_changes_from_a_gap_on_are_kept_for_the_next_snapshot() -> None:
    path = binance_path()
    path.on_frame(snapshot(14), 0)
    assert path.on_frame(change(20, 22), 0) is RowStatus.GAP
    assert path.on_frame(change(23, 25), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(21), 0) is RowStatus.SNAPSHOT
    assert path.update_id == 25


def test_snapshot_apart_that_is_behind_is_ignored() -> None:
    path = binance_path()
    path.on_frame(snapshot(14), 0)
    path.on_frame(change(15, 18), 0)
    for behind in (3, 18):
        assert path.on_frame(snapshot(behind), 0) is RowStatus.IGNORED
    assert path.update_id == 18
    assert path.on_frame(snapshot(19), 0) is RowStatus.SNAPSHOT


def test_changes_kept_are_bounded() -> None:
    path = binance_path()
    for update in range(1, MAXIMUM_PENDING + 11):
        assert path.on_frame(change(update, update), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(5), 0) is RowStatus.GAP  # changes 6 to 10 had to go
    assert path.on_frame(snapshot(10), 0) is RowStatus.SNAPSHOT
    assert path.update_id == MAXIMUM_PENDING + 10


def test_malformed_change_kept_for_a_snapshot_spoils_it() -> None:
    path = binance_path()
    path.on_frame(change(10, 12), 0)
    path.on_frame(change(13, 15).replace(b'"99.00"', b'"99.001"'), 0)
    path.on_frame(change(16, 18), 0)
    assert path.on_frame(snapshot(11), 0) is RowStatus.MALFORMED
    assert path.on_frame(change(19, 20), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(19), 0) is RowStatus.SNAPSHOT
    assert path.update_id == 20


def test_reset_forgets_what_was_kept() -> None:
    path = binance_path()
    path.on_frame(change(10, 12), 0)
    path.reset()
    assert path.on_frame(snapshot(5), 0) is RowStatus.SNAPSHOT
