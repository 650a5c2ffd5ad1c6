"""What is sent in one phase of a run, when, and to how many subscribers."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.open_loop import SCHEDULES, Schedule
from lob.errors import InputError

MOST_SUBSCRIBERS: Final = 256
MOST_FRAMES: Final = 500_000
"""Of all phases together; the frames are made before the first and kept."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Frames sent one after the other's receipt (`schedule` None), or at intended times."""

    schedule: Schedule | None
    frames: int
    subscribers: int

    @property
    def name(self) -> str:
        """`closed` or that of its schedule, and the number of subscribers."""
        loop = "closed" if self.schedule is None else self.schedule.name
        return f"{loop}/{self.subscribers}"

    @property
    def slow(self) -> int:
        """How many of the subscribers read slowly: one, where there are others."""
        return 1 if self.subscribers > 1 else 0

    def due_ns(self) -> NDArray[np.int64] | None:
        """Intended times after the start, (frames,) int64; None where the receipts decide."""
        return None if self.schedule is None else self.schedule.due_ns(self.frames)

    @property
    def method(self) -> str:
        """When frames are sent, and who listens, in words."""
        if self.schedule is None:
            when = "a frame when every fast subscriber has received what came of the last"
        elif self.schedule.together == 1:
            when = f"a frame every {self.schedule.interval_ns / 1e6:g} ms"
        else:
            when = f"{self.schedule.together} frames at once every {self.schedule.interval_ns / 1e6:g} ms"
        who = "1 subscriber" if not self.slow else f"{self.subscribers} subscribers, one of them slow"
        return f"{when}, {who}"


def make_phases(subscribers: tuple[int, ...], *, count: int, seconds: float) -> list[Phase]:
    """A closed loop of `count` frames and every open loop for `seconds`, for each number of subscribers.

    `seconds` 0 leaves the open loops out, `count` 0 the closed ones. Raises InputError where nothing, or too
    much, would be run.
    """
    if not subscribers or len(set(subscribers)) != len(subscribers):
        raise InputError(f"--subscribers: {subscribers} came; at least one number, each once, is allowed")
    if not all(1 <= number <= MOST_SUBSCRIBERS for number in subscribers):
        raise InputError(f"--subscribers: {subscribers} came; 1 to {MOST_SUBSCRIBERS} are allowed")
    if not 0 <= seconds <= 3600:
        raise InputError(f"seconds is {seconds}; 0 to 3600 is allowed")
    phases = []
    for number in subscribers:
        if count > 0:
            phases.append(Phase(schedule=None, frames=count, subscribers=number))
        if seconds > 0:
            phases += [
                Phase(schedule=schedule, frames=schedule.frames_in(seconds), subscribers=number)
                for schedule in SCHEDULES
            ]
    total = sum(phase.frames for phase in phases)
    if not 1 <= total <= MOST_FRAMES:
        raise InputError(f"{total:,} frames would be sent; 1 to {MOST_FRAMES:,} are allowed")
    return phases
