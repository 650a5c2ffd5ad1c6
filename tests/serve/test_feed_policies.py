import pytest

from lob.errors import InputError
from serve.feed_policies import (
    IdlePolicy,
    LagPolicy,
    RefusalPolicy,
    ResyncPolicy,
    SilencePolicy,
    SnapshotPolicy,
    StallPolicy,
)


def test_a_stall_may_be_set_for_single_symbols() -> None:
    policy = StallPolicy(after_ms=100, by_symbol={"XRPUSDT": 9_000})
    assert (policy.of("BTCUSDT"), policy.of("XRPUSDT")) == (100, 9_000)


def test_final_refusals_are_those_whose_words_say_so() -> None:
    assert RefusalPolicy().is_final("Invalid symbol :[orderbook.50.NOSUCH]")
    assert RefusalPolicy().is_final("error:handler not found,topic:orderbook.51.BTCUSDT")
    assert not RefusalPolicy().is_final("too many visits")


@pytest.mark.parametrize(
    ("policy", "arguments", "message"),
    [
        (StallPolicy, {"after_ms": 0}, "stall after_ms: 0 ms came"),
        (StallPolicy, {"by_symbol": {"BTCUSDT": -1}}, "stall BTCUSDT: -1 ms came"),
        (LagPolicy, {"maximum_wait_ms": 0}, "maximum_wait_ms: 0 came"),
        (LagPolicy, {"maximum_lag_ms": -5}, "maximum_lag_ms: -5 came"),
        (IdlePolicy, {"probe_after_s": 0}, "probe_after_s: 0 came"),
        (IdlePolicy, {"answer_within_s": float("nan")}, "answer_within_s: nan came"),
        (ResyncPolicy, {"snapshot_timeout_s": -1}, "snapshot_timeout_s: -1 came"),
        (SilencePolicy, {"after_s": 0}, "after_s: 0 came"),
        (SnapshotPolicy, {"factor": 0.5}, "factor: 0.5 came"),
        (SnapshotPolicy, {"factor": float("nan")}, "factor: nan came"),
        (SnapshotPolicy, {"hopeless_after": 0}, "hopeless_after: 0 came"),
        (SnapshotPolicy, {"maximum_interval_s": 0}, "maximum_interval_s: 0 came"),
    ],
)
def test_what_makes_no_sense_is_refused(policy, arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        policy(**arguments)
