from lob.sync import SymbolState
from serve.state_times import StateTimes


def test_every_nanosecond_belongs_to_one_state() -> None:
    times = StateTimes(SymbolState.CONNECTING, 1_000_000_000)
    times.enter(SymbolState.LIVE, 3_000_000_000)
    times.enter(SymbolState.LIVE, 4_000_000_000)
    times.enter(SymbolState.STALE, 4_500_000_000)
    times.enter(SymbolState.LIVE, 5_000_000_000)
    seconds = times.seconds(7_000_000_000)
    assert seconds == {
        SymbolState.CONNECTING: 2.0,
        SymbolState.WAITING_SNAPSHOT: 0.0,
        SymbolState.WARMING: 0.0,
        SymbolState.LIVE: 3.5,
        SymbolState.STALE: 0.5,
    }
    assert times.seconds(8_000_000_000)[SymbolState.LIVE] == 4.5
