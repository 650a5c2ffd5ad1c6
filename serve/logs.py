"""Log lines of a serving process: one line each, time, level, place, words; nothing is logged per tick."""

import logging
import sys


class OneLineFormatter(logging.Formatter):
    """Formats a record on one line, a traceback included."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record's line; line breaks inside it become ` | `."""
        return " | ".join(super().format(record).splitlines())


def configure_logging(level: str) -> None:
    """Send this process's log lines at `level` and above to stderr; the libraries' warnings alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("serve").setLevel(level.upper())
