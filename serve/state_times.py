"""How long a symbol has been in each state, counted when the state changes and never in between."""

from lob.sync import SymbolState


class StateTimes:
    """Nanoseconds spent in each state; the caller says when one is entered."""

    __slots__ = ("_entered_ns", "_spent_ns", "_state")

    def __init__(self, state: SymbolState, now_ns: int) -> None:
        self._spent_ns = dict.fromkeys(SymbolState, 0)
        self._state = state
        self._entered_ns = now_ns

    def enter(self, state: SymbolState, now_ns: int) -> None:
        """The symbol enters `state`, which may be the one it is in."""
        self._spent_ns[self._state] += now_ns - self._entered_ns
        self._state = state
        self._entered_ns = now_ns

    def seconds(self, now_ns: int) -> dict[SymbolState, float]:
        """Seconds in each state up to `now_ns`; together they are the time since the start."""
        spent = {state: spent_ns / 1e9 for state, spent_ns in self._spent_ns.items()}
        spent[self._state] += (now_ns - self._entered_ns) / 1e9
        return spent
