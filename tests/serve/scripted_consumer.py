"""A consumer whose wishes the test sets; a `serve.frame_consumer.FrameConsumer`."""

import json


class Consumer:
    """A consumer of one topic that writes down what it is told, and whose wishes the test sets."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.books: list[int] = []
        self.others: list[bytes] = []
        self.unnamed: list[tuple[bytes, bool]] = []
        self.needs_resync = False
        self.awaits_snapshot = False
        self.keeps_book = True
        self.reason = "the test says so"
        self.unreadable_frames = 0
        self.resyncs = 0

    def on_connected(self) -> None:
        self.events.append("connected")

    def on_disconnected(self, reason: str) -> None:
        self.events.append(reason)

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        if frame.startswith(b"{") and b'"cts"' in frame:
            self.books.append(json.loads(frame)["data"]["u"])
        else:
            self.others.append(frame)

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None:
        self.unnamed.append((frame, readable))

    def check_freshness(self, now_ns: int) -> None:
        pass

    def resync_requested(self) -> None:
        self.needs_resync = False
        self.resyncs += 1
