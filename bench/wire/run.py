"""A run over sockets: three processes, one phase after the other, and what came of each put together."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.frame_source import seeded_source
from bench.harness import Measured, TableRow
from bench.wire.phases import Phase
from bench.wire.processes import RemoteProcess, make_pipe, shared_cores
from bench.wire.served import Account, Served, Stamps, run_service
from bench.wire.source import Sent, run_source
from bench.wire.subscribers import Collect, Connect, Received, run_subscribers
from lob.errors import InputError
from serve.http_get import HttpError, http_get
from serve.keep_warm import KeepWarmPolicy

START_S: Final = 300.0
"""A process may take so long to be there; a first start compiles the kernels."""
ANSWER_S: Final = 30.0
"""Beyond what a phase takes by its schedule."""
CLOSED_FRAME_S: Final = 0.05
"""What a frame of a closed loop is given, beyond which the run counts as stuck."""
LEAD_IN: Final = 400
"""Frames before the first phase: the snapshot, and more than any engine needs to be warm."""


@dataclass(frozen=True, kw_only=True)
class PhaseOutcome:
    """A phase's durations, the whole way first, and the messages that did not come to every subscriber."""

    measured: list[Measured]
    is_open: bool
    """Whether its frames had intended times."""
    lost: int
    """Frames of which no prediction was published."""
    missed: int
    """Predictions that a fast subscriber did not get, over all of them: it was given a newer one."""
    missed_slow: int
    """The same of slow ones, at the end of the phase."""


@dataclass(frozen=True, kw_only=True)
class WireRun:
    """Everything of one run, phases in their order."""

    served: Served
    outcomes: list[PhaseOutcome]
    account: Account


def run_wire(
    phases: Sequence[Phase],
    *,
    seed: int,
    model: Path,
    keep_warm: KeepWarmPolicy,
    core: int | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> WireRun:
    """Send the frames of `seeded_source(seed)` in `phases` through a service with `model`.

    `model` is an artifact's directory. The service has `core` alone where one is given. Raises InputError for
    a core or a model it cannot have, ProcessEndedError where a process ends early.
    """
    frames = sum(phase.frames for phase in phases)
    updates = 1 + LEAD_IN + frames
    own, others = shared_cores(core)
    source = seeded_source(seed)
    receipts, receipts_end = make_pipe()
    taken: list[tuple[Sent, list[Received]]] = []
    with ExitStack() as stack:
        exchange = stack.enter_context(
            RemoteProcess("exchange", run_source, receipts, seed, LEAD_IN, frames, cores=others)
        )
        clients = stack.enter_context(
            RemoteProcess("subscribers", run_subscribers, receipts_end, cores=others)
        )
        url = f"ws://127.0.0.1:{exchange.receive(START_S)}/v5/public/linear"
        service = stack.enter_context(
            RemoteProcess(
                "service", run_service, url, source.instrument, model, keep_warm, updates, cores=own
            )
        )
        served = service.receive(START_S)
        if isinstance(served, str):
            raise InputError(served)
        assert isinstance(served, Served)
        exchange.receive(ANSWER_S)
        _wait_until_live(served.port)
        for number, phase in enumerate(phases):
            clients.send(
                Connect(
                    port=served.port,
                    symbol=source.instrument.symbol,
                    subscribers=phase.subscribers,
                    slow=phase.slow,
                )
            )
            clients.receive(ANSWER_S)
            exchange.send(phase)
            sent = exchange.receive(ANSWER_S + _longest_s(phase))
            clients.send(Collect(last_update_id=sent.updates.stop - 1))
            taken.append((sent, clients.receive(ANSWER_S)))
            if on_progress is not None:
                on_progress(number + 1, len(phases))
        service.send(None)
        account = service.receive(ANSWER_S)
    assert isinstance(account, Account)
    outcomes = [
        put_together(phase, served, sent, account.stamps, received)
        for phase, (sent, received) in zip(phases, taken, strict=True)
    ]
    return WireRun(served=served, outcomes=outcomes, account=account)


def put_together(
    phase: Phase, served: Served, sent: Sent, stamps: Stamps, received: Sequence[Received]
) -> PhaseOutcome:
    """The durations of a phase, from what was sent, when it passed the service, and what came.

    Raises InputError where nothing came at all.
    """
    updates = sent.updates
    received_ns, handled_ns = stamps.received_ns[updates], stamps.handled_ns[updates]
    predicted_ns, emitted_ns = stamps.predicted_ns[updates], stamps.emitted_ns[updates]
    emitted = emitted_ns > 0
    if not emitted.any():
        raise InputError(f"{phase.name}: none of {emitted.size:,} frames came to a prediction")
    ways, deliveries = [], []
    missed = missed_slow = 0
    for one in received:
        first, past = updates.start, updates.stop
        ours = (one.update_ids >= first) & (one.update_ids < past)  # else of the phase before, or the lead-in
        places = one.update_ids[ours] - first
        left_out = int(emitted.sum()) - places.size
        if one.slow:
            missed_slow += left_out
            continue
        missed += left_out
        ways.append(one.receipt_ns[ours] - sent.due_ns[places])
        deliveries.append(one.receipt_ns[ours] - emitted_ns[places])
    parts: list[tuple[str, str, NDArray[np.int64]]] = [
        ("", "from a frame's intended time to the receipt of its prediction", np.concatenate(ways)),
        ("sent", "from its intended time to the exchange's call that writes", sent.sent_ns - sent.due_ns),
        (
            "received",
            "from there until the service has read it from the socket",
            (received_ns - sent.sent_ns)[emitted],
        ),
        ("handled", "from there until it is its turn", (handled_ns - received_ns)[emitted]),
        ("predicted", "Pipeline.on_frame", (predicted_ns - handled_ns)[emitted]),
        ("emitted", "from the prediction to the hub's stamp", (emitted_ns - predicted_ns)[emitted]),
        ("delivered", "from there to a fast subscriber's reading of it", np.concatenate(deliveries)),
    ]
    if phase.schedule is None:
        del parts[1]  # nothing is intended in a closed loop
    measured = [
        Measured(
            subject=TableRow(
                name=f"wire-{phase.name}{':' if part else ''}{part}",
                model=served.model,
                precision=served.precision,
                method=f"{phase.method}; {method}" if not part else method,
            ),
            durations_ns=durations_ns,
        )
        for part, method, durations_ns in parts
    ]
    return PhaseOutcome(
        measured=measured,
        is_open=phase.schedule is not None,
        lost=int(emitted.size - emitted.sum()),
        missed=missed,
        missed_slow=missed_slow,
    )


def _longest_s(phase: Phase) -> float:
    due_ns = phase.due_ns()
    return phase.frames * CLOSED_FRAME_S if due_ns is None else float(due_ns[-1]) / 1e9


def _wait_until_live(port: int) -> None:
    """Return when every symbol is live; raises InputError where that takes too long."""
    deadline_s = time.monotonic() + ANSWER_S
    reason = ""
    while time.monotonic() < deadline_s:
        try:
            http_get(f"http://127.0.0.1:{port}/readyz", timeout_s=ANSWER_S)
        except HttpError as error:
            reason = str(error)
            time.sleep(0.05)
        else:
            return
    raise InputError(f"the service did not become live: {reason}")
