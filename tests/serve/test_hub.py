import asyncio
import json
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from lob.sync import SymbolState
from serve.clock import AnchoredClock
from serve.hub import MAXIMUM_WAITING_REPLIES, MAXIMUM_WAITING_STATES, Hub, Mailbox

TOPIC = "prediction.BTCUSDT"


@pytest.fixture
def hub() -> Hub:
    hub = Hub(["BTCUSDT", "ETHUSDT"], AnchoredClock())
    for symbol in ("BTCUSDT", "ETHUSDT"):
        hub.publish_state(symbol, SymbolState.LIVE, "")
    return hub


def drain(mailbox: Mailbox) -> list[dict]:
    messages = []
    while (text := mailbox.take()) is not None:
        messages.append(json.loads(text))
    return messages


def kinds(messages: list[dict]) -> list[tuple]:
    return [(m["type"], m["seq"], m.get("missed", 0)) for m in messages]


def test_a_subscriber_is_first_told_the_state_and_then_every_message_in_order(hub, prediction) -> None:
    mailbox = Mailbox()
    hub.subscribe(mailbox, [TOPIC])
    assert kinds(drain(mailbox)) == [("state", 1, 0)]
    hub.publish(prediction(update_id=5))
    (message,) = drain(mailbox)
    assert message["topic"] == TOPIC
    assert message["seq"] == 2
    assert message["data"]["update_id"] == 5
    hub.publish(prediction(update_id=6))
    hub.publish_state("BTCUSDT", SymbolState.STALE, "gap")
    hub.publish_state("BTCUSDT", SymbolState.LIVE, "")
    hub.publish(prediction(update_id=7))
    hub_said = kinds(drain(mailbox))
    # The prediction of update 6 was still waiting when the book came into doubt: it is not handed out.
    assert hub_said == [("state", 4, 1), ("state", 5, 0), ("prediction", 6, 0)]


def test_emit_time_and_latency_are_stamped_when_published(hub, prediction) -> None:
    clock = AnchoredClock()
    receive_ns = clock.now_ns()
    published = prediction(receive_ns=receive_ns)
    hub.publish(published)
    assert receive_ns <= published.emit_ns <= clock.now_ns() + 1_000_000
    assert published.latency_us == (published.emit_ns - receive_ns) / 1_000
    assert hub.latency["BTCUSDT"].count == 1
    assert hub.topic_of("BTCUSDT").prediction is published


def test_a_reader_that_lags_gets_the_newest_and_the_count_of_what_it_missed(hub, prediction) -> None:
    slow, fast = Mailbox(), Mailbox()
    for mailbox in (slow, fast):
        hub.subscribe(mailbox, [TOPIC])
        drain(mailbox)
    received = []
    for update_id in range(100):
        hub.publish(prediction(update_id=update_id))
        received += drain(fast)
    assert [m["data"]["update_id"] for m in received] == list(range(100))
    assert not any("missed" in m for m in received)
    (late,) = drain(slow)
    assert late["data"]["update_id"] == 99
    assert late["missed"] == 99
    assert slow.missed == 99
    assert fast.missed == 0
    hub.publish(prediction(update_id=100))
    (next_one,) = drain(slow)
    assert "missed" not in next_one


def test_states_outlive_any_number_of_predictions_and_are_bounded(hub, prediction) -> None:
    mailbox = Mailbox()
    hub.subscribe(mailbox, [TOPIC])
    drain(mailbox)
    hub.publish_state("BTCUSDT", SymbolState.STALE, "gap")
    hub.publish_state("BTCUSDT", SymbolState.LIVE, "")
    for update_id in range(1_000):
        hub.publish(prediction(update_id=update_id))
    assert kinds(drain(mailbox)) == [("state", 2, 0), ("state", 3, 0), ("prediction", 1_003, 999)]
    for _ in range(500):
        hub.publish_state("BTCUSDT", SymbolState.STALE, "gap")
        hub.publish_state("BTCUSDT", SymbolState.LIVE, "")
    messages = drain(mailbox)
    assert len(messages) == MAXIMUM_WAITING_STATES
    assert messages[0]["missed"] == 1_000 - MAXIMUM_WAITING_STATES
    assert messages[-1]["seq"] == 2_003
    assert messages[-1]["data"]["state"] == "live"
    assert mailbox.missed == 999 + 1_000 - MAXIMUM_WAITING_STATES


def test_nothing_is_published_from_a_symbol_that_is_not_live(hub, prediction) -> None:
    hub.publish_state("BTCUSDT", SymbolState.STALE, "gap")
    with pytest.raises(AssertionError, match="BTCUSDT came while it is stale"):
        hub.publish(prediction())
    assert hub.topic_of("BTCUSDT").prediction is None


def test_topics_are_served_in_turn_and_counted_apart(hub, prediction) -> None:
    mailbox = Mailbox()
    hub.subscribe(mailbox, [TOPIC, "prediction.ETHUSDT"])
    drain(mailbox)
    hub.publish(prediction(symbol="BTCUSDT"))
    hub.publish(prediction(symbol="BTCUSDT"))
    hub.publish(prediction(symbol="ETHUSDT"))
    assert [(m["topic"], m["seq"]) for m in drain(mailbox)] == [(TOPIC, 3), ("prediction.ETHUSDT", 2)]


def test_replies_go_before_pushes_and_too_many_unread_ones_close_the_connection(hub) -> None:
    mailbox = Mailbox()
    hub.subscribe(mailbox, [TOPIC])
    mailbox.put_reply('{"op":"subscribe"}')
    assert [m.get("op", m.get("type")) for m in drain(mailbox)] == ["subscribe", "state"]
    for _ in range(MAXIMUM_WAITING_REPLIES):
        mailbox.put_reply("{}")
    before = mailbox.closing
    assert before is None
    mailbox.put_reply("{}")
    assert mailbox.closing.code == 1008
    assert len(drain(mailbox)) == MAXIMUM_WAITING_REPLIES


def test_unknown_and_unsubscribed_topics_are_refused_whole(hub, prediction) -> None:
    mailbox = Mailbox()
    with pytest.raises(InputError, match=r"'prediction.DOGE' came, 'prediction.BTCUSDT', 'prediction.ETH"):
        hub.subscribe(mailbox, [TOPIC, "prediction.DOGE"])
    assert mailbox.slots == {}
    hub.subscribe(mailbox, [TOPIC, TOPIC])
    with pytest.raises(InputError, match=r"'prediction.ETHUSDT' came, subscribed is 'prediction.BTCUSDT'"):
        hub.unsubscribe(mailbox, [TOPIC, "prediction.ETHUSDT"])
    assert list(mailbox.slots) == [TOPIC]
    hub.unsubscribe(mailbox, [TOPIC, TOPIC])
    hub.publish(prediction())
    assert drain(mailbox) == []
    with pytest.raises(InputError, match="'DOGE' came, 'BTCUSDT', 'ETHUSDT' is served"):
        hub.topic_of("DOGE")


def test_a_forgotten_mailbox_is_no_longer_published_to(hub, prediction) -> None:
    mailbox = Mailbox()
    hub.subscribe(mailbox, [TOPIC, "prediction.ETHUSDT"])
    hub.forget(mailbox)
    assert not hub.topic_of("BTCUSDT").slots
    assert not hub.topic_of("ETHUSDT").slots
    hub.publish(prediction())
    assert drain(mailbox) == []


@given(
    st.lists(st.sampled_from(["prediction", "stale", "live", "take", "take all"]), min_size=1, max_size=120)
)
def test_whatever_is_read_when_seq_and_missed_always_add_up(prediction, steps: list[str]) -> None:
    hub = Hub(["BTCUSDT"], AnchoredClock())
    mailbox = Mailbox()
    hub.subscribe(mailbox, [TOPIC])
    received = drain(mailbox)
    state = "connecting"
    for step in steps:
        if step == "prediction" and state == "live":
            hub.publish(prediction())
        elif step in ("stale", "live"):
            state = step
            hub.publish_state("BTCUSDT", SymbolState(step), "")
        elif step == "take" and (text := mailbox.take()) is not None:
            received.append(json.loads(text))
        elif step == "take all":
            received += drain(mailbox)
    received += drain(mailbox)
    state = "connecting"
    for before, after in pairwise(received):
        assert after["seq"] == before["seq"] + 1 + after.get("missed", 0)
        if after["type"] == "state":
            state = after["data"]["state"]
        else:
            assert state == "live"
    assert received[-1]["seq"] == hub.topic_of("BTCUSDT").seq


@pytest.mark.anyio
async def test_a_waiting_writer_wakes_for_a_message_and_for_the_end(hub, prediction) -> None:
    mailbox = Mailbox()
    hub.subscribe(mailbox, [TOPIC])
    drain(mailbox)
    waiting = asyncio.create_task(mailbox.wait())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    hub.publish(prediction())
    await asyncio.wait_for(waiting, 1)
    drain(mailbox)
    waiting = asyncio.create_task(mailbox.wait())
    await asyncio.sleep(0.01)
    mailbox.close(1001, "over")
    mailbox.close(1008, "later")
    await asyncio.wait_for(waiting, 1)
    assert (mailbox.closing.code, mailbox.closing.reason) == (1001, "over")


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(8))
async def test_what_is_sent_at_once_never_overtakes_what_waits(hub, prediction, seed: int) -> None:
    random = Random(seed)
    received, at_once = [], 0
    socket_takes = True

    def write_now(frame: bytes) -> bool:
        nonlocal at_once
        if socket_takes:
            at_once += 1
            received.append(json.loads(frame[frame.index(b"{") :]))
        return socket_takes

    mailbox = Mailbox(write_now)

    async def write() -> None:
        while True:
            text = mailbox.take()
            if text is None:
                await mailbox.wait()
                continue
            for _ in range(random.randrange(4)):  # the writer has it, and its socket does not take it yet
                await asyncio.sleep(0)
            received.append(json.loads(text))

    writer = asyncio.create_task(write())
    hub.subscribe(mailbox, [TOPIC])
    for number in range(600):
        kind = random.random()
        if kind < 0.1:
            socket_takes = not socket_takes
        elif kind < 0.15:
            hub.publish_state("BTCUSDT", SymbolState.LIVE, "")
        elif kind < 0.6:
            hub.publish(prediction(update_id=number))
        else:
            await asyncio.sleep(0)
    socket_takes = True
    while received[-1]["seq"] < hub.topic_of("BTCUSDT").seq:
        await asyncio.sleep(0)
    writer.cancel()
    for before, after in pairwise(received):
        assert after["seq"] == before["seq"] + 1 + after.get("missed", 0)
    assert 10 < at_once < len(received)
    assert mailbox.missed == sum(message.get("missed", 0) for message in received)


@pytest.mark.anyio
async def test_nothing_is_sent_at_once_to_a_client_that_is_to_go(hub, prediction) -> None:
    frames: list[bytes] = []

    def take(frame: bytes) -> bool:
        frames.append(frame)
        return True

    mailbox = Mailbox(take)
    hub.subscribe(mailbox, [TOPIC])
    drain(mailbox)
    waiting = asyncio.create_task(mailbox.wait())
    await asyncio.sleep(0)
    hub.publish(prediction())
    assert len(frames) == 1
    mailbox.close(1001, "over")
    hub.publish(prediction())
    assert len(frames) == 1
    assert kinds(drain(mailbox)) == [("prediction", 3, 0)]
    await waiting
