"""What the service counts of its symbols: families of metrics that symbols' values are added to."""

from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from lob.row_status import RowStatus
from lob.sync import SymbolState
from serve.feed import Feed
from serve.hub import Hub
from serve.symbol_service import SymbolService

_STATUS_NAMES = tuple(status.name.lower() for status in RowStatus)


def _of_symbol(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"mambalob_{name}", text, labels=("symbol", *labels))


class SymbolFamilies:
    """The families with a symbol's label, filled symbol by symbol from the plain integers of its parts."""

    def __init__(self, feed: Feed, hub: Hub) -> None:
        self._feed = feed
        self._hub = hub
        self._frames = _of_symbol("frames", "Frames by what came of each", "status")
        self._pipeline = {
            name: _of_symbol(name, text)
            for name, text in (
                ("rows", "Feature rows sampled"),
                ("predictions", "Predictions made"),
                ("gaps", "Gaps found in the book's sequence"),
                ("malformed", "Frames that could not be read"),
                ("not_finite", "Rows whose logits were not finite"),
                ("stalls", "Times the symbol's feed was found stalled"),
                ("late", "Times a frame was handled too late"),
            )
        }
        self._subscription = {
            name: _of_symbol(f"feed_{name}", text)
            for name, text in (
                ("bytes", "Bytes of the book's frames received"),
                ("resyncs", "Snapshots asked for again"),
                ("refusals", "Subscriptions the exchange refused"),
                ("reconnects", "Connections that stood after the first"),
            )
        }
        self._trades = _of_symbol("trades", "Trades by what became of each", "status")
        self._states = GaugeMetricFamily(
            "mambalob_symbol_state", "1 for the state a symbol is in", labels=("symbol", "state")
        )
        self._seconds = _of_symbol("symbol_state_seconds", "Time in each state", "state")
        self._difference = GaugeMetricFamily(
            "mambalob_exchange_time_difference_seconds",
            "Arrival of the newest prediction's frame minus the exchange's time in it: delay and clock skew",
            labels=("symbol",),
        )
        self._latency = HistogramMetricFamily(
            "mambalob_tick_latency_seconds",
            "From a frame's arrival in the process to its prediction's publication",
            labels=("symbol",),
        )
        self._models = GaugeMetricFamily(
            "mambalob_model",
            "1 for the model of a symbol that answers, is to take over, or answers in the shadow",
            labels=("symbol", "place", "model", "model_version", "engine"),
        )
        self._switches = _of_symbol("model_switches", "Models that took over")
        self._shadow = _of_symbol(
            "shadow_predictions",
            "Published rows by what the model in the shadow made of each; agreed ones are among the answered",
            "status",
        )

    def __iter__(self) -> Iterator[Metric]:
        yield self._frames
        yield from self._pipeline.values()
        yield from self._subscription.values()
        yield self._trades
        yield self._states
        yield self._seconds
        yield self._difference
        yield self._latency
        yield self._models
        yield self._switches
        yield self._shadow

    def add(self, one: SymbolService) -> None:
        """Add a symbol's values of now."""
        symbol = one.pipeline.symbol
        self._add_pipeline(symbol, one)
        self._add_trades(symbol, one)
        self._add_topic(symbol)
        self._add_models(symbol, one)

    def _add_pipeline(self, symbol: str, one: SymbolService) -> None:
        counters = one.pipeline.counters
        for status in _STATUS_NAMES:
            self._frames.add_metric((symbol, status), counters[status])
        values = {
            "rows": counters["row"] + counters["snapshot"],
            "predictions": counters["predictions"],
            "gaps": counters["gap"],
            "malformed": counters["malformed"] + counters["not_json"],
            "not_finite": counters["not_finite"],
            "stalls": counters["stalls"],
            "late": counters["late"],
        }
        for name, family in self._pipeline.items():
            family.add_metric((symbol,), values[name])
        of_topic = self._feed.subscriptions[one.topic.name].counters
        values = {
            "bytes": of_topic.bytes,
            "resyncs": of_topic.resyncs,
            "refusals": of_topic.refusals,
            "reconnects": max(0, self._feed.counters.connections - 1),
        }
        for name, family in self._subscription.items():
            family.add_metric((symbol,), values[name])

    def _add_trades(self, symbol: str, one: SymbolService) -> None:
        if one.trades is None:
            return
        tape = one.trades.tape
        for status, count in (
            ("taped", tape.trades),
            ("late", tape.late),
            ("dropped", tape.dropped),
            ("malformed", tape.malformed + one.trades.malformed),
        ):
            self._trades.add_metric((symbol, status), count)

    def _add_topic(self, symbol: str) -> None:
        topic = self._hub.topic_of(symbol)
        spent_s = topic.times.seconds(self._hub.clock.now_ns())
        for state in SymbolState:
            self._states.add_metric((symbol, state.value), float(topic.state is state))
            self._seconds.add_metric((symbol, state.value), spent_s[state])
        newest = topic.prediction
        if newest is not None:
            difference_s = newest.receive_ns / 1e9 - newest.exchange_ms / 1e3
            self._difference.add_metric((symbol,), difference_s)
        histogram = self._hub.latency[symbol]
        self._latency.add_metric((symbol,), histogram.cumulative(), histogram.sum_ns / 1e9)

    def _add_models(self, symbol: str, one: SymbolService) -> None:
        models = one.publisher.models
        shadow = models.shadow
        for place, placed in (
            ("serving", models.serving),
            ("incoming", models.incoming),
            ("shadow", None if shadow is None else shadow.placed),
        ):
            if placed is not None:
                manifest = placed.artifact.manifest
                labels = (symbol, place, manifest.name, manifest.version, placed.engine.name)
                self._models.add_metric(labels, 1)
        self._switches.add_metric((symbol,), models.switches)
        if shadow is not None:
            for status, count in asdict(shadow.counters).items():
                self._shadow.add_metric((symbol, status), count)
