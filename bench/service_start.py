"""A serving process from its start: when it listens, when it is ready, and what memory it then holds.

It is `mambalob serve` itself in a child process, connected to a local exchange that is there before. The
first start of a run is not counted: it may have kernels to compile.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from lob.errors import InputError
from serve.child_process import ChildProcess
from serve.http_get import HttpError, http_get

START_S: Final = 300.0
READY_S: Final = 60.0
POLL_S: Final = 0.005
ANSWER_S: Final = 10.0
MEMORY: Final = "process_resident_memory_bytes"
PROCESSOR: Final = "process_cpu_seconds_total"


@dataclass(frozen=True, kw_only=True)
class ServiceStart:
    """One start, in nanoseconds from the order to start the process."""

    listening_ns: int
    """Until it says where it listens: imports, model, kernels from the cache, engine probed and warm."""
    ready_ns: int
    """Until `/readyz` says that the symbol is live: connected, snapshot applied, the model's first rows."""
    processor_ns: int | None
    """Processor time it took until then; None where the system does not say."""
    resident_bytes: int | None
    """Memory it holds then; None where the system does not say."""
    engine: str


async def measure_starts(model: str, *, runs: int) -> list[ServiceStart]:
    """Start the service `runs` times with `model`, one process after the other.

    Raises ChildError where it does not come up, InputError where it does not become ready.
    """
    async with ChildProcess("exchange", "--simulate", "--port", "0") as exchange:
        await exchange.start(START_S)
        url = str(exchange.report["url"])
        starts = [await _measure(url, model) for _ in range(runs + 1)]
    return starts[1:]


async def _measure(url: str, model: str) -> ServiceStart:
    service = ChildProcess("serve", "--symbol", "BTCUSDT", "--url", url, "--model", model, "--port", "0")
    async with service:
        start_ns = perf_counter_ns()
        await service.start(START_S)
        listening_ns = perf_counter_ns() - start_ns
        address = str(service.report["url"])
        await _until_ready(address)
        ready_ns = perf_counter_ns() - start_ns
        metrics = http_get(f"{address}/metrics", timeout_s=ANSWER_S).decode()
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if sample.name in {MEMORY, PROCESSOR}
        }
        return ServiceStart(
            listening_ns=listening_ns,
            ready_ns=ready_ns,
            processor_ns=round(values[PROCESSOR] * 1e9) if PROCESSOR in values else None,
            resident_bytes=int(values[MEMORY]) if MEMORY in values else None,
            engine=str(service.report["engine"]),
        )


async def _until_ready(address: str) -> None:
    deadline_ns = perf_counter_ns() + READY_S * 1e9
    while True:
        try:
            http_get(f"{address}/readyz", timeout_s=ANSWER_S)
        except HttpError as error:
            if perf_counter_ns() > deadline_ns:
                reason = f"the service was not ready {READY_S:g} s after it listened: {error}"
                raise InputError(reason) from None
            await asyncio.sleep(POLL_S)
        else:
            return
