"""The hub: one publisher, many readers, and no reader can hold up another or the publisher.

A topic is one symbol's predictions and states. Publishing a prediction encodes it once, as the websocket
frame that all get, and writes that to the socket of every subscriber for whom nothing waits. For the others
it is left in their mailboxes: a few attribute writes each, no await, no lock, no queue that grows. A mailbox
keeps the newest prediction of each topic only, and the states in order; what a slow reader was not
given shows as a gap in `seq`, and the next message it gets says how wide (`missed`). A topic that leaves
LIVE takes the predictions still waiting with it: none is handed out once its book is in doubt.

`docs/topics/broadcast` of python-websockets discusses the alternatives: sending to each in turn waits for the
slowest, a task per message loses the order, a queue per client grows.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from inference.prediction import Prediction
from lob.errors import InputError
from lob.sync import SymbolState
from serve.clock import AnchoredClock
from serve.latency import LatencyHistogram
from serve.messages import (
    ModelData,
    ModelMessage,
    PredictionMessage,
    StateData,
    StateMessage,
    encode,
    encode_text,
    shorten,
    topic_name,
    with_missed,
)
from serve.socket_protocol import text_frame
from serve.state_times import StateTimes

NAMED_SYMBOLS = 10
"""So many are named where another came: a service may have hundreds, and anybody may ask for what is not."""

MAXIMUM_WAITING_STATES = 16
MAXIMUM_WAITING_REPLIES = 64


class Slot:
    """What waits for one subscriber of one topic."""

    __slots__ = ("given_seq", "mailbox", "prediction", "queued", "states")

    def __init__(self, mailbox: "Mailbox", given_seq: int) -> None:
        self.mailbox = mailbox
        self.given_seq = given_seq  # `seq` of the last message handed out, so that a gap can be counted
        self.states: deque[tuple[int, str]] = deque(maxlen=MAXIMUM_WAITING_STATES)
        self.prediction: tuple[int, str] | None = None
        self.queued = False

    def take(self) -> str | None:
        """The waiting message with the lowest `seq`, with the count of what was left out before it."""
        prediction = self.prediction
        if self.states and (prediction is None or self.states[0][0] < prediction[0]):
            seq, text = self.states.popleft()
        elif prediction is not None:
            seq, text = prediction
            self.prediction = None
        else:
            return None
        missed = seq - self.given_seq - 1
        self.given_seq = seq
        return with_missed(text, missed)

    def put_prediction(self, waiting: tuple[int, str] | None) -> None:
        """Leave the newest prediction, or none; one that still waited is left out."""
        if self.prediction is not None:
            self.mailbox.missed += 1
        self.prediction = waiting

    def put_state(self, waiting: tuple[int, str]) -> None:
        """Leave a state behind those that wait; beyond the bound the oldest is left out."""
        if len(self.states) == MAXIMUM_WAITING_STATES:
            self.mailbox.missed += 1
        self.states.append(waiting)


@dataclass(frozen=True)
class Closing:
    """The close code and the reason a connection is to end with."""

    code: int
    reason: str


WriteNow: TypeAlias = Callable[[bytes], bool]
"""Writes a whole websocket frame to a client's socket without waiting; False, and nothing written, where the
socket has not taken all of what was written before."""


class Mailbox:
    """Everything that waits to be sent to one client; filled by anyone, emptied by its one writer.

    `write_now` sends what need not wait; without it all goes by the writer.
    """

    __slots__ = ("_idle", "_ready", "_replies", "_waiting", "_write_now", "closing", "missed", "slots")

    def __init__(self, write_now: WriteNow | None = None) -> None:
        self._write_now = write_now
        self._idle = False  # whether the writer has sent all it had and waits
        self.slots: dict[str, Slot] = {}
        self.closing: Closing | None = None
        self.missed = 0
        self._replies: deque[str] = deque()
        self._ready: deque[Slot] = deque()
        self._waiting = asyncio.Event()

    def send_now(self, slot: Slot, seq: int, frame: bytes) -> bool:
        """Send the message `seq` of `slot` at once, as the websocket frame `frame`; answers whether it was.

        It is not where anything waits, the last message of the topic was left out, or the writer is about to
        write: then nothing is done.
        """
        if (
            self._write_now is None
            or not self._idle
            or self._ready
            or self._replies
            or self.closing is not None
            or slot.given_seq != seq - 1
            or not self._write_now(frame)
        ):
            return False
        slot.given_seq = seq
        return True

    def put_reply(self, text: str) -> None:
        """Leave the answer to a request; a client that asks without reading its answers is closed."""
        if len(self._replies) >= MAXIMUM_WAITING_REPLIES:
            self.close(1008, f"{MAXIMUM_WAITING_REPLIES} replies are waiting to be read")
            return
        self._replies.append(text)
        self._waiting.set()

    def put_ready(self, slot: Slot) -> None:
        """Say that `slot`, one of this mailbox's own, has something to send."""
        if not slot.queued:
            slot.queued = True
            self._ready.append(slot)
        self._waiting.set()

    def close(self, code: int, reason: str) -> None:
        """End the connection once everything that waits now has been sent; the first call wins."""
        if self.closing is None:
            self.closing = Closing(code, reason)
        self._waiting.set()

    def take(self) -> str | None:
        """The next text to send, replies first, then each topic in turn; None where nothing waits."""
        if self._replies:
            return self._replies.popleft()
        while self._ready:
            slot = self._ready.popleft()
            slot.queued = False
            text = slot.take()
            if text is None:
                continue
            if slot.states or slot.prediction is not None:
                slot.queued = True
                self._ready.append(slot)
            return text
        return None

    async def wait(self) -> None:
        """Return when something waits to be sent, or the connection is to close."""
        if self._replies or self._ready or self.closing is not None:
            return
        self._waiting.clear()
        self._idle = True
        try:
            await self._waiting.wait()
        finally:
            self._idle = False


class Topic:
    """One symbol's stream: its counter, its current state, its newest prediction, its subscribers."""

    __slots__ = ("name", "prediction", "reason", "seq", "slots", "state", "symbol", "times")

    def __init__(self, symbol: str, now_ns: int) -> None:
        self.symbol = symbol
        self.name = topic_name(symbol)
        self.seq = 0
        self.state = SymbolState.CONNECTING
        self.reason = "the service has just started"
        self.times = StateTimes(self.state, now_ns)
        self.prediction: Prediction | None = None
        self.slots: dict[Mailbox, Slot] = {}

    @property
    def live(self) -> bool:
        """True while the topic's predictions are being published."""
        return self.state is SymbolState.LIVE


class Hub:
    """The topics of a service and everybody who listens to them."""

    def __init__(self, symbols: list[str], clock: AnchoredClock) -> None:
        self.clock = clock
        now_ns = clock.now_ns()
        self.topics = {topic.name: topic for topic in (Topic(symbol, now_ns) for symbol in symbols)}
        self._by_symbol = {topic.symbol: topic for topic in self.topics.values()}
        self.latency = {topic.symbol: LatencyHistogram() for topic in self.topics.values()}

    def topic_of(self, symbol: str) -> Topic:
        """The topic of `symbol`; raises InputError naming the symbols there are."""
        try:
            return self._by_symbol[symbol]
        except KeyError:
            raise InputError(
                f"symbol: {shorten(symbol)} came, {_listed(self._by_symbol)} is served"
            ) from None

    def publish(self, prediction: Prediction) -> None:
        """Stamp a prediction with its emit time and leave it for every subscriber of its symbol.

        `emit_ns` and `latency_us` are taken here, before the encoding, since both travel in the message.
        """
        topic = self._by_symbol[prediction.symbol]
        assert topic.live, f"a prediction of {topic.symbol} came while it is {topic.state.value}"
        emit_ns = self.clock.now_ns()
        prediction.stamp(emit_ns)
        topic.prediction = prediction
        topic.seq += 1
        if topic.slots:
            seq = topic.seq
            payload = encode(
                PredictionMessage(topic.name, "prediction", seq, emit_ns // 1_000_000, prediction)
            )
            frame = text_frame(payload)
            waiting: tuple[int, str] | None = None
            for mailbox, slot in topic.slots.items():
                if not mailbox.send_now(slot, seq, frame):
                    waiting = waiting or (seq, payload.decode())
                    slot.put_prediction(waiting)
                    mailbox.put_ready(slot)
        self.latency[topic.symbol].record(emit_ns - prediction.receive_ns)

    def publish_state(self, symbol: str, state: SymbolState, reason: str) -> None:
        """Tell every subscriber of `symbol` its new state."""
        topic = self._by_symbol[symbol]
        topic.times.enter(state, self.clock.now_ns())
        topic.state = state
        topic.reason = reason
        topic.seq += 1
        waiting = (topic.seq, self._state_text(topic))
        for mailbox, slot in topic.slots.items():
            if not topic.live:
                slot.put_prediction(None)
            slot.put_state(waiting)
            mailbox.put_ready(slot)
        if not topic.live:
            topic.prediction = None

    def publish_model(self, symbol: str, data: ModelData) -> None:
        """Tell every subscriber of `symbol` whose predictions follow; it waits in order with the states."""
        topic = self._by_symbol[symbol]
        topic.seq += 1
        now_ms = self.clock.now_ns() // 1_000_000
        waiting = (topic.seq, encode_text(ModelMessage(topic.name, "model", topic.seq, now_ms, data)))
        for mailbox, slot in topic.slots.items():
            slot.put_state(waiting)
            mailbox.put_ready(slot)

    def subscribe(self, mailbox: Mailbox, names: list[str]) -> None:
        """Send the topics `names` to `mailbox` from now on, each beginning with its current state.

        That first message carries the `seq` of the topic's last one, so that the next is one higher.
        Subscribing again changes nothing. Raises InputError, and does nothing, where a name is unknown.
        """
        unknown = [name for name in names if name not in self.topics]
        if unknown:
            raise InputError(f"args: {_listed(unknown)} came, {_listed(self.topics)} is allowed")
        for name in names:
            if name not in mailbox.slots:
                topic = self.topics[name]
                slot = Slot(mailbox, topic.seq - 1)
                topic.slots[mailbox] = mailbox.slots[name] = slot
                slot.put_state((topic.seq, self._state_text(topic)))
                mailbox.put_ready(slot)

    def unsubscribe(self, mailbox: Mailbox, names: list[str]) -> None:
        """Send the topics `names` to `mailbox` no more.

        Raises InputError, and does nothing, where one of them is not subscribed.
        """
        absent = [name for name in names if name not in mailbox.slots]
        if absent:
            raise InputError(f"args: {_listed(absent)} came, subscribed is {_listed(mailbox.slots)}")
        for name in dict.fromkeys(names):
            slot = mailbox.slots.pop(name)
            slot.states.clear()
            slot.prediction = None
            del self.topics[name].slots[mailbox]

    def forget(self, mailbox: Mailbox) -> None:
        """Unsubscribe `mailbox` from everything."""
        self.unsubscribe(mailbox, list(mailbox.slots))

    def _state_text(self, topic: Topic) -> str:
        now_ms = self.clock.now_ns() // 1_000_000
        data = StateData(topic.state.value, topic.reason)
        return encode_text(StateMessage(topic.name, "state", topic.seq, now_ms, data))


def _listed(names: Collection[str]) -> str:
    """Names for an error message, so many and each so short that they cannot flood it."""
    listed = ", ".join(map(shorten, islice(names, NAMED_SYMBOLS))) or "nothing"
    return f"{listed} and {len(names) - NAMED_SYMBOLS:,} more" if len(names) > NAMED_SYMBOLS else listed
