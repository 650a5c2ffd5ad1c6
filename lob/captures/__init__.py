"""Capture files of order-book feeds: read lazily, told apart by content, written in our own format."""

from lob.captures.capture import Capture, open_capture, open_captures
from lob.captures.frames import CapturedFrame, InstrumentHint
from lob.captures.recording import RecordingWriter

__all__ = ["Capture", "CapturedFrame", "InstrumentHint", "RecordingWriter", "open_capture", "open_captures"]
