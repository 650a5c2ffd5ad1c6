"""Says that frames were dropped because they could not be read: the first at once, then seldom."""

import logging
from collections.abc import Iterable

from serve.subscription import Subscription
from serve.turns import Turns

logger = logging.getLogger(__name__)

TOPICS_A_TURN = 128
"""Topics looked at between two turns of the event loop, some tenths of a microsecond each."""

NAMED_TOPICS = 5
"""So many topics are named on one line."""


class UnreadableFrames:
    """Watches the consumers' counts on a timer, so that no frame on its way is held up by it."""

    def __init__(self, subscriptions: Iterable[Subscription], every_s: float) -> None:
        self._subscriptions = tuple(subscriptions)
        self._every_s = every_s
        self._said = [_count(one) for one in self._subscriptions]
        self._said_s: float | None = None

    async def check(self, now_s: float, turns: Turns) -> None:
        """Write one line where there are new ones, and the last line is `every_s` old."""
        if self._said_s is not None and now_s - self._said_s < self._every_s:
            return
        counts = await turns.map(_count, self._subscriptions, TOPICS_A_TURN)
        if counts == self._said:
            return
        new = [
            f"{count - said} of {one.topic.name}"
            for one, count, said in zip(self._subscriptions, counts, self._said, strict=True)
            if count != said
        ]
        more = f" and {len(new) - NAMED_TOPICS} topics more" if len(new) > NAMED_TOPICS else ""
        since = "" if self._said_s is None else f" in {now_s - self._said_s:.0f} s"
        logger.warning(
            "frames that cannot be read were dropped%s: %s%s (one without a topic counts for each)",
            since,
            ", ".join(new[:NAMED_TOPICS]),
            more,
        )
        self._said = counts
        self._said_s = now_s


def _count(one: Subscription) -> int:
    return one.consumer.unreadable_frames
