"""Compiling leaves no kernel of the serving path to be compiled by a first frame."""

from pathlib import Path

import pytest
from numba.core import config

from inference.artifact import Artifact
from inference.compilation import compile_kernels, loaded_kernels
from inference.pipeline import Pipeline
from lob.captures import open_capture
from lob.instrument import Instrument

BYBIT_SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled: NUMBA_DISABLE_JIT is set")
def test_real_frames_compile_nothing_after_it(artifact: Artifact, data_dir: Path) -> None:
    compilation = compile_kernels({"tiny": artifact})
    assert compilation.predictions["tiny"] > 200
    assert compilation.kernels > 5
    before = [len(kernel.signatures) for kernel in loaded_kernels()]
    pipeline = Pipeline.create(artifact, Instrument(symbol="BTCUSDT", tick_size="0.1"))
    pipeline.on_connected()
    for receive_ns, frame in open_capture(data_dir / BYBIT_SPOT):
        pipeline.on_frame(frame, receive_ns)
    assert pipeline.counters["predictions"] > 500
    assert [len(kernel.signatures) for kernel in loaded_kernels()] == before


def test_without_a_model_the_rows_are_run() -> None:
    assert compile_kernels({}).predictions == {}


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled: NUMBA_DISABLE_JIT is set")
def test_a_second_one_compiles_nothing(artifact: Artifact) -> None:
    compile_kernels({"tiny": artifact})
    assert compile_kernels({"tiny": artifact}).compiled_now == 0
