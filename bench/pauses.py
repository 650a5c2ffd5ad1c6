"""Ways to spend the time between two ticks other than asleep: they tell what a tick after silence suffers.

Awake, the core keeps its clock rate and nobody is woken; what the caches lose they lose to others. With
rehearsals weights and code are in use all the time, as `mambalob serve --keep-warm-ms 1` has it.
"""

import time
from collections.abc import Callable
from typing import Final

from bench.open_loop import wait_until
from inference.pipeline import Pipeline
from inference.rehearsal import Rehearsal

STEP_S: Final = 0.001
"""From one rehearsal's step to the next."""


def awake(seconds: float) -> None:
    """Watch the clock."""
    due_ns = time.perf_counter_ns() + round(seconds * 1e9)
    wait_until(due_ns, watch_ns=due_ns)


def rehearsing(pipeline: Pipeline) -> Callable[[float], None]:
    """A pause in which a tick on the model of `pipeline` is rehearsed after each millisecond asleep."""
    rehearsal = Rehearsal(pipeline)

    def pause(seconds: float) -> None:
        end_s = time.perf_counter() + seconds
        while (left_s := end_s - time.perf_counter()) > STEP_S:
            time.sleep(STEP_S)
            rehearsal.step()
        time.sleep(max(left_s, 0.0))

    return pause
