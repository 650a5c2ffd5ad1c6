"""What an exchange said of its instruments, kept on disk for the time when it does not answer."""

import logging
import os
import re
import sys
import time
from pathlib import Path

import msgspec

from lob.errors import InputError
from lob.instrument import Instrument
from lob.name_aside import name_aside

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1


class InstrumentInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instrument as an exchange described it at `fetched_ms`; `lot_size` is empty where it named none."""

    source: str
    """Host and port that answered."""
    category: str
    symbol: str
    tick_size: str
    lot_size: str
    fetched_ms: int
    format_version: int = FORMAT_VERSION

    @property
    def instrument(self) -> Instrument:
        """Its price grid; raises InputError where the tick size is none."""
        return Instrument(symbol=self.symbol, tick_size=self.tick_size)

    def age_s(self) -> float:
        """Seconds since the exchange said so."""
        return max(0.0, time.time() - self.fetched_ms / 1_000)


class InstrumentCache:
    """One JSON file an instrument, below `directory`; what cannot be read is as if it were not there.

    A cache is a convenience: no trouble with it may keep a service from starting, so trouble is only logged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, source: str, category: str, symbol: str) -> InstrumentInfo | None:
        """The last answer that was kept; None where there is none that can be used."""
        path = self._path(source, category, symbol)
        try:
            info = msgspec.json.decode(path.read_bytes(), type=InstrumentInfo)
            _ = info.instrument
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError) as error:
            logger.warning("%s cannot be used: %s", path, error)
            return None
        asked_for = (FORMAT_VERSION, source, category, symbol)
        if (info.format_version, info.source, info.category, info.symbol) != asked_for:
            logger.warning("%s cannot be used: it is of another instrument or format", path)
            return None
        return info

    def write(self, info: InstrumentInfo) -> None:
        """Keep an answer in place of the one before; a reader sees the old or the new, never a part."""
        path = self._path(info.source, info.category, info.symbol)
        beside = name_aside(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(info))
            beside.replace(path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", path, error.strerror or error)
        finally:
            _remove(beside)

    def _path(self, source: str, category: str, symbol: str) -> Path:
        names = [re.sub(r"[^A-Za-z0-9-]", "_", name) for name in (source, category, symbol)]
        return self.directory.joinpath("instruments", *names[:2], f"{names[2]}.json")


def default_cache_dir() -> Path:
    """The platform's place for what can be had again, with a folder of our own in it."""
    home = Path.home()
    if sys.platform == "win32":
        place = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        place = home / "Library" / "Caches"
    else:
        place = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return place / "mambalob"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s cannot be removed: %s", path, error.strerror or error)
