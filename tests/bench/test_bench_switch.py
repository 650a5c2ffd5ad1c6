"""`mambalob bench switch`, and that its account of ticks finds what is wrong with them."""

import json

import pytest
from click.testing import CliRunner

from bench.frame_source import kept_in_memory, seeded_source
from bench.switching import INTERVAL_NS, Mode, SwitchingService, Ticks, _late
from inference.registry import load_model, shipped_models
from mambalob import main

SHIPPED = ("sim-ssd-small", "btc-perp-ssd-small")


@pytest.mark.slow
def test_the_command_accounts_for_every_switch_and_every_tick() -> None:
    arguments = ["bench", "switch", "--size", "nano", "--switches", "6", "--seconds", "1", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    subjects = [one["subject"] for one in report["results"]]
    assert subjects == ["tick-steady", "tick-loaded", "tick-anew", "switch-loaded", "switch-anew"]
    for counts, switches in zip(report["switching"], (0, 6, 6), strict=True):
        assert counts["switches"] == counts["switches_seen"] == switches
        assert counts["missed"] == counts["doubled"] == 0
        assert counts["ticks"] >= 5_000
    assert len(report["machine"]["targets"]) == 2
    assert report["machine"]["garbage_collector"].startswith("on")


@pytest.mark.anyio
@pytest.mark.parametrize(("mode", "engine"), [("loaded", "auto"), ("anew", "auto"), ("anew", "ort-step")])
async def test_every_switch_is_seen_and_every_tick_accounted_for(mode: Mode, engine: str) -> None:
    source = kept_in_memory(seeded_source(1), 5_000)
    versions = [load_model(name).manifest.version for name in SHIPPED]
    names = [f"{name}@{version}" for name, version in zip(SHIPPED, versions, strict=True)]
    service = SwitchingService(source, shipped_models(), names, engine)
    try:
        counts = service.counts(await service.run(mode, switches=4, ticks=600, seed=1))
    finally:
        service.switcher.close()
    assert counts.switches == counts.switches_seen == 4
    assert (counts.missed, counts.doubled) == (0, 0)
    assert counts.ticks >= 600


@pytest.mark.anyio
async def test_a_tick_that_was_lost_or_came_twice_is_found() -> None:
    source = kept_in_memory(seeded_source(1), 300)
    service = SwitchingService(source, shipped_models(), ["sim-ssd-small"], "auto")
    found = await service.run("steady", switches=0, ticks=400, seed=1)
    counts = service.counts(found)
    assert (counts.missed, counts.doubled) == (0, 0)
    predictions = [place for place, text in enumerate(found.texts) if '"type":"prediction"' in text]
    spoilt = Ticks("steady", **{k: list(v) for k, v in vars(found).items() if k != "mode"})
    spoilt.expected.append(10**9)
    assert service.counts(spoilt).missed == 1
    lost = found.texts[predictions[-1]]
    found.texts[predictions[-1]] = found.texts[predictions[-1]].replace('"update_id":', '"update_id":1')
    assert lost not in found.texts
    assert service.counts(found).missed >= 1


def test_waiting_for_a_core_is_told_from_lateness_of_its_own() -> None:
    def late(latency_us: list[int], waited_us: list[int]) -> tuple[int, int | None]:
        ticks = Ticks("steady")
        ticks.latency_ns = [1_000 * one for one in latency_us]
        ticks.waited_ns = [1_000 * one for one in waited_us]
        return _late(ticks)

    assert INTERVAL_NS == 200_000
    assert late([10, 1_500, 1_400, 10], [1, 0, 0, 0]) == (2, 2)
    assert late([10, 1_500, 1_400, 1_300, 10], [0, 1_490, 0, 0, 0]) == (3, 0)  # the others queued behind it
    assert late([10, 2_600, 10], [0, 1_490, 0]) == (1, 1)
    assert late([10, 1_500], [0, 0]) == (1, None)  # nothing is known of waiting
