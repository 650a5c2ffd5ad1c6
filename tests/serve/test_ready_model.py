"""Where a model is made ready: on the event loop what takes a turn's time, on a thread what takes longer."""

import asyncio
import sys
import threading
from pathlib import Path

import pytest

import serve.ready_model
from inference.artifact import Artifact
from inference.engines.engine import Engine
from inference.preparation import Preparation, Words, take
from inference.registry import load_model
from inference.rehearsal import REHEARSED_INSTRUMENT
from lob.rows import RowPath
from lob.venues import make_decoder
from lob.window import RingWindow
from serve.ready_model import TURN_S, ModelSource, _warm
from serve.turns import Turns
from tests.serve.preparing_program import program_that_chooses_pages
from tests.tiny_model import WINDOW_LENGTH

pytestmark = pytest.mark.anyio

Taken = list[tuple[threading.Thread, float]]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """On which thread, and with what switch interval, packed weights or a graph were taken."""
    noted: Taken = []

    def noting(preparation: Preparation, words: Words, ring: RingWindow) -> Engine:
        noted.append((threading.current_thread(), sys.getswitchinterval()))
        return take(preparation, words, ring)

    monkeypatch.setattr(serve.ready_model, "take", noting)
    return noted


def rows_for(model: str, models_dir: Path) -> dict[str, RowPath]:
    artifact = load_model(model, models_dir)
    path = RowPath(
        make_decoder("bybit"),
        REHEARSED_INSTRUMENT,
        artifact.schema,
        artifact.manifest.sampling,
        WINDOW_LENGTH,
        depth=50,
    )
    return {"BTCUSDT": path}


@pytest.mark.parametrize("engine", ["fused", "ort-step"])
async def test_kernels_that_run_already_need_no_thread(versions_dir: Path, engine: str, taken: Taken) -> None:
    rows = rows_for("tiny@1", versions_dir)
    source = ModelSource(
        models_dir=versions_dir, engine=engine, precision="float32", venue="bybit", depth=50, turns=Turns()
    )
    try:
        before = sys.getswitchinterval()
        first = (await source.ready("tiny@1", rows, []))["BTCUSDT"]
        second = (await source.ready("tiny@2", rows, [first]))["BTCUSDT"]
        again = (await source.ready("tiny@2", rows, [first, second]))["BTCUSDT"]
    finally:
        await source.close()
    assert (first.title, second.title, again.title) == ("tiny@1", "tiny@2", "tiny@2")
    assert {one.engine.name for one in (first, second, again)} == {engine}
    assert again.engine is not second.engine
    own, interval = threading.current_thread(), pytest.approx(TURN_S)
    (first_on, first_interval), (second_on, second_interval) = taken  # the third shares the second's
    assert first_on is not own
    assert first_interval == interval
    assert (second_on is own) == (engine == "fused")
    assert second_interval == (before if engine == "fused" else interval)
    assert sys.getswitchinterval() == before


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux' own")
async def test_weights_whose_pages_were_chosen_need_no_thread(
    versions_dir: Path, taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_for("tiny@1", versions_dir)
    source = ModelSource(
        models_dir=versions_dir, engine="fused", precision="float32", venue="bybit", depth=50, turns=Turns()
    )
    monkeypatch.setattr("serve.model_preparer.sys.executable", program_that_chooses_pages(tmp_path))
    try:
        first = (await source.ready("tiny@1", rows, []))["BTCUSDT"]
        second = (await source.ready("tiny@2", rows, [first]))["BTCUSDT"]
    finally:
        await source.close()
    own = threading.current_thread()
    assert [thread is own for thread, _ in taken] == [False, True]  # the first one's kernels are new here
    assert second.engine.describe()["pages"] == "chosen"


async def test_a_thread_that_nobody_waits_for_any_more_is_the_only_one(
    versions_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_for("tiny@1", versions_dir)
    source = ModelSource(
        models_dir=versions_dir,
        engine="ort-step",
        precision="float32",
        venue="bybit",
        depth=50,
        turns=Turns(),
    )
    begun, go_on, order = threading.Event(), threading.Event(), list[str]()

    def slow(engine: Engine, path: RowPath, artifact: Artifact) -> None:
        order.append(f"{artifact.manifest.version} begins")
        begun.set()
        assert go_on.wait(20)
        _warm(engine, path, artifact)
        order.append(f"{artifact.manifest.version} ends")

    monkeypatch.setattr(serve.ready_model, "_warm", slow)
    before = sys.getswitchinterval()
    try:
        given_up = asyncio.create_task(source.ready("tiny@1", rows, []))
        assert await asyncio.to_thread(begun.wait, 20)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        next_one = asyncio.create_task(source.ready("tiny@2", rows, []))
        await asyncio.sleep(0)
        while source._preparer._asking.locked():
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        go_on.set()
        await next_one
    finally:
        go_on.set()
        await source.close()
    assert order == ["1 begins", "1 ends", "2 begins", "2 ends"]
    assert sys.getswitchinterval() == before
