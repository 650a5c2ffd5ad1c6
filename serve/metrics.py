"""What the service counts, read from plain integers when Prometheus asks; the tick path never comes here."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lob.row_status import RowStatus
from lob.sync import SymbolState
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_counters import TopicCounters
from serve.hub import Hub
from serve.keep_warm import WarmKeeper
from serve.shadow_log import ShadowLog
from serve.stream import StreamServer
from serve.symbol_service import SymbolService

_STATUS_NAMES = tuple(status.name.lower() for status in RowStatus)


class ServiceCollector(Collector):
    """The counters of every part of a service, under one set of names."""

    def __init__(
        self,
        *,
        symbols: Mapping[str, SymbolService],
        feed: Feed,
        hub: Hub,
        streams: StreamServer,
        warm_keeper: WarmKeeper,
        shadow_log: ShadowLog,
        clock: AnchoredClock,
        information: Mapping[str, str],
    ) -> None:
        self._symbols = symbols
        self._feed = feed
        self._hub = hub
        self._streams = streams
        self._warm_keeper = warm_keeper
        self._shadow_log = shadow_log
        self._clock = clock
        self._information = dict(information)

    def collect(self) -> Iterator[Metric]:
        """All families, with their values of now."""
        yield InfoMetricFamily("mambalob", "What is serving", self._information)
        yield from self._pipeline_families()
        yield from self._subscription_families()
        yield from self._feed_families()
        yield from self._trade_families()
        yield from self._topic_families()
        yield from self._model_families()
        yield from self._stream_families()
        yield from self._keep_warm_families()
        yield GaugeMetricFamily(
            "mambalob_clock_drift_seconds",
            "Wall clock minus the clock of all stamps, which is anchored to it at the start",
            self._clock.drift_ns() / 1e9,
        )

    def _pipeline_families(self) -> Iterator[Metric]:
        frames = CounterMetricFamily(
            "mambalob_frames", "Frames by what came of each", labels=("symbol", "status")
        )
        totals = {
            "rows": "Feature rows sampled",
            "predictions": "Predictions made",
            "gaps": "Gaps found in the book's sequence",
            "malformed": "Frames that could not be read",
            "not_finite": "Rows whose logits were not finite",
            "stalls": "Times the symbol's feed was found stalled",
            "late": "Times a frame was handled too late",
        }
        families = {
            name: CounterMetricFamily(f"mambalob_{name}", text, labels=("symbol",))
            for name, text in totals.items()
        }
        for symbol, one in self._symbols.items():
            counters = one.pipeline.counters
            for status in _STATUS_NAMES:
                frames.add_metric((symbol, status), counters[status])
            values = {
                "rows": counters["row"] + counters["snapshot"],
                "predictions": counters["predictions"],
                "gaps": counters["gap"],
                "malformed": counters["malformed"] + counters["not_json"],
                "not_finite": counters["not_finite"],
                "stalls": counters["stalls"],
                "late": counters["late"],
            }
            for name, family in families.items():
                family.add_metric((symbol,), values[name])
        yield frames
        yield from families.values()

    def _subscription_families(self) -> Iterator[Metric]:
        reconnects = max(0, self._feed.counters.connections - 1)
        families: dict[str, tuple[str, Callable[[TopicCounters], int]]] = {
            "feed_bytes": ("Bytes of the book's frames received", lambda counters: counters.bytes),
            "feed_resyncs": ("Snapshots asked for again", lambda counters: counters.resyncs),
            "feed_refusals": ("Subscriptions the exchange refused", lambda counters: counters.refusals),
            "feed_reconnects": ("Connections that stood after the first", lambda _: reconnects),
        }
        for name, (text, read) in families.items():
            family = CounterMetricFamily(f"mambalob_{name}", text, labels=("symbol",))
            for symbol, one in self._symbols.items():
                family.add_metric((symbol,), read(self._feed.subscriptions[one.topic.name].counters))
            yield family

    def _feed_families(self) -> Iterator[Metric]:
        counters = self._feed.counters
        for name, text, value in (
            ("received_bytes", "Bytes of all frames received", counters.bytes),
            ("connections", "Connections that stood", counters.connections),
            ("failed_connections", "Connections that could not be made", counters.failed_connections),
            ("idle_connections", "Connections given up for silence", counters.idle_connections),
            (
                "silent_connections",
                "Connections given up that answered pings and brought nothing else",
                counters.silent_connections,
            ),
            ("unnamed_frames", "Frames that name no topic", counters.unnamed_frames),
            ("unknown_topics", "Frames of topics that nobody takes", counters.unknown_topics),
            ("full_queues", "Times reading paused for too many waiting frames", counters.full_queues),
        ):
            yield CounterMetricFamily(f"mambalob_feed_{name}", text, value)
        yield GaugeMetricFamily(
            "mambalob_feed_waiting_frames",
            "Frames that have arrived in the process and are not handled yet",
            self._feed.waiting_frames,
        )

    def _trade_families(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "mambalob_trades", "Trades by what became of each", labels=("symbol", "status")
        )
        for symbol, one in self._symbols.items():
            if one.trades is not None:
                tape = one.trades.tape
                for status, count in (
                    ("taped", tape.trades),
                    ("late", tape.late),
                    ("dropped", tape.dropped),
                    ("malformed", tape.malformed + one.trades.malformed),
                ):
                    family.add_metric((symbol, status), count)
        yield family

    def _topic_families(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "mambalob_symbol_state", "1 for the state a symbol is in", labels=("symbol", "state")
        )
        seconds = CounterMetricFamily(
            "mambalob_symbol_state_seconds", "Time in each state", labels=("symbol", "state")
        )
        now_ns = self._clock.now_ns()
        difference = GaugeMetricFamily(
            "mambalob_exchange_time_difference_seconds",
            "Arrival of the newest prediction's frame minus the exchange's time in it: delay and clock skew",
            labels=("symbol",),
        )
        latency = HistogramMetricFamily(
            "mambalob_tick_latency_seconds",
            "From a frame's arrival in the process to its prediction's publication",
            labels=("symbol",),
        )
        for topic in self._hub.topics.values():
            spent_s = topic.times.seconds(now_ns)
            for state in SymbolState:
                states.add_metric((topic.symbol, state.value), float(topic.state is state))
                seconds.add_metric((topic.symbol, state.value), spent_s[state])
            newest = topic.prediction
            if newest is not None:
                difference_s = newest.receive_ns / 1e9 - newest.exchange_ms / 1e3
                difference.add_metric((topic.symbol,), difference_s)
            histogram = self._hub.latency[topic.symbol]
            latency.add_metric((topic.symbol,), histogram.cumulative(), histogram.sum_ns / 1e9)
        yield states
        yield seconds
        yield difference
        yield latency

    def _model_families(self) -> Iterator[Metric]:
        places = GaugeMetricFamily(
            "mambalob_model",
            "1 for the model of a symbol that answers, is to take over, or answers in the shadow",
            labels=("symbol", "place", "model", "model_version", "engine"),
        )
        switches = CounterMetricFamily("mambalob_model_switches", "Models that took over", labels=("symbol",))
        answers = CounterMetricFamily(
            "mambalob_shadow_predictions",
            "Published rows by what the model in the shadow made of each; agreed ones are among the answered",
            labels=("symbol", "status"),
        )
        for symbol, one in self._symbols.items():
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
                    places.add_metric(labels, 1)
            switches.add_metric((symbol,), models.switches)
            if shadow is not None:
                for status, count in asdict(shadow.counters).items():
                    answers.add_metric((symbol, status), count)
        yield places
        yield switches
        yield answers
        records = CounterMetricFamily(
            "mambalob_shadow_records", "Records of the shadow by what became of each", labels=("status",)
        )
        records.add_metric(("written",), self._shadow_log.written)
        records.add_metric(("dropped",), self._shadow_log.dropped)
        yield records

    def _stream_families(self) -> Iterator[Metric]:
        streams = self._streams
        yield GaugeMetricFamily("mambalob_stream_clients", "Clients connected now", len(streams.sessions))
        for name, text, value in (
            ("accepted", "Clients accepted", streams.accepted),
            ("refused", "Clients told to come back later", streams.refused),
            ("cut_off", "Clients cut off because they stopped reading", streams.cut_off),
            ("missed", "Messages left out for clients that did not keep up", streams.missed),
        ):
            yield CounterMetricFamily(f"mambalob_stream_{name}", text, value)

    def _keep_warm_families(self) -> Iterator[Metric]:
        keeper = self._warm_keeper
        yield CounterMetricFamily("mambalob_keep_warm_steps", "Ticks rehearsed", keeper.steps)
        yield CounterMetricFamily("mambalob_keep_warm_seconds", "Time in them", keeper.spent_ns / 1e9)
        yield GaugeMetricFamily(
            "mambalob_keep_warm_longest_seconds",
            "The longest of them: what a frame may have had to wait",
            keeper.longest_ns / 1e9,
        )


def make_renderer(collector: ServiceCollector) -> Callable[[], bytes]:
    """A function that answers all metrics, the process's own included, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)
