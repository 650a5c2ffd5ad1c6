"""How soon the next request may go out: a bucket of tokens, and a pause where the venue asks for one."""

import math
from dataclasses import dataclass

from lob.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RequestRate:
    """So many requests at once, after a rest, and `per_s` on average."""

    burst: int
    per_s: float

    def __post_init__(self) -> None:
        if self.burst < 1:
            raise InputError(f"burst: {self.burst} came, 1 or more is allowed")
        if not 0 < self.per_s < math.inf:
            raise InputError(f"per_s: {self.per_s} came, above 0 and finite is allowed")


class RateBound:
    """Holds requests to a rate. It holds no clock: the time, in seconds that never run back, is told."""

    def __init__(self, rate: RequestRate) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._counted_s = -math.inf
        self._paused_until_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Seconds until a request may go out; 0 where it may at once."""
        self._count(now_s)
        short = max(0.0, 1.0 - self._tokens)
        return max(short / self._rate.per_s, self._paused_until_s - now_s, 0.0)

    def take(self, now_s: float) -> None:
        """A request goes out now; to be called where `wait_s` is 0."""
        self._count(now_s)
        self._tokens -= 1.0

    def is_paused(self, now_s: float) -> bool:
        """Whether the venue asked for a pause that lasts still."""
        return now_s < self._paused_until_s

    def pause(self, until_s: float) -> None:
        """Let no request out before `until_s`; a pause that lasts longer stays."""
        self._paused_until_s = max(self._paused_until_s, until_s)

    def _count(self, now_s: float) -> None:
        """Add the tokens of the time that has passed."""
        passed_s = now_s - self._counted_s
        if passed_s > 0:
            self._tokens = min(float(self._rate.burst), self._tokens + passed_s * self._rate.per_s)
            self._counted_s = now_s
