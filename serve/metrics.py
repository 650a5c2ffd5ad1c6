"""What the service counts, read from plain integers when Prometheus asks; the tick path never comes here."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from inference.pipeline import Pipeline
from lob.rows import RowStatus
from lob.sync import SymbolState
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.hub import Hub
from serve.stream import StreamServer

_STATUS_NAMES = tuple(status.name.lower() for status in RowStatus)


class ServiceCollector(Collector):
    """The counters of every part of a service, under one set of names."""

    def __init__(
        self,
        *,
        pipelines: Mapping[str, Pipeline],
        feeds: Mapping[str, Feed],
        hub: Hub,
        streams: StreamServer,
        clock: AnchoredClock,
        information: Mapping[str, str],
    ) -> None:
        self._pipelines = pipelines
        self._feeds = feeds
        self._hub = hub
        self._streams = streams
        self._clock = clock
        self._information = dict(information)

    def collect(self) -> Iterator[Metric]:
        """All families, with their values of now."""
        yield InfoMetricFamily("mambalob", "What is serving", self._information)
        yield from self._pipeline_families()
        yield from self._feed_families()
        yield from self._topic_families()
        yield from self._stream_families()
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
            "stalls": "Times the feed was found stalled",
        }
        families = {
            name: CounterMetricFamily(f"mambalob_{name}", text, labels=("symbol",))
            for name, text in totals.items()
        }
        for symbol, pipeline in self._pipelines.items():
            counters = pipeline.counters
            for status in _STATUS_NAMES:
                frames.add_metric((symbol, status), counters[status])
            values = {
                "rows": counters["row"] + counters["snapshot"],
                "predictions": counters["predictions"],
                "gaps": counters["gap"],
                "malformed": counters["malformed"] + counters["not_json"],
                "not_finite": counters["not_finite"],
                "stalls": counters["stalls"],
            }
            for name, family in families.items():
                family.add_metric((symbol,), values[name])
        yield frames
        yield from families.values()

    def _feed_families(self) -> Iterator[Metric]:
        families: dict[str, tuple[str, Callable[[Feed], int]]] = {
            "feed_bytes": ("Bytes of frames received", lambda feed: feed.counters.bytes),
            "feed_connections": ("Connections that stood", lambda feed: feed.counters.connections),
            "feed_reconnects": (
                "Connections that stood after the first",
                lambda feed: max(0, feed.counters.connections - 1),
            ),
            "feed_failed_connections": (
                "Connections that could not be made",
                lambda feed: feed.counters.failed_connections,
            ),
            "feed_resyncs": ("Snapshots asked for again", lambda feed: feed.counters.resyncs),
            "feed_refusals": ("Subscriptions the exchange refused", lambda feed: feed.counters.refusals),
        }
        for name, (text, read) in families.items():
            family = CounterMetricFamily(f"mambalob_{name}", text, labels=("symbol",))
            for symbol, feed in self._feeds.items():
                family.add_metric((symbol,), read(feed))
            yield family

    def _topic_families(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "mambalob_symbol_state", "1 for the state a symbol is in", labels=("symbol", "state")
        )
        latency = HistogramMetricFamily(
            "mambalob_tick_latency_seconds",
            "From a frame's arrival in the process to its prediction's publication",
            labels=("symbol",),
        )
        for topic in self._hub.topics.values():
            for state in SymbolState:
                states.add_metric((topic.symbol, state.value), float(topic.state is state))
            histogram = self._hub.latency[topic.symbol]
            latency.add_metric((topic.symbol,), histogram.cumulative(), histogram.sum_ns / 1e9)
        yield states
        yield latency

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


def make_renderer(collector: ServiceCollector) -> Callable[[], bytes]:
    """A function that answers all metrics, the process's own included, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)
