"""Everything the service keeps for one symbol: its pipeline, what publishes from it, and its trades."""

from dataclasses import dataclass

from inference.pipeline import Pipeline
from lob.sync import SymbolState
from serve.feed import Feed
from serve.hub import Hub
from serve.publisher import PredictionPublisher
from serve.responses import BookView, Level, SymbolView, TradeCounts
from serve.trade_consumer import TradeConsumer
from serve.venue_stream import Topic


@dataclass(frozen=True, kw_only=True)
class SymbolService:
    """One symbol of a service."""

    topic: Topic
    pipeline: Pipeline
    publisher: PredictionPublisher
    trades: TradeConsumer | None
    trade_topic: Topic | None

    def book(self, levels: int) -> BookView:
        """The first levels of the book."""
        rows = self.pipeline.rows
        bids, asks = rows.book.printed(levels)
        return BookView(
            rows.symbol,
            rows.update_id,
            rows.exchange_ms,
            [Level(*level) for level in bids],
            [Level(*level) for level in asks],
        )

    def view(self, hub: Hub, feed: Feed) -> SymbolView:
        """The symbol's state, how long it has been in each, and what has happened to it."""
        topic = hub.topic_of(self.pipeline.symbol)
        counters = self.pipeline.counters
        subscription = feed.subscriptions[self.topic.name]
        trades = self.trades
        seconds = topic.times.seconds(hub.clock.now_ns())
        return SymbolView(
            symbol=topic.symbol,
            state=topic.state.value,
            reason=topic.reason,
            seconds={state.value: round(seconds[state], 3) for state in SymbolState},
            frames=subscription.counters.frames,
            predictions=counters["predictions"],
            gaps=counters["gap"],
            malformed=counters["malformed"] + counters["not_json"],
            resyncs=subscription.counters.resyncs,
            stalls=counters["stalls"],
            late=counters["late"],
            refusals=subscription.counters.refusals,
            reconnects=max(0, feed.counters.connections - 1),
            trades=None
            if trades is None
            else TradeCounts(
                trades=trades.tape.trades,
                late=trades.tape.late,
                dropped=trades.tape.dropped,
                malformed=trades.tape.malformed + trades.malformed,
            ),
        )
