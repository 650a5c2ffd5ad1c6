"""The feature schema: names, order, hash."""

import hashlib
from dataclasses import replace

import pytest

from lob.errors import InputError
from lob.schema import FEATURE_COUNT, LEVELS, LOB44, Schema, check_sampling, schema_named


def test_columns_are_interleaved_from_the_touch() -> None:
    assert FEATURE_COUNT == len(LOB44.feature_names) == 44
    assert LEVELS == 10
    assert LOB44.feature_names[:5] == (
        "bid_price_1",
        "bid_size_1",
        "ask_price_1",
        "ask_size_1",
        "bid_price_2",
    )
    assert LOB44.feature_names[39] == "ask_size_10"
    assert LOB44.feature_names[40:] == ("microprice", "spread", "imbalance_1", "ofi")
    assert len(set(LOB44.feature_names)) == FEATURE_COUNT


def test_hash_is_of_the_canonical_json() -> None:
    names = ",".join(f'"{name}"' for name in LOB44.feature_names)
    text = f'{{"feature_names":[{names}],"name":"lob44","version":1}}'
    assert LOB44.hash == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        replace(LOB44, name="lob45"),
        replace(LOB44, version=2),
        replace(LOB44, feature_names=LOB44.feature_names[::-1]),
    ],
)
def test_hash_differs_with_any_part(changed: Schema) -> None:
    assert changed.hash != LOB44.hash


def test_schemas_are_found_by_name() -> None:
    assert schema_named("lob44") is LOB44
    with pytest.raises(InputError, match=r"schema: unknown name 'lob99'; allowed: lob44"):
        schema_named("lob99")


def test_sampling_is_one_of_two() -> None:
    assert check_sampling("every_message") == "every_message"
    assert check_sampling("top_changed") == "top_changed"
    with pytest.raises(InputError, match=r"sampling: unknown kind 'hourly'; allowed: every_message, top_"):
        check_sampling("hourly")
