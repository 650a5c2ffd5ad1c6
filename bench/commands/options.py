"""Options that several benchmarks have, each written once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, get_args

import click

from bench.weights import Block, Size
from inference.precision import PRECISIONS

Function: TypeAlias = Callable[..., Any]
Option: TypeAlias = Callable[[Function], Function]

UNLESS_MODEL = "Without --model: "


def sizes_option() -> Option:
    """`--size`, as `sizes`: several, all by default."""
    sizes = get_args(Size)
    return click.option(
        "--size",
        "sizes",
        type=click.Choice(sizes),
        multiple=True,
        default=sizes,
        show_default=True,
        help="May be given again.",
    )


def size_option(default: Size, what: str) -> Option:
    """`--size`, one."""
    return click.option(
        "--size", type=click.Choice(get_args(Size)), default=default, show_default=True, help=what
    )


def block_option(what: str) -> Option:
    """`--block`, one."""
    return click.option(
        "--block", type=click.Choice(get_args(Block)), default="ssd", show_default=True, help=what
    )


def precision_option(what: str) -> Option:
    """`--precision`, one."""
    return click.option(
        "--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True, help=what
    )


def model_options(size: Size) -> Option:
    """`--model` and `--models-dir`, and `--size` and `--block` for a model that is not named."""
    model = click.option(
        "--model", metavar="NAME|PATH", help="A trained model, instead of one of --size and --block."
    )
    models_dir = click.option(
        "--models-dir", type=click.Path(path_type=Path), help="Models beside those that ship."
    )
    shipped = size_option(
        size, f"{UNLESS_MODEL}a shipped model of this size and block, else one of random weights."
    )
    block = block_option(f"{UNLESS_MODEL}the state-space block.")
    return lambda function: model(models_dir(shipped(block(function))))


def runs_option(default: int) -> Option:
    """`--runs` of a benchmark that repeats all it measures."""
    return click.option(
        "--runs", default=default, show_default=True, help="Runs; percentiles are medians of theirs."
    )


def cpu_option(what: str = "Keep the process on core N.") -> Option:
    """`--cpu`."""
    return click.option("--cpu", type=click.IntRange(min=0), metavar="N", help=what)


def seed_option(what: str = "Of the frames.") -> Option:
    """`--seed`."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=what)


def json_option() -> Option:
    """`--json`, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def png_option(what: str = "Also draw the percentiles.") -> Option:
    """`--png`."""
    return click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help=what)


def html_option() -> Option:
    """`--html`."""
    return click.option(
        "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a report page."
    )
