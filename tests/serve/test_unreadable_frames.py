from types import SimpleNamespace
from typing import Any

import pytest

from serve.turns import Turns
from serve.unreadable_frames import UnreadableFrames

pytestmark = pytest.mark.anyio


def make(symbols: int) -> tuple[UnreadableFrames, list[SimpleNamespace]]:
    """A watch over the counts of some topics, which the test sets."""
    consumers = [SimpleNamespace(unreadable_frames=7) for _ in range(symbols)]
    topics: list[Any] = [
        SimpleNamespace(consumer=consumer, topic=SimpleNamespace(name=f"t{i}"))
        for i, consumer in enumerate(consumers)
    ]
    return UnreadableFrames(topics, 60.0), consumers


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_the_first_is_told_at_once_and_the_others_are_counted_until_the_time_is_up(caplog) -> None:
    watch, (first, second) = make(2)
    await watch.check(0.0, Turns())
    assert lines(caplog) == []
    first.unreadable_frames += 1
    await watch.check(0.1, Turns())
    for second_s in range(1, 60):
        first.unreadable_frames += 10
        second.unreadable_frames += 1
        await watch.check(float(second_s), Turns())
    assert len(lines(caplog)) == 1
    await watch.check(60.1, Turns())
    await watch.check(200.0, Turns())  # nothing new
    assert [line.partition(" (")[0] for line in lines(caplog)] == [
        "frames that cannot be read were dropped: 1 of t0",
        "frames that cannot be read were dropped in 60 s: 590 of t0, 59 of t1",
    ]


async def test_a_line_names_few_topics_however_many_there_are(caplog) -> None:
    watch, consumers = make(50)
    for consumer in consumers:
        consumer.unreadable_frames += 1
    await watch.check(0.0, Turns())
    (line,) = lines(caplog)
    assert line.count(" of t") == 5
    assert "and 45 topics more" in line
