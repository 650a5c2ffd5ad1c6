"""The command `bench requests`: a real service is asked; no test looks at how long anything took."""

import asyncio
from array import array
from time import perf_counter_ns

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench.commands.bench import command
from bench.commands.requests import longest_turn
from bench.loop_turns import ROUTES, TurnWatch
from bench.report import Report
from mambalob import main


def run(*arguments: str) -> Result:
    few = ["--symbols", "3", "--requests", "2", "--idle-s", "0.3"]
    return CliRunner().invoke(command, ["requests", *few, *arguments], catch_exceptions=False)


def test_every_route_has_its_turns_its_longest_and_its_answers() -> None:
    result = run("--json")
    assert result.exit_code == 0
    report = msgspec.json.decode(result.stdout, type=Report)
    by_name = {one.subject: one for one in report.results}
    assert by_name["longest-idle"].count == 3
    for route in ROUTES:
        turns, longest, answers = (by_name[f"{name}-{route}"] for name in ("turn", "longest", "answer"))
        assert longest.count == answers.count == 2
        assert turns.count > longest.count
        assert longest.max == turns.max
    assert {one.model for one in report.results} == {"3 symbols"}
    assert len(report.machine.targets) == 1 + len(ROUTES)


def test_the_table_says_what_the_longest_turns_took_of_the_processor() -> None:
    result = run("--route", "/v1/symbols", "--route", "/v1/book/{symbol}")
    assert result.exit_code == 0
    assert "turn-/v1/book/{symbol}" in result.stdout
    assert "/v1/symbols, 3 symbols: the longest turn of a request takes " in result.stdout
    assert "/metrics" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--route", "metrics"], "--route: 'metrics' came; a path that begins with / is allowed"),
        (["--model", "no-such-model"], "model: 'no-such-model' came"),
    ],
)
def test_what_cannot_be_run_is_an_error(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["bench", "requests", *arguments])
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_a_turn_counts_for_each_request_that_it_overlaps() -> None:
    watch = TurnWatch()
    ends_us, used_us = [10, 20, 60, 65, 70, 200, 0], [10, 20, 30, 35, 40, 50, 0]  # zeros are not written yet
    noted = [1_000 * one for pair in zip(ends_us, used_us, strict=True) for one in pair]
    watch._chunks = [array("q", noted[:6]), array("q", noted[6:])]
    requests = [
        (12, 18),
        (25, 62),
        (62, 68),
        (75, 90),
    ]  # in us; all of the second turn is in none but the second
    found = watch.within("/slow", 1_000 * np.array(requests, dtype=np.int64))
    assert found.longest_ns.tolist() == [10_000, 40_000, 5_000, 130_000]
    assert found.processor_ns.tolist() == [10_000, 10_000, 5_000, 10_000]
    assert found.turns_ns.tolist() == [10_000, 40_000, 5_000, 5_000, 5_000, 130_000]
    assert found.answers_ns.tolist() == [6_000, 37_000, 6_000, 15_000]
    said = longest_turn(found, 5)
    assert said == (
        "/slow, 5 symbols: the longest turn of a request takes 0.01 ms of the processor "
        "(p50 of 4; 0.01 at most), target below 1 ms"
    )
    found.processor_ns[:] = 2_000_000
    assert longest_turn(found, 5).endswith("target below 1 ms (missed)")


@pytest.mark.anyio
async def test_each_turn_of_the_loop_is_noted() -> None:
    watch, begin_ns = TurnWatch(), perf_counter_ns()
    watching = asyncio.create_task(watch.run())
    for _ in range(5_000):  # more than a chunk's
        await asyncio.sleep(0)
    watching.cancel()
    found = watch.within("", np.array([[begin_ns, perf_counter_ns()]], dtype=np.int64))
    assert found.turns_ns.size == 5_000 - 2
