"""Engine `ort-window`: the window graph in onnxruntime over the last L rows, state from zero at every row.

The mirrored ring holds the last L rows as one contiguous block wherever its newest row stands, so there is
one prepared call per ring position and nothing is copied.
"""

import copy
from typing import Self

import numpy as np

from inference.artifact import Artifact
from inference.engines.engine import Description, Logits, Row
from inference.engines.ort_session import describe_graph, open_graph
from inference.engines.prepared_run import prepared_run
from inference.graph_interface import LOGITS, WINDOW, graph_inputs, graph_outputs
from lob.errors import ArtifactError
from lob.window import RingWindow


class OrtWindowEngine:
    """The window graph over a ring; answers as soon as the ring holds L rows."""

    name = "ort-window"

    def __init__(self, artifact: Artifact, ring: RingWindow, *, precision: str = "float32") -> None:
        """Open the window graph of `artifact` in `precision` on the memory of `ring`.

        Raises ArtifactError where the artifact has no window graph, it does not fit, or the ring is not (L,
        F).
        """
        self._artifact = artifact
        self._check_ring(ring)
        manifest, feature_count = artifact.manifest, artifact.schema.feature_count
        opened = open_graph(artifact.directory, "window", manifest, feature_count, precision=precision)
        self._session = opened.session
        self._description = describe_graph(self.name, opened, manifest)
        self._bind(ring)

    def _check_ring(self, ring: RingWindow) -> None:
        artifact = self._artifact
        manifest, feature_count = artifact.manifest, artifact.schema.feature_count
        if (ring.length, ring.feature_count) != (manifest.window_length, feature_count):
            raise ArtifactError(
                f"{artifact.directory}: window_length: a ring of {ring.length} rows of {ring.feature_count} "
                f"came, {manifest.window_length} rows of {feature_count} are allowed"
            )

    def _bind(self, ring: RingWindow) -> None:
        """Logits of this engine's own, and a prepared call for each position of `ring`.

        A session's weights do not change, and each call brings the memory it works on: engines share it.
        """
        manifest, feature_count = self._artifact.manifest, self._artifact.schema.feature_count
        shape = graph_inputs(manifest, "window", feature_count)[WINDOW]  # (1, L, F)
        logits = np.zeros(graph_outputs(manifest, "window")[LOGITS], np.float32)  # (1, H, C)
        length = ring.length
        self._ring = ring
        self._logits: Logits = logits[0]  # (H, C)
        self._runs = [
            prepared_run(
                self._session,
                {WINDOW: ring.storage[position + 1 : position + 1 + length].reshape(shape)},
                {LOGITS: logits},
            )
            for position in range(length)
        ]

    def push(self, row: Row) -> Logits | None:
        """Run over the ring, whose newest row is `row`; answer logits (H, C), or None below L rows."""
        ring = self._ring
        if ring.count < ring.length:
            return None
        self._runs[ring.position]()
        return self._logits

    @property
    def logits(self) -> Logits:
        """(H, C) of the newest row that was answered; a view, overwritten by the next."""
        return self._logits

    def reset(self) -> None:
        """Nothing is kept beside the ring, which its owner resets."""

    def another(self, ring: RingWindow) -> Self:
        """An engine for another symbol on the same session, bound to the memory of its `ring` (L, F)."""
        self._check_ring(ring)
        other = copy.copy(self)
        other._bind(ring)
        return other

    def describe(self) -> Description:
        """Model, engine, graph, precision, context, node count and versions."""
        return self._description
