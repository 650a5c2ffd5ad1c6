"""Compiling every kernel of the serving path before its first frame: it is run on the simulated market."""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from numba.core.dispatcher import Dispatcher

from inference.artifact import Artifact
from inference.calibration import Calibration
from inference.fused.compiled_step import compiled_steps
from inference.fused.tick import compiled_ticks
from inference.pipeline import Pipeline
from lob.market import SimulatedMarket
from lob.rows import RowPath
from lob.venues import make_decoder

MARKET_FRAMES = 300


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """What a first run came to: kernels ready, how many were compiled for it, predictions by model."""

    kernels: int
    compiled_now: int
    seconds: float
    predictions: dict[str, int]


def compile_kernels(artifacts: Mapping[str, Artifact], precision: str = "float32") -> Compilation:
    """Run rows, and each of `artifacts` in `precision`, on the simulated market; raises as engines do.

    What they are called here is what their predictions are counted under.

    Compiled kernels stay in Numba's cache, so the next process loads them. Without compilation
    (NUMBA_DISABLE_JIT) no kernel is counted.
    """
    started = time.perf_counter()
    compiled_before = _compiled()
    market = SimulatedMarket()
    instrument = market.configuration.instrument
    frames = list(market.frames(MARKET_FRAMES))
    rows = RowPath(make_decoder("bybit"), instrument)
    for receive_ns, frame in frames:
        rows.on_frame(frame, receive_ns)
    Calibration((1.0,), 3).apply(rows.window.latest()[None, :3])
    predictions: dict[str, int] = {}
    for name, artifact in artifacts.items():
        pipeline = Pipeline.create(artifact, instrument, precision=precision)
        pipeline.on_connected()
        for receive_ns, frame in frames:
            pipeline.on_frame(frame, receive_ns)
        predictions[name] = pipeline.counters["predictions"]
    return Compilation(
        kernels=sum(bool(kernel.signatures) for kernel in loaded_kernels()),
        compiled_now=_compiled() - compiled_before,
        seconds=time.perf_counter() - started,
        predictions=predictions,
    )


def loaded_kernels() -> Iterator[Dispatcher]:
    """The jitted functions of `lob` and `inference` in the modules imported so far, each once.

    Also the steps and ticks made so far for an architecture's sizes, and not the parts they are composed of.
    """
    made = (*compiled_steps(), *compiled_ticks())
    yield from (kernel for kernel in made if isinstance(kernel, Dispatcher))
    seen: set[int] = set()
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] not in {"lob", "inference"}:
            continue
        for value in vars(module).values():
            if isinstance(value, Dispatcher) and id(value) not in seen and not _is_part(value):
                seen.add(id(value))
                yield value


def _is_part(kernel: Dispatcher) -> bool:
    """Whether it is only ever compiled into the kernel that calls it."""
    return bool(kernel.targetoptions.get("forceinline"))


def _compiled() -> int:
    """How many specialisations of kernels this process has compiled rather than taken from the cache."""
    return sum(len(kernel.signatures) - sum(kernel.stats.cache_hits.values()) for kernel in loaded_kernels())
