"""The sizes a `MambaLOB` comes in, as frozen configurations."""

import dataclasses
import math
from typing import Any, Literal, get_args

from lob.errors import InputError

Block = Literal["s6", "ssd"]
Size = Literal["base", "small", "nano"]

BLOCKS: tuple[Block, ...] = get_args(Block)
SIZES: tuple[Size, ...] = get_args(Size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MambaLOBConfig:
    """Everything that fixes the shapes of a `MambaLOB`; raises InputError where the sizes do not fit."""

    block: Block
    size: str
    layers: int
    width: int  # D
    state_size: int  # N
    expand: int = 2
    conv_width: int = 4
    head_width: int = 32  # P of the SSD block: the S6 block has no heads
    schema: str = "lob44"
    horizons: tuple[int, ...] = (10, 50, 100)
    classes: int = 3
    clip: float = 6.0  # normalised features are held within plus and minus this many scales
    chunk_rows: int = 16  # Q: rows that the training scan takes at once

    def __post_init__(self) -> None:
        """Refuse sizes that no model can have."""
        if self.block not in BLOCKS:
            raise InputError(f"block is {self.block!r}; allowed: {', '.join(BLOCKS)}")
        for name in ("layers", "width", "state_size", "expand", "conv_width", "head_width", "chunk_rows"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}; allowed: a whole number of at least 1")
        if self.conv_width < 2:
            raise InputError(f"conv_width is {self.conv_width}; allowed: at least 2")
        if self.block == "ssd" and self.inner_width % self.head_width:
            raise InputError(
                f"head_width is {self.head_width}; allowed: a divisor of expand * width = {self.inner_width}"
            )
        if not self.horizons or any(not isinstance(k, int) or k < 1 for k in self.horizons):
            raise InputError(f"horizons is {self.horizons!r}; allowed: one or more whole numbers above 0")
        if list(self.horizons) != sorted(set(self.horizons)):
            raise InputError(f"horizons is {self.horizons!r}; allowed: each longer than the one before")
        if self.classes != 3:
            raise InputError(f"classes is {self.classes!r}; allowed: 3 (down, flat, up)")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise InputError(f"clip is {self.clip!r}; allowed: a finite number above 0")

    @property
    def inner_width(self) -> int:
        """E = expand * D, the width inside a block."""
        return self.expand * self.width

    @property
    def heads(self) -> int:
        """The SSD block's heads, E / P."""
        return self.inner_width // self.head_width

    @property
    def dt_rank(self) -> int:
        """R = ceil(D / 16), the rank of the S6 block's time-step projection (Gu & Dao 2023, 3.6)."""
        return math.ceil(self.width / 16)

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each state tensor of one stream, without the batch axis, in their order.

        conv_<layer>: the last conv_width - 1 inputs of the convolution; scan_<layer>: (heads, N, head width)
        of the SSD block, (N, E) of the S6 block.
        """
        scan: tuple[int, ...]
        if self.block == "ssd":
            channels = self.inner_width + 2 * self.state_size
            scan = (self.heads, self.state_size, self.head_width)
        else:
            channels = self.inner_width
            scan = (self.state_size, self.inner_width)
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.layers):
            shapes[f"conv_{layer}"] = (self.conv_width - 1, channels)
            shapes[f"scan_{layer}"] = scan
        return shapes

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MambaLOBConfig":
        """The configuration `as_dict` wrote; raises InputError naming a field that does not belong."""
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise InputError(f"configuration has unknown fields {unknown}; allowed: {sorted(names)}")
        required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        missing = sorted(required - set(values))
        if missing:
            raise InputError(f"configuration lacks the fields {missing}")
        return cls(**{**values, "horizons": tuple(values.get("horizons", cls.horizons))})


def configuration(*, block: Block, size: Size) -> MambaLOBConfig:
    """The shipped configuration of a block and a size; `base` is the reference architecture's size."""
    if block not in BLOCKS:
        raise InputError(f"block is {block!r}; allowed: {', '.join(BLOCKS)}")
    # A larger state is the SSD block's own advantage (Dao & Gu 2024, 9.1): it costs no decay per state.
    sizes: dict[str, tuple[int, int, int]] = {  # layers, width, state size
        "base": (4, 128, 16),
        "small": (2, 64, 32 if block == "ssd" else 16),
        "nano": (1, 32, 16),
    }
    if size not in sizes:
        raise InputError(f"size is {size!r}; allowed: {', '.join(SIZES)}")
    layers, width, state_size = sizes[size]
    chunk_rows = 16 if block == "ssd" else 8  # which train fastest on one core
    return MambaLOBConfig(
        block=block, size=size, layers=layers, width=width, state_size=state_size, chunk_rows=chunk_rows
    )
