"""How a peer's model is called at every row: four ways, each with an engine's `push(row)`.

A caller writes the row into the ring first. What `push` answers is overwritten by the next one.
"""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from bench.row_tape import Rows
from inference.engines.prepared_run import prepared_run
from lob.window import RingWindow


class DictionaryCall:
    """`session.run` with names and a dictionary, as onnxruntime is usually called."""

    def __init__(self, session: ort.InferenceSession, ring: RingWindow) -> None:
        """The graph's input `input` (1, L, F) is the window of `ring`, its output `output`."""
        self._session, self._ring = session, ring

    def push(self, row: Rows) -> Rows:
        """Run over the window, whose newest row is `row`."""
        answer: Rows = self._session.run(["output"], {"input": self._ring.window()[np.newaxis]})[0]
        return answer


class EagerCall:
    """A PyTorch model called as it is, on the ring's memory."""

    def __init__(self, model: nn.Module, ring: RingWindow) -> None:
        self._model, self._ring = model, ring

    def push(self, row: Rows) -> Rows:
        """Run over the window, whose newest row is `row`."""
        with torch.inference_mode():
            answer: Rows = self._model(torch.from_numpy(self._ring.window()).unsqueeze(0)).numpy()
        return answer


class BoundWindowCall:
    """As `ort-window`: one prepared call a ring position, on the ring's memory."""

    def __init__(self, session: ort.InferenceSession, ring: RingWindow) -> None:
        """The graph's input `window` (1, L, F) is the window of `ring`, its one output `answer`."""
        self._ring = ring
        self._answer = np.zeros(tuple(session.get_outputs()[0].shape), np.float32)
        shape = (1, ring.length, ring.feature_count)
        self._runs = [
            prepared_run(
                session,
                {"window": ring.storage[position + 1 : position + 1 + ring.length].reshape(shape)},
                {"answer": self._answer},
            )
            for position in range(ring.length)
        ]

    def push(self, row: Rows) -> Rows:
        """Run over the window, whose newest row is `row`."""
        self._runs[self._ring.position]()
        return self._answer


class BoundStepCall:
    """As `ort-step`: the state stands twice in memory, and two prepared calls take turns."""

    def __init__(
        self, session: ort.InferenceSession, features: int, state_names: Sequence[str], units: int
    ) -> None:
        """Inputs `row` (1, 1, F) and `<state>_in`, outputs `answer` (1, 1) and `<state>_out`, (1, 1, U)."""
        self._row = np.zeros((1, 1, features), np.float32)
        self._answer = np.zeros((1, 1), np.float32)
        first, second = (
            {name: np.zeros((1, 1, units), np.float32) for name in state_names} for _ in range(2)
        )
        self._states = first, second  # the calls hold their addresses alone
        self._runs = [
            prepared_run(
                session,
                {"row": self._row, **{f"{name}_in": array for name, array in before.items()}},
                {"answer": self._answer, **{f"{name}_out": array for name, array in after.items()}},
            )
            for before, after in ((first, second), (second, first))
        ]
        self._turn = 0

    def push(self, row: Rows) -> Rows:
        """Take one step with `row` (F,)."""
        self._row[0, 0] = row
        turn = self._turn
        self._runs[turn]()
        self._turn = 1 - turn
        return self._answer

    def reset(self) -> None:
        """State zero."""
        for state in self._states:
            for array in state.values():
                array.fill(0.0)
        self._turn = 0
