"""The process on one core, and back."""

import os

import pytest

from bench.pinning import pinned_to
from lob.errors import InputError

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not let a process choose its core"
)


def test_the_process_keeps_to_the_core_and_gets_its_cores_back() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with pinned_to(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_cores_are_given_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)

    def fail() -> None:
        with pinned_to(min(before)):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert os.sched_getaffinity(0) == before


def test_no_core_leaves_the_process_where_it_is() -> None:
    before = os.sched_getaffinity(0)
    with pinned_to(None):
        assert os.sched_getaffinity(0) == before


def test_a_core_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(InputError, match="--cpu: 4095 came; this process may use "), pinned_to(4095):
        pytest.fail("pinned to a core that is not there")


def test_a_system_without_the_call_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(InputError, match="does not let a process choose"), pinned_to(0):
        pytest.fail("pinned without the call")
