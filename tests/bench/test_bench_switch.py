"""`mambalob bench switch`, and that its account of ticks finds what is wrong with them."""

import copy
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import deque

import msgspec
import pytest
from click.testing import CliRunner

from bench.frame_source import kept_in_memory, seeded_source
from bench.switching import (
    INTERVAL_NS,
    Mode,
    SwitchCounts,
    SwitchingService,
    Ticks,
    _core_watch,
    _late,
)
from inference.registry import load_model, shipped_models
from mambalob import main

SHIPPED = ("sim-ssd-small", "btc-perp-ssd-small")


@pytest.mark.slow
def test_the_command_accounts_for_every_switch_and_every_tick() -> None:
    arguments = ["bench", "switch", "--size", "nano", "--switches", "6", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    subjects = [one["subject"] for one in report["results"]]
    assert subjects == ["tick-steady", "tick-loaded", "tick-anew", "switch-loaded", "switch-anew"]
    for counts, switches in zip(report["switching"], (0, 6, 6), strict=True):
        assert counts["switches"] == counts["switches_seen"] == switches
        assert counts["missed"] == counts["doubled"] == 0
        assert counts["ticks"] >= report["switching"][2]["ticks"]
    assert len(report["machine"]["targets"]) == 2
    assert report["machine"]["garbage_collector"].startswith("on")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mode", "engine"), [("loaded", "auto"), ("anew", "auto"), ("anew", "ort-step"), ("loaded", "ort-window")]
)
async def test_every_switch_is_seen_and_every_tick_accounted_for(mode: Mode, engine: str) -> None:
    source = kept_in_memory(seeded_source(1), 5_000)
    versions = [load_model(name).manifest.version for name in SHIPPED]
    names = [f"{name}@{version}" for name, version in zip(SHIPPED, versions, strict=True)]
    service = SwitchingService(source, shipped_models(), names, engine)
    try:
        counts = service.counts(await service.run(mode, switches=4, ticks=600, pauses=random.Random(1)))
    finally:
        await service.switcher.stop()
    assert counts.switches == counts.switches_seen == 4
    assert (counts.missed, counts.doubled) == (0, 0)
    assert counts.ticks >= 600


@pytest.mark.anyio
async def test_a_tick_that_was_lost_or_came_twice_is_found() -> None:
    source = kept_in_memory(seeded_source(1), 300)
    service = SwitchingService(source, shipped_models(), ["sim-ssd-small"], "auto")
    found = await service.run("steady", switches=0, ticks=400, pauses=random.Random(1))
    counts = service.counts(found)
    assert (counts.missed, counts.doubled) == (0, 0)
    assert counts.ticks == 400
    predictions = [place for place, text in enumerate(found.texts) if '"type":"prediction"' in text]
    spoilt = copy.deepcopy(found)
    spoilt.expected.append(10**9)
    assert service.counts(spoilt).missed == 1
    last, before = predictions[-1], predictions[-2]
    own, other = (re.search(r'"update_id":\d+', found.texts[place])[0] for place in (last, before))
    found.texts[last] = found.texts[last].replace(own, other)
    counts = service.counts(found)
    assert (counts.missed, counts.doubled) == (1, 1)


def test_ticks_late_for_want_of_a_core_are_told_from_those_late_with_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late(latency_us: list[int], without_core_us: list[int]) -> tuple[int, int | None]:
        ticks = Ticks("steady")
        ticks.latency_ns = deque(1_000 * one for one in latency_us)
        ticks.without_core_ns = deque(1_000 * one for one in without_core_us)
        return _late(ticks)

    assert INTERVAL_NS == 200_000
    assert late([10, 1_500, 1_400, 10], [1, 0, 0, 0]) == (2, 2)
    assert late([10, 1_500, 1_400, 1_300, 10], [0, 1_490, 0, 0, 0]) == (3, 0)  # the others queued behind it
    assert late([10, 2_600, 10], [0, 1_490, 0]) == (1, 1)
    # While the queue of a loss is worked off something of our own holds up a tick: late without the loss too.
    assert late([10, 1_500, 1_350, 1_200, 1_050, 900, 1_900], [0, 1_490, 0, 0, 0, 0, 0]) == (5, 1)
    assert late([10, 1_100, 10], [0, 190, 0]) == (1, 1)  # lost before the tick was due
    monkeypatch.delattr("bench.switching.resource.RUSAGE_THREAD")
    assert late([10, 1_500], [0, 1_490]) == (1, None)  # the system does not tell


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' scheduler")
def test_a_core_that_another_process_has_is_noticed_and_a_sleep_of_ones_own_is_not_held_against_it() -> None:
    own = os.sched_getaffinity(0)
    core = min(own)
    command = (
        sys.executable,
        "-c",
        f"import os; os.sched_setaffinity(0, {{{core}}}); print()\nwhile True: 1",
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            os.sched_setaffinity(0, {core})
            other.stdout.readline()
            without_core_ns = _core_watch()
            lost_ns, until = 0, time.perf_counter() + 0.5
            while time.perf_counter() < until:
                lost_ns += without_core_ns()
            time.sleep(0.1)
            slept_ns = without_core_ns()
        finally:
            os.sched_setaffinity(0, own)
            other.kill()
    assert lost_ns > 50_000_000  # about half of it
    assert slept_ns == 0


def test_turns_of_a_mode_are_counted_together() -> None:
    one = SwitchCounts(
        mode="anew",
        turns=1,
        ticks=7,
        switches=2,
        switches_seen=2,
        missed=1,
        doubled=0,
        late=3,
        turns_with_late=1,
        late_with_core=2,
    )
    other = msgspec.structs.replace(one, ticks=5, late=0, turns_with_late=0, late_with_core=0)
    both = msgspec.structs.replace(one, turns=2, ticks=12, switches=4, switches_seen=4, missed=2)
    assert one + other == both
    untold = msgspec.structs.replace(other, late_with_core=None)
    assert (one + untold).late_with_core is None
