"""What models in the shadow say, written down beside what was published: bounded in memory and on the disk.

`put` is called between ticks and leaves two references behind; a thread encodes and writes them. Where the
disk does not keep up, or refuses, records are dropped and counted, and the service goes on.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inference.prediction import Prediction
from lob.errors import InputError

logger = logging.getLogger(__name__)

FILE = "shadow.jsonl"


class ShadowRecord(msgspec.Struct):
    """One line: the prediction that was published of a row, and the shadow's own, which was not."""

    published: Prediction
    shadow: Prediction


@dataclass(frozen=True, kw_only=True)
class ShadowLogConfig:
    """Where the records go, and how much is kept.

    A file that has reached `file_bytes` is renamed to `shadow.1.jsonl`, that one to `shadow.2.jsonl`, and so
    on; `files` are kept in all. At most `waiting` records wait for the disk.
    """

    directory: Path
    file_bytes: int = 64 << 20
    files: int = 4
    waiting: int = 10_000
    interval_s: float = 0.25

    def __post_init__(self) -> None:
        for name, value in (
            ("file_bytes", self.file_bytes),
            ("files", self.files),
            ("waiting", self.waiting),
            ("interval_s", self.interval_s),
        ):
            if value <= 0:
                raise InputError(f"{name}: {value} came; allowed: above 0")


class ShadowLog:
    """Records in files that rotate; `config` None keeps none. Raises InputError where the folder refuses."""

    def __init__(self, config: ShadowLogConfig | None) -> None:
        self.config = config
        self.written = 0
        self.dropped = 0
        """Records that found no room, or that the disk refused."""
        self._waiting: deque[ShadowRecord] = deque()
        self._encoder = msgspec.json.Encoder()
        if config is not None:
            try:
                config.directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{config.directory}: cannot be made ({error.strerror})") from error

    def put(self, published: Prediction, own: Prediction) -> None:
        """Leave a record to be written."""
        if self.config is None:
            return
        if len(self._waiting) >= self.config.waiting:
            self.dropped += 1
            return
        self._waiting.append(ShadowRecord(published, own))

    async def run(self) -> None:
        """Write what waits, again and again, until cancelled; what waits then is written too."""
        if self.config is None:
            return
        try:
            while True:
                await asyncio.sleep(self.config.interval_s)
                if self._waiting:
                    await asyncio.to_thread(self.write_waiting)
        finally:
            self.write_waiting()

    def write_waiting(self) -> None:
        """Write what waits now; on the calling thread."""
        config = self.config
        assert config is not None, "nothing waits where nothing is kept"
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        kept, count = self.written, len(batch)
        try:
            while batch:
                batch = self._fill(config, batch)
        except OSError as error:
            self.dropped += count - (self.written - kept)
            logger.warning("%s: shadow records are lost: %s", config.directory, error.strerror or error)

    def _fill(self, config: ShadowLogConfig, batch: list[ShadowRecord]) -> list[ShadowRecord]:
        """Append to the newest file until it is full; answers what is left, for the next one."""
        path = config.directory / FILE
        with path.open("ab") as file:
            room = config.file_bytes - file.tell()
            for place, record in enumerate(batch):
                line = self._encoder.encode(record) + b"\n"
                if len(line) > room and file.tell():
                    rest = batch[place:]
                    break
                room -= file.write(line)
                self.written += 1
            else:
                return []
        _rotate(config)
        return rest


def _rotate(config: ShadowLogConfig) -> None:
    """Rename every file to the next number; the last is replaced by the one before."""
    names = [FILE, *(f"shadow.{number}.jsonl" for number in range(1, config.files))]
    paths = [config.directory / name for name in names]
    if len(paths) == 1:
        paths[0].unlink()
    for older, newer in zip(reversed(paths[1:]), reversed(paths[:-1]), strict=True):
        if newer.exists():
            newer.replace(older)
