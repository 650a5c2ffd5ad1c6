"""The order flow of the simulated market: limit orders, cancels and trades, pushed by a hidden pressure.

A zero-intelligence book (limit orders, market orders and cancels are Poisson flows by distance from the
touch; Cont, Stoikov, Talreja 2010, "A stochastic model for order book dynamics") whose rates lean with a
pressure that nobody sees: the sum of a slow and a fast Ornstein-Uhlenbeck process. Now and then a metaorder
trades one side for some seconds in equal clips. What the book shows at one instant says little of the
pressure; what has flowed in over the last seconds says more.
Everything is counted in ticks and lots.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lob.kernel import kernel

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BID, ASK = 0, 1

# Slots of `State.touch`; the best bid and ask stand at BID and ASK.
EVENTS, LAST_EVENT_US, METAORDER_SIDE, METAORDER_LOTS, TRADES = 2, 3, 4, 5, 6
TOUCH_SLOTS = 7

# Columns of `State.trades`.
TRADE_US, TRADE_SIDE, TRADE_TICK, TRADE_LOTS, TRADE_EVENT = range(5)
TRADE_COLUMNS = 5

# Slots of `State.hidden`.
SLOW, FAST, METAORDER_ENDS_S = 0, 1, 2
HIDDEN_SLOTS = 3


class Flow(NamedTuple):
    """Rates per second and side at no pressure, and how they lean. Times in seconds, sizes in lots."""

    limit_rate: float = 85.0
    cancel_rate: float = 160.0
    market_rate: float = 12.0
    placement_exponent: float = 0.8
    """Orders land d ticks away or further with probability d ** -exponent."""
    limit_lots: float = 120.0
    """Median of a limit order's log-normal size."""
    market_lots: float = 200.0
    size_spread: float = 0.9
    """Standard deviation of the logarithm of sizes."""
    touch_lots: float = 2_600.0
    """A level at the touch holding this much is cancelled from at the full rate, a smaller one less."""
    deep_lots: float = 900.0
    """The same for a level far away."""
    slow_s: float = 5.0
    fast_s: float = 0.5
    slow_weight: float = 0.8
    fast_weight: float = 0.4
    market_lean: float = 0.6
    """Pressure 1 multiplies the market orders that go with it by exp(lean) and divides those against it."""
    limit_lean: float = 0.05
    cancel_lean: float = 0.1
    metaorder_every_s: float = 20.0
    metaorder_s: float = 3.0
    metaorder_rate: float = 10.0
    anchor_ticks: float = 20_000.0
    """How far the market must go from its first price for a pressure of 1 to pull it back."""


class State(NamedTuple):
    """A market in progress: the arrays change in place."""

    flow: Flow
    first_bid: int
    """The best bid at the start, in ticks."""
    reach: int
    """How many ticks behind the touch a level can be; what is further away is forgotten."""
    lots: Integers
    """(W,) what each price holds: a ring over ticks, W a power of two above 4 * reach."""
    touch: Integers
    """(TOUCH_SLOTS,) best bid and ask in ticks, counters, the current metaorder."""
    hidden: Floats
    """(HIDDEN_SLOTS,) what drives the flow and is never published."""
    trades: Integers
    """(N, TRADE_COLUMNS) the trades since the slot TRADES was last set to 0; beyond N they go unrecorded."""


@kernel
def _normal(rng: np.random.Generator) -> float:
    """One standard normal number (Box and Muller)."""
    return math.sqrt(-2.0 * math.log(1.0 - rng.random())) * math.cos(2.0 * math.pi * rng.random())


@kernel
def _size(rng: np.random.Generator, median: float, spread: float) -> int:
    """A log-normal number of lots, at least 1."""
    return 1 + int(median * math.exp(spread * _normal(rng)))


@kernel
def _distance(rng: np.random.Generator, exponent: float) -> int:
    """A power-law distance of 1 tick or more."""
    return int(min((1.0 - rng.random()) ** (-1.0 / exponent), 1e12))


@kernel
def _full_lots(flow: Flow, distance: int) -> float:
    """What a level `distance` ticks behind the touch holds when cancels reach their full rate."""
    return flow.deep_lots + (flow.touch_lots - flow.deep_lots) / (1.0 + 0.5 * distance)


@kernel
def _reveal(rng: np.random.Generator, state: State, tick: int, distance: int) -> None:
    """Give a level that comes into reach the size it may have had all along; one in five is empty."""
    share = rng.random() - 0.2
    lots = int(_full_lots(state.flow, distance) * share) if share > 0.0 else 0
    state.lots[tick & (state.lots.size - 1)] = lots


@kernel
def open_book(rng: np.random.Generator, state: State) -> None:
    """Fill an empty book around the first bid, the spread one tick."""
    mask = state.lots.size - 1
    state.touch[BID] = state.first_bid
    state.touch[ASK] = state.first_bid + 1
    for distance in range(state.reach + 1):
        _reveal(rng, state, state.first_bid - distance, distance)
        _reveal(rng, state, state.first_bid + 1 + distance, distance)
    state.lots[state.touch[BID] & mask] += 1
    state.lots[state.touch[ASK] & mask] += 1


@kernel
def _move_touch(rng: np.random.Generator, state: State, side: int, tick: int) -> None:
    """Make `tick` the side's best price; levels that leave its reach are forgotten, new ones revealed."""
    mask = state.lots.size - 1
    away = -1 if side == BID else 1
    old_end = state.touch[side] + away * state.reach
    new_end = tick + away * state.reach
    while away * (old_end - new_end) > 0:
        state.lots[old_end & mask] = 0
        old_end -= away
    while away * (new_end - old_end) > 0:
        old_end += away
        _reveal(rng, state, old_end, state.reach)
    state.touch[side] = tick


@kernel
def _retreat(rng: np.random.Generator, state: State, side: int) -> None:
    """The best level is empty: the next one behind it that is not becomes the touch."""
    mask = state.lots.size - 1
    away = -1 if side == BID else 1
    tick = state.touch[side]
    for _ in range(state.reach):
        tick += away
        if state.lots[tick & mask] > 0:
            break
    state.lots[tick & mask] = max(1, state.lots[tick & mask])
    _move_touch(rng, state, side, tick)


@kernel
def _limit_order(rng: np.random.Generator, state: State, side: int) -> None:
    """Add an order some ticks from the other side's touch; inside the spread it becomes the touch."""
    away = -1 if side == BID else 1
    tick = state.touch[1 - side] + away * _distance(rng, state.flow.placement_exponent)
    size = _size(rng, state.flow.limit_lots, state.flow.size_spread)
    behind = away * (tick - state.touch[side])
    if behind > state.reach:
        return
    if behind < 0:
        _move_touch(rng, state, side, tick)
    state.lots[tick & (state.lots.size - 1)] += size


@kernel
def _cancel(rng: np.random.Generator, state: State, side: int) -> None:
    """Take an order away at the touch or behind it, the likelier the fuller its level is."""
    flow = state.flow
    behind = _distance(rng, flow.placement_exponent) - 1
    size = _size(rng, flow.limit_lots, flow.size_spread)
    chance = rng.random()
    if behind > state.reach:
        return
    slot = (state.touch[side] + (-behind if side == BID else behind)) & (state.lots.size - 1)
    held = state.lots[slot]
    if held == 0 or chance * _full_lots(flow, behind) > held:
        return
    state.lots[slot] = max(0, held - size)
    if behind == 0 and size >= held:
        _retreat(rng, state, side)


@kernel
def _record_trade(state: State, side: int, tick: int, lots: int) -> None:
    """Remember what a market order of `side` took from one level."""
    recorded = state.touch[TRADES]
    if recorded < state.trades.shape[0]:
        trade = state.trades[recorded]
        trade[TRADE_US], trade[TRADE_EVENT] = state.touch[LAST_EVENT_US], state.touch[EVENTS]
        trade[TRADE_SIDE], trade[TRADE_TICK], trade[TRADE_LOTS] = side, tick, lots
        state.touch[TRADES] = recorded + 1


@kernel
def _market_order(rng: np.random.Generator, state: State, side: int, size: int) -> None:
    """A buy (BID) eats the asks from the best on, a sell the bids."""
    mask = state.lots.size - 1
    other = 1 - side
    while size > 0:
        slot = state.touch[other] & mask
        eaten = min(size, state.lots[slot])
        _record_trade(state, side, state.touch[other], eaten)
        state.lots[slot] -= eaten
        size -= eaten
        if state.lots[slot] == 0:
            _retreat(rng, state, other)


@kernel
def _pressure(rng: np.random.Generator, state: State, seconds: float) -> float:
    """Let the hidden processes run for an interval; positive pressure makes the price rise."""
    flow, hidden = state.flow, state.hidden
    slow = math.exp(-seconds / flow.slow_s)
    fast = math.exp(-seconds / flow.fast_s)
    hidden[SLOW] = hidden[SLOW] * slow + math.sqrt(1.0 - slow * slow) * _normal(rng)
    hidden[FAST] = hidden[FAST] * fast + math.sqrt(1.0 - fast * fast) * _normal(rng)
    anchor = (state.first_bid - state.touch[BID]) / flow.anchor_ticks
    return float(flow.slow_weight * hidden[SLOW] + flow.fast_weight * hidden[FAST] + anchor)


@kernel
def _metaorder_rate(rng: np.random.Generator, state: State, now_s: float, seconds: float) -> float:
    """The rate of the running metaorder's clips, 0 where none runs; now and then a new one starts."""
    flow, hidden, touch = state.flow, state.hidden, state.touch
    if now_s >= hidden[METAORDER_ENDS_S]:
        if rng.random() * flow.metaorder_every_s >= seconds:
            return 0.0
        hidden[METAORDER_ENDS_S] = now_s + flow.metaorder_s * (0.5 + rng.random())
        touch[METAORDER_SIDE] = BID if rng.random() < 0.5 else ASK
        touch[METAORDER_LOTS] = _size(rng, flow.market_lots, 0.5)
    return flow.metaorder_rate


@kernel
def advance(rng: np.random.Generator, state: State, from_us: int, interval_us: int) -> None:
    """Let one interval pass, its rates fixed by the pressure at its start."""
    flow, touch = state.flow, state.touch
    seconds = interval_us * 1e-6
    up = math.exp(_pressure(rng, state, seconds))
    # Where the share of each flow ends in the sum of all rates, the buyers' first.
    limit_bids = flow.limit_rate * up**flow.limit_lean
    limit_asks = limit_bids + flow.limit_rate * up**-flow.limit_lean
    cancel_bids = limit_asks + flow.cancel_rate * up**-flow.cancel_lean
    cancel_asks = cancel_bids + flow.cancel_rate * up**flow.cancel_lean
    market_buys = cancel_asks + flow.market_rate * up**flow.market_lean
    market_sells = market_buys + flow.market_rate * up**-flow.market_lean
    total = market_sells + _metaorder_rate(rng, state, from_us * 1e-6, seconds)

    after_s = 0.0
    while True:
        after_s -= math.log(1.0 - rng.random()) / total
        if after_s >= seconds:
            return
        touch[EVENTS] += 1
        touch[LAST_EVENT_US] = from_us + int(after_s * 1e6)
        pick = rng.random() * total
        if pick < limit_asks:
            _limit_order(rng, state, BID if pick < limit_bids else ASK)
        elif pick < cancel_asks:
            _cancel(rng, state, BID if pick < cancel_bids else ASK)
        elif pick < market_sells:
            size = _size(rng, flow.market_lots, flow.size_spread)
            _market_order(rng, state, BID if pick < market_buys else ASK, size)
        else:
            _market_order(rng, state, touch[METAORDER_SIDE], touch[METAORDER_LOTS])


@kernel
def advance_until(
    rng: np.random.Generator, state: State, from_us: int, until_us: int, interval_us: int
) -> int:
    """Let intervals pass from `from_us` on until `until_us` is reached; answers the time then."""
    while from_us < until_us:
        advance(rng, state, from_us, interval_us)
        from_us += interval_us
    return from_us
