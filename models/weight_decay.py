"""Which parameters AdamW may shrink and which it may not."""

from typing import Any

from torch import nn

from lob.errors import InputError


def without_weight_decay(parameter: nn.Parameter) -> nn.Parameter:
    """Mark a parameter as one that weight decay must leave alone, and return it."""
    parameter._no_weight_decay = True  # type: ignore[attr-defined] # the mark the Mamba repository uses
    return parameter


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's two groups: what `weight_decay` may shrink, and what is marked (A_log, D, norms, biases)."""
    if not weight_decay >= 0:
        raise InputError(f"weight_decay is {weight_decay!r}; allowed: 0 or more")
    free = [p for p in model.parameters() if getattr(p, "_no_weight_decay", False)]
    decayed = [p for p in model.parameters() if not getattr(p, "_no_weight_decay", False)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
