"""What the service counts, read from plain integers when Prometheus asks; the tick path never comes here.

A page is made over many turns of the event loop, since a hundred symbols have thousands of samples. Each
symbol's values are those of one instant, another symbol's those of another.
"""

from collections.abc import Iterator, Mapping

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from serve.clock import AnchoredClock
from serve.exposition import SAMPLES_A_TURN, Exposition
from serve.feed import Feed
from serve.hub import Hub
from serve.keep_warm import WarmKeeper
from serve.server import Server
from serve.shadow_log import ShadowLog
from serve.stream import StreamServer
from serve.symbol_metrics import SymbolFamilies
from serve.symbol_service import SymbolService
from serve.turns import Turns


class ServiceMetrics:
    """The counters of every part of a service, the process's own included, under one set of names."""

    def __init__(
        self,
        *,
        symbols: Mapping[str, SymbolService],
        feed: Feed,
        hub: Hub,
        streams: StreamServer,
        server: Server,
        warm_keeper: WarmKeeper,
        shadow_log: ShadowLog,
        clock: AnchoredClock,
        information: Mapping[str, str],
    ) -> None:
        self._symbols = symbols
        self._feed = feed
        self._hub = hub
        self._streams = streams
        self._server = server
        self._warm_keeper = warm_keeper
        self._shadow_log = shadow_log
        self._clock = clock
        self._information = dict(information)
        self._process = ProcessCollector(registry=None)

    async def page(self, turns: Turns) -> list[bytes]:
        """All of them in Prometheus' text format, in pieces that follow one another."""
        exposition = Exposition(turns)
        await exposition.take(self._service_families())
        families = SymbolFamilies(self._feed, self._hub)
        for one in self._symbols.values():
            families.add(one)
            await turns.give_way()
            await exposition.take(families, SAMPLES_A_TURN)
        await exposition.take(families)
        await exposition.take(self._process.collect())
        return await exposition.pieces()

    def _service_families(self) -> Iterator[Metric]:
        yield InfoMetricFamily("mambalob", "What is serving", self._information)
        yield from self._feed_families()
        yield from self._stream_families()
        yield from self._connection_families()
        yield self._shadow_records()
        yield from self._keep_warm_families()
        yield GaugeMetricFamily(
            "mambalob_clock_drift_seconds",
            "Wall clock minus the clock of all stamps, which is anchored to it at the start",
            self._clock.drift_ns() / 1e9,
        )

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

    def _connection_families(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "mambalob_http_connections",
            "Connections that stand now, subscribers' among them",
            self._server.standing_connections,
        )
        cut_off = CounterMetricFamily(
            "mambalob_http_cut_off",
            "Connections cut off: as many stood as may (full), or a request was not whole in time (late)",
            labels=("reason",),
        )
        cut_off.add_metric(("full",), self._server.connection_counters.full)
        cut_off.add_metric(("late",), self._server.connection_counters.late)
        yield cut_off

    def _shadow_records(self) -> Metric:
        records = CounterMetricFamily(
            "mambalob_shadow_records", "Records of the shadow by what became of each", labels=("status",)
        )
        records.add_metric(("written",), self._shadow_log.written)
        records.add_metric(("dropped",), self._shadow_log.dropped)
        return records

    def _keep_warm_families(self) -> Iterator[Metric]:
        keeper = self._warm_keeper
        yield CounterMetricFamily("mambalob_keep_warm_steps", "Ticks rehearsed", keeper.steps)
        yield CounterMetricFamily("mambalob_keep_warm_seconds", "Time in them", keeper.spent_ns / 1e9)
        yield GaugeMetricFamily(
            "mambalob_keep_warm_longest_seconds",
            "The longest of them: what a frame may have had to wait",
            keeper.longest_ns / 1e9,
        )
