"""A second model on the rows of a pipeline: it catches up on those the window holds, then keeps up.

Nothing here runs within a tick. Whoever owns the pipeline calls `catch_up` between frames, with as many rows
at a time as it has time for; the rows are those of the pipeline's own window, so nothing is computed twice
but the model itself.

How much of the past a model of context `stream` gets this way: every row since the book's snapshot where the
window of L rows still holds them all, and its answers are then bit for bit those it would have given had it
been there from the snapshot on; else it starts from state zero at the oldest row the window held when it
began, L rows ago. It answers once it has taken `warmup_rows` rows, which the window holds at once where
`warmup_rows` is at most L. A model of context `window` needs the L rows of the window and nothing else.
"""

from inference.artifact import Artifact
from inference.engines.engine import Engine, Logits
from inference.pipeline import require_rows_of
from lob.errors import InputError
from lob.rows import RowPath


def require_window_of(artifact: Artifact, rows: RowPath) -> None:
    """Raise InputError where a model cannot be brought in on the window of `rows`."""
    require_rows_of(artifact, rows)
    came, allowed = rows.window.length, artifact.manifest.window_length
    if came != allowed:
        raise InputError(f"window_length: {came} came, model {artifact.name} allows {allowed}")


class Follower:
    """One model beside a pipeline's own, on the same rows; `engine` is made for their window.

    Raises InputError where the rows are not what the model was trained on, or their window has another
    length.
    """

    def __init__(self, rows: RowPath, engine: Engine, artifact: Artifact) -> None:
        require_window_of(artifact, rows)
        self.artifact = artifact
        self.engine = engine
        self.taken = 0
        """The newest row it has seen, by `RowPath.taken`."""
        self.restarts = 0
        """How often it began anew: at each book, and where rows had left the window before it took them."""
        self._rows = rows
        self._books = -1
        self._keeps_state = engine.describe()["context"] == "stream"
        self._logits: Logits | None = None

    @property
    def behind(self) -> int:
        """How many rows of the window it has not seen."""
        rows = self._rows
        if rows.books != self._books:
            return rows.window.count
        return min(rows.taken - self.taken, rows.window.count)

    @property
    def newest_logits(self) -> Logits | None:
        """Its answer (H, C) to the newest row it has seen, until the next `catch_up`; None while warming."""
        return self._logits

    @property
    def logits(self) -> Logits | None:
        """Its answer (H, C) to the newest row, until the next `catch_up`; None where it has none."""
        rows = self._rows
        current = rows.books == self._books and rows.taken == self.taken and rows.window.count
        return self._logits if current else None

    def catch_up(self, most_rows: int) -> int:
        """Take at most `most_rows` of the rows it has not seen, oldest first; answers how many remain."""
        rows = self._rows
        ring = rows.window
        taken, count = rows.taken, ring.count
        behind = taken - self.taken
        if rows.books != self._books or behind > count:
            self.engine.reset()
            self.restarts += 1
            self._books = rows.books
            self._logits = None
            behind = count
        if not self._keeps_state and behind > 0:
            most_rows = behind = 1  # the window is all it reads
        push = self.engine.push
        now = min(behind, most_rows)
        for age in range(behind - 1, behind - 1 - now, -1):
            self._logits = push(ring.row(age))
        behind -= now
        self.taken = taken - behind
        return behind
