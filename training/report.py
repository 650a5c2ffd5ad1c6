"""An evaluation as tables for a terminal, and as the same tables in Markdown for a card."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.table import Table

from training.bootstrap import FEWEST_ROWS
from training.evaluation import HorizonEvaluation, StreamEvaluation

COLUMNS: tuple[tuple[str, str], ...] = (
    ("log loss", "log_loss"),
    ("uncalibrated", "log_loss_uncalibrated"),
    ("direction AUC", "direction_auc"),
    ("ECE", "expected_calibration_error"),
    ("macro F1", "macro_f1"),
    ("over prior", "macro_f1_over_prior"),
    ("MCC", "matthews"),
    ("accuracy", "accuracy"),
)
NOTES = (
    "log loss, ECE: after temperature calibration on the validation part; ECE of the greatest probability, "
    "15 bins of equal width. direction AUC: up against down on the rows that moved, of the log odds "
    "(the microprice rule: of microprice - mid). macro F1, MCC, accuracy: by the greatest probability; "
    "over prior: macro F1 by the greatest ratio of probability to training share. Differences: mean over the "
    "seeds, in brackets the 95 % interval of a moving-block bootstrap (blocks of 500 rows; none for fewer "
    "than five of them)."
)


def title(stream: StreamEvaluation, horizon: HorizonEvaluation) -> str:
    """`btcusd-perp, k = 10: 4,756 rows, down .16 flat .69 up .14 (training .10 .82 .08)`."""
    names = ("down", "flat", "up")
    shares = " ".join(f"{name} {share:.3f}" for name, share in zip(names, horizon.shares, strict=True))
    training = " ".join(f"{share:.3f}" for share in horizon.training_shares)
    return f"{stream.stream}, k = {horizon.horizon}: {horizon.rows:,} rows, {shares} (training {training})"


def table_rows(horizon: HorizonEvaluation) -> Iterator[tuple[str, ...]]:
    """Method and its scores, as text; the seeds of a model first one by one, then together."""
    for scores in horizon.methods:
        yield (scores.method, *(formatted([getattr(scores, field)]) for _, field in COLUMNS))
    seeds = [scores for scores in horizon.methods if scores.seed is not None]
    if len(seeds) > 1:
        together = [[getattr(scores, field) for scores in seeds] for _, field in COLUMNS]
        yield (f"mean of {len(seeds)} seeds", *(formatted(values) for values in together))
        yield ("greatest less least", *(spread(values) for values in together))


def formatted(values: Sequence[float | None]) -> str:
    """The mean of the values there are, as 0.123; a dash where there are none."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}" if known else "-"


def spread(values: Sequence[float | None]) -> str:
    """The greatest of the values there are less the least; a dash where there are none."""
    known = [value for value in values if value is not None]
    return f"{max(known) - min(known):.3f}" if known else "-"


def comparison_lines(horizon: HorizonEvaluation) -> Iterator[str]:
    """`log loss less that of logistic, all streams: -0.012 [-0.020, -0.003]` for each comparison."""
    for each in horizon.comparisons:
        if each.difference is None:
            continue
        bounds = "(no interval)"
        if each.low is not None and each.high is not None:
            bounds = f"[{each.low:+.3f}, {each.high:+.3f}]"
        elif horizon.rows < FEWEST_ROWS:
            bounds = f"(no interval: {horizon.rows:,} rows, it takes {FEWEST_ROWS:,})"
        yield f"{each.score} less that of {each.against}: {each.difference:+.3f} {bounds}"


def rich_tables(stream: StreamEvaluation) -> Iterator[Table]:
    """One table a horizon, the bootstrap intervals below it."""
    for horizon in stream.horizons:
        table = Table(
            title=title(stream, horizon),
            caption="\n".join(comparison_lines(horizon)),
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("method", no_wrap=True)
        for name, _ in COLUMNS:
            table.add_column(name, justify="right")
        for row in table_rows(horizon):
            table.add_row(*row)
        yield table


def markdown_tables(stream: StreamEvaluation) -> str:
    """The same as Markdown."""
    lines = []
    for horizon in stream.horizons:
        lines += [f"**{title(stream, horizon)}**", ""]
        lines += [
            f"| method | {' | '.join(name for name, _ in COLUMNS)} |",
            "|---" * (len(COLUMNS) + 1) + "|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in table_rows(horizon)]
        lines += ["", *(f"- {line}" for line in comparison_lines(horizon)), ""]
    return "\n".join(lines)
