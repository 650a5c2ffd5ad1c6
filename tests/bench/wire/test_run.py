"""What a phase's durations are taken from, and processes that end or say nothing."""

import os
from time import perf_counter_ns

import numpy as np
import pytest

from bench.wire.phases import make_phases
from bench.wire.processes import ProcessEndedError, RemoteProcess, shared_cores
from bench.wire.run import put_together
from bench.wire.served import Collections, Served, Stamps, ahead_ns
from bench.wire.source import Sent
from bench.wire.subscribers import Received
from lob.errors import InputError
from serve.clock import AnchoredClock

SERVED = Served(port=1, model="m", engine="fused", precision="float32")
AT_RATE = make_phases((3,), count=0, seconds=0.06)[0]


def stamps(*, updates: int, first: int, step_ns: int) -> Stamps:
    """Every update from `first` on passes each step `step_ns` after the one before; sent at its number."""
    numbers = np.arange(updates, dtype=np.int64) * 1000
    steps = [np.where(np.arange(updates) >= first, numbers + place * step_ns, 0) for place in range(1, 5)]
    return Stamps(received_ns=steps[0], handled_ns=steps[1], predicted_ns=steps[2], emitted_ns=steps[3])


def test_the_parts_add_up_to_the_whole_way() -> None:
    first, step_ns = 10, 7
    sent_ns = np.arange(10, 13, dtype=np.int64) * 1000
    sent = Sent(first_update_id=first, due_ns=sent_ns - 5, sent_ns=sent_ns)
    ids = np.array([9, 10, 11, 12])  # 9 is of the phase before
    receipts = Received(slow=False, update_ids=ids, receipt_ns=ids * 1000 + 4 * step_ns + 11)
    fewer = Received(slow=False, update_ids=ids[2:], receipt_ns=receipts.receipt_ns[2:])
    slow = Received(slow=True, update_ids=ids[:1], receipt_ns=ids[:1])
    found = put_together(
        AT_RATE, SERVED, sent, stamps(updates=13, first=10, step_ns=step_ns), [receipts, fewer, slow]
    )
    by_name = {one.subject.name: one.durations_ns.tolist() for one in found.measured}
    assert by_name == {
        "wire-1x/3": [5 + 4 * 7 + 11] * 5,
        "wire-1x/3:sent": [5] * 3,
        **{f"wire-1x/3:{part}": [7] * 3 for part in ("received", "handled", "predicted", "emitted")},
        "wire-1x/3:delivered": [11] * 5,
    }
    assert (found.lost, found.missed, found.missed_slow, found.is_open) == (0, 1, 3, True)


def test_a_frame_without_a_prediction_is_lost_and_not_missed() -> None:
    sent_ns = np.arange(10, 13, dtype=np.int64) * 1000
    sent = Sent(first_update_id=10, due_ns=sent_ns, sent_ns=sent_ns)
    ids = np.array([11, 12])
    everything = Received(slow=False, update_ids=ids, receipt_ns=ids * 1000 + 50)
    found = put_together(AT_RATE, SERVED, sent, stamps(updates=13, first=11, step_ns=1), [everything])
    assert (found.lost, found.missed) == (1, 0)
    with pytest.raises(InputError, match="none of 3 frames came to a prediction"):
        put_together(AT_RATE, SERVED, sent, stamps(updates=13, first=13, step_ns=1), [everything])


def test_collections_are_counted_by_generation() -> None:
    collections = Collections()
    for generation in (0, 0, 2):
        collections("start", {"generation": generation})
        collections("stop", {"generation": generation})
    assert [len(taken) for taken in collections.durations_ns] == [2, 0, 1]
    assert "2 of generation 0" in str(collections)
    assert "generation 1" not in str(collections)


def test_the_service_s_clock_is_brought_to_the_one_of_the_others() -> None:
    clock = AnchoredClock()
    ahead = ahead_ns(clock)
    before_ns, now_ns, after_ns = perf_counter_ns(), clock.now_ns(), perf_counter_ns()
    assert before_ns - 100_000 <= now_ns - ahead <= after_ns + 100_000


def echo_then_end(pipe, word: str) -> None:
    pipe.send(word)
    pipe.recv()


def cores_of(pipe) -> None:
    pipe.send(os.sched_getaffinity(0))
    pipe.recv()


def test_a_process_says_what_it_has_to_and_ends_with_its_pipe() -> None:
    with RemoteProcess("echo", echo_then_end, "hello", cores=None) as process:
        assert process.receive(30) == "hello"
        with pytest.raises(ProcessEndedError, match="the echo said nothing for"):
            process.receive(0.01)


def test_a_process_that_ended_is_told_of() -> None:
    with RemoteProcess("echo", echo_then_end, "hello", cores=None) as process:
        process.receive(30)
        process.send("go on")
        with pytest.raises(ProcessEndedError, match="the echo ended with code 0"):
            process.receive(30)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no cores to choose")
def test_the_service_has_its_core_alone() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("there is one core")
    core = min(allowed)
    own, others = shared_cores(core)
    assert own == frozenset({core})
    assert others == frozenset(allowed - {core})
    with RemoteProcess("cores", cores_of, cores=own) as process:
        assert process.receive(30) == {core}
    with pytest.raises(InputError, match="--cpu: 4095 came"):
        shared_cores(4095)
    assert shared_cores(None) == (None, None)
