import time

from serve.clock import AnchoredClock


def test_stands_at_the_wall_clock_and_never_runs_backwards() -> None:
    clock = AnchoredClock()
    assert abs(clock.now_ns() - time.time_ns()) < 50_000_000
    assert abs(clock.drift_ns()) < 50_000_000
    readings = [clock.now_ns() for _ in range(10_000)]
    assert readings == sorted(readings)


def test_a_step_of_the_wall_clock_shows_as_drift_alone(monkeypatch) -> None:
    clock = AnchoredClock()
    before_ns = clock.now_ns()
    stepped_ns = time.time_ns() - 3_600 * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: stepped_ns)
    assert 0 <= clock.now_ns() - before_ns < 1_000_000_000
    assert clock.drift_ns() < -3_599 * 1_000_000_000
