"""When to try again: exponential back-off with jitter, as a named policy."""

from dataclasses import dataclass
from random import Random

from lob.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ReconnectPolicy:
    """How long to wait before attempt n at a connection, and when to stop trying.

    The wait before attempt n (0, 1, 2, ...) is `initial_s * factor**n`, at most `cap_s`, of which the
    share `jitter` is drawn evenly at random, so that clients cut off together do not come back together.
    A connection that held for `settled_s` starts the count again. `attempts` None never gives up.
    """

    initial_s: float = 0.25
    factor: float = 2.0
    cap_s: float = 30.0
    jitter: float = 0.5
    settled_s: float = 10.0
    attempts: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.initial_s <= self.cap_s:
            raise InputError(
                f"initial_s: {self.initial_s} came, above 0 and at most cap_s ({self.cap_s}) is allowed"
            )
        if not self.factor >= 1:
            raise InputError(f"factor: {self.factor} came, at least 1 is allowed")
        if not 0 <= self.jitter <= 1:
            raise InputError(f"jitter: {self.jitter} came, 0 to 1 is allowed")
        if not self.settled_s >= 0:
            raise InputError(f"settled_s: {self.settled_s} came, 0 or more is allowed")
        if self.attempts is not None and self.attempts < 1:
            raise InputError(f"attempts: {self.attempts} came, at least 1 or None is allowed")

    def delay_s(self, attempt: int, random: Random) -> float:
        """Seconds to wait before attempt number `attempt`, the first being 0."""
        # The exponent is bounded so that a counter which ran for years cannot overflow a float.
        longest_s = min(self.cap_s, self.initial_s * self.factor ** min(attempt, 64))
        return longest_s * (1 - self.jitter * random.random())

    def gives_up_after(self, failures: int) -> bool:
        """True where `failures` attempts in a row are as many as the policy allows."""
        return self.attempts is not None and failures >= self.attempts
