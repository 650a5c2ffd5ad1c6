"""What the admin routes answer with: which model has which place, symbol by symbol."""

import msgspec


class PlaceView(msgspec.Struct, frozen=True, kw_only=True):
    """A model, and the engine that runs it."""

    model: str
    model_version: str
    engine: str


class ShadowView(msgspec.Struct, frozen=True, kw_only=True):
    """The model in the shadow, and what became of the published rows: answered too, agreed, or not."""

    model: PlaceView
    answered: int
    agreed: int
    unanswered: int
    not_finite: int


class SymbolModelsView(msgspec.Struct, frozen=True, kw_only=True):
    """The models of one symbol.

    `previous` is what a rollback takes back; `incoming` is warming up to take over, and `refusal` says why
    the last one that was to did not.
    """

    symbol: str
    serving: PlaceView
    previous: PlaceView | None
    incoming: PlaceView | None
    refusal: str
    switches: int
    shadow: ShadowView | None


class SwitcherView(msgspec.Struct, frozen=True, kw_only=True):
    """The change under way, how many were refused, every symbol's models, and those `known` by name."""

    operation: str
    failures: int
    symbols: list[SymbolModelsView]
    known: list[str] = []
