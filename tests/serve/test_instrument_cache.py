"""The kept answers: whole or not there, and never of another instrument."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from serve.instrument_cache import InstrumentCache, InstrumentInfo, default_cache_dir

NOW_MS = time.time_ns() // 1_000_000


def info(**options: object) -> InstrumentInfo:
    settings: dict[str, Any] = {
        "source": "api.bybit.com",
        "category": "linear",
        "symbol": "BTCUSDT",
        "tick_size": "0.10",
        "lot_size": "0.001",
        "fetched_ms": NOW_MS - 5_000,
    }
    return InstrumentInfo(**(settings | options))


def test_what_was_written_is_read_with_its_age(tmp_path: Path) -> None:
    cache = InstrumentCache(tmp_path / "new" / "folder")
    assert cache.read("api.bybit.com", "linear", "BTCUSDT") is None
    cache.write(info(tick_size="0.5"))
    cache.write(info())
    kept = cache.read("api.bybit.com", "linear", "BTCUSDT")
    assert kept == info()
    assert kept is not None
    assert kept.instrument.tick_mantissa == 1
    assert 5 <= kept.age_s() < 3_600  # the suite may take minutes to come here
    assert cache.read("api.bybit.com", "spot", "BTCUSDT") is None
    assert cache.read("127.0.0.1:9001", "linear", "BTCUSDT") is None
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1  # nothing is left beside it


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-10],
        lambda text: text.replace("0.10", "0"),
        lambda text: text.replace("BTCUSDT", "ETHUSDT"),
        lambda text: text.replace('"format_version":1', '"format_version":2'),
        lambda text: json.dumps(json.loads(text) | {"more": 1}),
    ],
)
def test_what_cannot_be_used_is_said_and_is_as_if_not_there(tmp_path: Path, caplog, spoil) -> None:
    caplog.set_level(logging.WARNING, "serve.instrument_cache")
    cache = InstrumentCache(tmp_path)
    cache.write(info())
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_text(spoil(path.read_text()))
    assert cache.read("api.bybit.com", "linear", "BTCUSDT") is None
    assert "cannot be used" in caplog.text


def test_a_place_that_cannot_be_written_is_said_and_stops_nobody(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    InstrumentCache(tmp_path / "file").write(info())
    assert "cannot be written" in caplog.text


def test_names_from_outside_stay_below_the_directory(tmp_path: Path) -> None:
    cache = InstrumentCache(tmp_path / "cache")
    cache.write(info(source="../../x", symbol="../../../y"))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert all((tmp_path / "cache") in path.parents for path in written)


def test_the_platforms_place(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "mambalob"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "mambalob"
