"""Changing the models of a running service: loaded beside the ticks, warmed and switched between them.

All of it happens on the event loop, in short steps that give way to frames after each: no tick waits for more
than one such step. What a load does elsewhere, `serve.ready_model` says. One change at a time. The model that
is replaced stays loaded, so that going back takes no load.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter_ns

from inference.symbol_models import PlacedModel, ShadowSink, SymbolModels
from lob.errors import InputError
from serve.hub import Hub
from serve.messages import ModelData, shorten
from serve.model_views import PlaceView, ShadowView, SwitcherView, SymbolModelsView
from serve.ready_model import ModelSource
from serve.turns import Turns

logger = logging.getLogger(__name__)

SYMBOLS_A_TURN = 32
"""Symbols whose models are told of between two turns of the event loop, a microsecond or so each."""

STEP_NS = 50_000
"""How long models that follow take rows between two turns of the event loop, one row at least."""


class BusyError(InputError):
    """Another change of models is under way."""


class ModelSwitcher:
    """The models of all symbols of a service, and whoever changes them.

    `waiting_frames` tells how many frames wait to be handled: while any do, models that follow put their rows
    off, as long as the window still holds them.
    """

    def __init__(
        self,
        symbols: Mapping[str, SymbolModels],
        hub: Hub,
        source: ModelSource,
        *,
        shadow_sink: ShadowSink,
        waiting_frames: Callable[[], int],
    ) -> None:
        self.symbols = dict(symbols)
        self.operation = ""
        """What is under way; empty where nothing is."""
        self.failures = 0
        """Changes that were refused or failed."""
        self._hub = hub
        self._source = source
        self._shadow_sink = shadow_sink
        self._waiting_frames = waiting_frames
        self._turns = Turns(waiting_frames)
        self._told = dict.fromkeys(self.symbols, 0)
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopping = False
        self._due: dict[str, SymbolModels] = {}
        for symbol, models in self.symbols.items():
            models.wake = partial(self._wake, symbol, models)

    async def run(self) -> None:
        """Bring the models that follow up to their rows, whenever there are some, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._due:
                for symbol, models in list(self._due.items()):
                    if not self._step(symbol, models):
                        del self._due[symbol]
                    await asyncio.sleep(0)

    async def activate(self, model: str, symbols: Sequence[str], wait_s: float) -> SwitcherView:
        """Load the artifact called `model` and let it take over for `symbols` (none: all).

        Answers once it has for all, or after `wait_s` how far it is: a symbol whose window holds too few rows
        goes on with the model it has until there are enough, and another change may come meanwhile. Raises
        ArtifactError and InputError, and changes nothing, where the model cannot serve, and BusyError.
        """
        async with self._changing(f"activate {model}"):
            ready = await self._ready(model, self._chosen(symbols))
            placed = {symbol: one for symbol, one in ready.items() if not self._serves(symbol, one)}
            if not placed:
                raise InputError(f"model: {next(iter(ready.values())).title} serves already")
            await self._take_over(placed)
        return await self._settle(placed, wait_s)

    async def rollback(self, symbols: Sequence[str], wait_s: float) -> SwitcherView:
        """Let the model before take over again for `symbols` (none: all); it is still loaded.

        Where one was about to take over, that is given up instead. Raises InputError, and changes nothing,
        where a symbol has had no other model.
        """
        async with self._changing("rollback"):
            chosen = self._chosen(symbols)
            before: dict[str, PlacedModel] = {}
            for symbol in chosen:
                models = self.symbols[symbol]
                if models.incoming is None:
                    if models.previous is None:
                        raise InputError(f"{symbol}: no model served before {models.serving.title}")
                    before[symbol] = models.previous
            for symbol in chosen:
                if symbol not in before:
                    self.symbols[symbol].give_up("rolled back before it took over")
                    self.symbols[symbol].wake()
            await self._take_over(before)
        return await self._settle(before, wait_s)

    async def begin_shadow(self, model: str, symbols: Sequence[str]) -> SwitcherView:
        """Load the artifact called `model` and let it answer in the shadow for `symbols` (none: all).

        Raises as `activate`.
        """
        async with self._changing(f"shadow {model}"):
            for symbol, one in (await self._ready(model, self._chosen(symbols))).items():
                self.symbols[symbol].begin_shadow(one, self._shadow_sink)
                self.symbols[symbol].wake()
                await self._turns.give_way()
        return await self.view()

    async def end_shadow(self, symbols: Sequence[str]) -> SwitcherView:
        """Let nothing answer in the shadow for `symbols` (none: all)."""
        async with self._changing("end the shadow"):
            for symbol in self._chosen(symbols):
                self.symbols[symbol].end_shadow()
                self.symbols[symbol].wake()
                await self._turns.give_way()
        return await self.view()

    async def view(self) -> SwitcherView:
        """Which model has which place; each symbol's are those of one instant."""
        symbols = await self._turns.map(
            lambda item: _symbol_view(*item), self.symbols.items(), SYMBOLS_A_TURN
        )
        return SwitcherView(operation=self.operation, failures=self.failures, symbols=symbols)

    async def stop(self) -> None:
        """Give up a load that is under way, and no longer let an answer wait for who is to take over."""
        self._stopping = True
        self._settled.set()
        await self._source.close()

    def _wake(self, symbol: str, models: SymbolModels) -> None:
        self._due[symbol] = models
        self._work.set()

    def _step(self, symbol: str, models: SymbolModels) -> bool:
        """One step of one symbol's models; answers whether more is to be done."""
        more = False
        if models.watching:
            waiting = self._waiting_frames() > 0
            length = models.pipeline.rows.window.length
            if waiting and models.behind <= length - length // 8:  # before any leaves the window
                return True
            until_ns = perf_counter_ns() + STEP_NS
            try:
                more = models.advance(1)
                while more and not waiting and perf_counter_ns() < until_ns:
                    more = models.advance(1)
            except Exception as error:  # an engine's own, of any class: it costs its model the place, no more
                logger.exception("%s: a model that followed failed", symbol)
                self.failures += 1
                models.give_up(f"it failed: {error}")
                models.end_shadow()
        if models.switches != self._told[symbol]:
            self._tell(symbol, models)
        if models.retired:
            models.retired.pop()  # which frees an engine that nobody else holds
            more = True
        self._settled.set()
        return more

    async def _take_over(self, placed: Mapping[str, PlacedModel]) -> None:
        """Let each of `placed` begin to follow; hundreds of symbols give way to frames in between."""
        for symbol, one in placed.items():
            self.symbols[symbol].take_over(one)
            self.symbols[symbol].wake()
            await self._turns.give_way()

    def _tell(self, symbol: str, models: SymbolModels) -> None:
        self._told[symbol] = models.switches
        serving, previous = models.serving, models.previous
        before = "" if previous is None else previous.title
        logger.info("%s: model %s answers from here on, before it %s", symbol, serving.title, before)
        manifest = serving.artifact.manifest
        self._hub.publish_model(
            symbol,
            ModelData(
                model=manifest.name,
                model_version=manifest.version,
                engine=serving.engine.name,
                previous=before,
            ),
        )

    @asynccontextmanager
    async def _changing(self, operation: str) -> AsyncIterator[None]:
        if self.operation:
            raise BusyError(f"{self.operation} is under way; one change at a time")
        self.operation = operation
        try:
            yield
        except BaseException:
            self.failures += 1
            raise
        finally:
            self.operation = ""

    async def _ready(self, model: str, chosen: Sequence[str]) -> dict[str, PlacedModel]:
        places = await self._turns.map(SymbolModels.placed, self.symbols.values(), SYMBOLS_A_TURN)
        loaded = list({one.artifact.sha256: one for placed in places for one in placed}.values())
        rows = {symbol: self.symbols[symbol].pipeline.rows for symbol in chosen}
        return await self._source.ready(model, rows, loaded)

    def _serves(self, symbol: str, placed: PlacedModel) -> bool:
        models = self.symbols[symbol]
        return models.incoming is None and models.serving.artifact.sha256 == placed.artifact.sha256

    async def _settle(self, placed: Mapping[str, PlacedModel], wait_s: float) -> SwitcherView:
        """Wait until none of `placed` is to take over, `wait_s` at most, or a stop; the view of then."""
        try:
            async with asyncio.timeout(wait_s):
                while not self._stopping and any(
                    self.symbols[symbol].incoming is one for symbol, one in placed.items()
                ):
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass
        return await self.view()

    def _chosen(self, symbols: Sequence[str]) -> list[str]:
        """`symbols` as they came, each once; all where none came. Raises InputError for one not served."""
        strange = [symbol for symbol in symbols if symbol not in self.symbols]
        if strange:
            raise InputError(
                f"symbols: {', '.join(map(shorten, strange))} came; allowed: {', '.join(self.symbols)}"
            )
        return list(dict.fromkeys(symbols)) or list(self.symbols)


def _symbol_view(symbol: str, models: SymbolModels) -> SymbolModelsView:
    shadow = models.shadow
    return SymbolModelsView(
        symbol=symbol,
        serving=_place_view(models.serving),
        previous=None if models.previous is None else _place_view(models.previous),
        incoming=None if models.incoming is None else _place_view(models.incoming),
        refusal=models.refusal,
        switches=models.switches,
        shadow=None
        if shadow is None
        else ShadowView(
            model=_place_view(shadow.placed),
            answered=shadow.counters.answered,
            agreed=shadow.counters.agreed,
            unanswered=shadow.counters.unanswered,
            not_finite=shadow.counters.not_finite,
        ),
    )


def _place_view(placed: PlacedModel) -> PlaceView:
    manifest = placed.artifact.manifest
    return PlaceView(model=manifest.name, model_version=manifest.version, engine=placed.engine.name)
