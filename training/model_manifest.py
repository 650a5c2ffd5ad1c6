"""What a manifest says of a model: its architecture, its state, and the libraries it was made with."""

from typing import Any

from inference.manifest import (
    Architecture,
    Context,
    Manifest,
    SchemaReference,
    StateTensor,
    TrainingData,
)
from lob.schema import Sampling
from models.mamba_lob import MambaLOB, parameter_count
from training.libraries import library_versions

FAMILY = "mamba-lob"

_NAMED = {"block", "size", "layers", "width", "state_size", "expand", "schema", "horizons", "classes"}
"""Parts of a configuration that have a field of their own."""


def model_manifest(
    model: MambaLOB,
    *,
    name: str,
    version: str,
    schema: SchemaReference,
    sampling: Sampling,
    context: Context,
    window_length: int,
    warmup_rows: int,
    temperatures: tuple[float, ...],
    training: TrainingData,
    metrics: dict[str, Any] | None = None,
) -> Manifest:
    """The manifest of `model`, whose graphs are not named yet."""
    config = model.config
    return Manifest(
        name=name,
        version=version,
        architecture=Architecture(
            family=FAMILY,
            block=config.block,
            size=config.size,
            layers=config.layers,
            width=config.width,
            state_size=config.state_size,
            expand=config.expand,
            parameters=parameter_count(model),
            details={key: value for key, value in config.as_dict().items() if key not in _NAMED},
        ),
        schema=schema,
        sampling=sampling,
        context=context,
        window_length=window_length,
        warmup_rows=warmup_rows,
        horizons=config.horizons,
        state=tuple(
            StateTensor(name=tensor_name, shape=(1, *shape))
            for tensor_name, shape in config.state_shapes.items()
        ),
        temperatures=temperatures,
        training=training,
        metrics=metrics or {},
        libraries=library_versions(),
    )
