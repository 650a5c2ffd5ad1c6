"""`mambalob train`: data sets to a run's folder, one model a seed."""

from contextlib import nullcontext
from pathlib import Path

import click
import msgspec
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from models.configurations import BLOCKS, SIZES, Block, Size, configuration
from training.dataset import read_dataset
from training.loop import TrainingConfig, Watcher, train_seed
from training.run_directory import EpochRecord, SeedRecord, best_seed
from training.training_run import TrainingRun, prepare_run

FOLDER = click.Path(path_type=Path)
DEFAULTS = TrainingConfig()


class ConsoleWatcher(Watcher):
    """One line an epoch, and on a terminal a bar for the steps within it."""

    def __init__(self, console: Console, progress: Progress | None, seed: int) -> None:
        self.console = console
        self.progress = progress
        self.seed = seed
        self.task: TaskID | None = None

    def on_step(self, epoch: int, share: float, loss: float) -> None:
        """Move the bar."""
        if self.progress is None:
            return
        if self.task is None:
            self.task = self.progress.add_task("", total=1.0)
        text = f"seed {self.seed}, epoch {epoch}, loss {loss:.4f}"
        self.progress.update(self.task, completed=share, description=text)

    def on_epoch(self, record: EpochRecord, is_best: bool) -> None:
        """Print the epoch's figures."""
        per_horizon = " ".join(f"{value:.4f}" for value in record.validation_log_loss)
        trained = "" if record.training_loss is None else f"training {record.training_loss:.4f}, "
        self.console.print(
            f"seed {self.seed}, epoch {record.epoch}: {trained}validation "
            f"{record.mean_validation_log_loss:.4f} ({per_horizon}){' *' if is_best else ''}",
            highlight=False,
            soft_wrap=True,
        )


@click.command("train")
@click.option("--data", required=True, multiple=True, type=FOLDER, metavar="DIR", help="A data set; repeat.")
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="The run's folder.")
@click.option(
    "--block",
    type=click.Choice(BLOCKS),
    default="ssd",
    show_default=True,
    help="The state-space block: s6 (Mamba) or ssd (Mamba-2).",
)
@click.option(
    "--size",
    type=click.Choice(SIZES),
    default="small",
    show_default=True,
    help="Some 10,000 (nano), 64,000 (small) or 430,000 (base) parameters.",
)
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(min=0), help="Repeat for several.")
@click.option("--seeds", "count", type=click.IntRange(min=1), help="Seeds 0 to N - 1.", metavar="N")
@click.option(
    "--validate-on",
    multiple=True,
    metavar="NAME",
    help="Stream whose validation part stops training and fits the temperatures, and whose rows are counted "
    "for the borders of the parts; repeat. Default: every stream that has one.",
)
@click.option(
    "--epochs", type=int, default=DEFAULTS.epochs, show_default=True, help="Passes over the data, at most."
)
@click.option(
    "--patience",
    type=int,
    default=DEFAULTS.patience,
    show_default=True,
    help="Stop after so many epochs without a better validation log loss.",
)
@click.option(
    "--learning-rate", type=float, default=DEFAULTS.learning_rate, show_default=True, help="The highest one."
)
@click.option(
    "--linear-learning-rate",
    type=float,
    default=DEFAULTS.linear_learning_rate,
    show_default=True,
    help="That of the linear path beside the blocks, which starts fitted.",
)
@click.option("--weight-decay", type=float, default=DEFAULTS.weight_decay, show_default=True, help="AdamW's.")
@click.option(
    "--averaging",
    type=float,
    default=DEFAULTS.averaging,
    show_default=True,
    help="The share a step keeps of the running mean of weights, which is what is kept; 0: no mean.",
)
@click.option(
    "--lane-rows",
    type=int,
    default=DEFAULTS.lane_rows,
    show_default=True,
    help="Rows in a row over which the state is carried.",
)
@click.option(
    "--lanes",
    type=int,
    default=DEFAULTS.lanes,
    show_default=True,
    help="Such stretches side by side.",
)
@click.option(
    "--chunk-rows",
    type=int,
    default=DEFAULTS.chunk_rows,
    show_default=True,
    help="Rows of each stretch between two steps of the optimiser; gradients do not cross.",
)
@click.option(
    "--reflect/--no-reflect",
    default=DEFAULTS.reflect,
    show_default=True,
    help="Show about every other stretch, drawn anew each epoch, as its mirror image: bids for asks.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="PyTorch's.")
@click.option("--resume", is_flag=True, help="Go on where a run in --out was interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the seeds' results as one JSON object.")
def command(
    data: tuple[Path, ...],
    out: Path,
    block: Block,
    size: Size,
    seeds: tuple[int, ...],
    count: int | None,
    validate_on: tuple[str, ...],
    epochs: int,
    patience: int,
    learning_rate: float,
    linear_learning_rate: float,
    weight_decay: float,
    averaging: float,
    lane_rows: int,
    lanes: int,
    chunk_rows: int,
    reflect: bool,
    threads: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Train MambaLOB on data sets pooled and split by time: 60 % training, 20 % validation, 20 % held out.

    A seed gives the same weights each time, on the same number of threads.
    """
    torch.set_num_threads(threads)
    config = TrainingConfig(
        epochs=epochs,
        patience=patience,
        lane_rows=lane_rows,
        lanes=lanes,
        chunk_rows=chunk_rows,
        learning_rate=learning_rate,
        linear_learning_rate=linear_learning_rate,
        weight_decay=weight_decay,
        averaging=averaging,
        reflect=reflect,
    )
    run = prepare_run(
        [read_dataset(directory) for directory in data],
        out,
        configuration(block=block, size=size),
        config,
        validate_on=validate_on,
        resume=resume,
    )
    console = Console(stderr=True)
    for stream in run.streams:
        parts = (stream.split.training, stream.split.validation, stream.split.test)
        console.print(
            f"{stream.name}: {' / '.join(f'{len(part):,}' for part in parts)} rows "
            "to train on / validate on / hold out",
            highlight=False,
            soft_wrap=True,
        )
    results = [train_one(run, seed, console) for seed in wanted_seeds(seeds, count)]
    chosen = best_seed(out)
    if as_json:
        click.echo(msgspec.json.encode({"run": str(out), "best": chosen.name, "seeds": results}))
        return
    for result in results:
        click.echo(
            f"seed {result.seed}: validation log loss {result.mean_validation_log_loss:.4f} at epoch "
            f"{result.best_epoch} of {result.epochs[-1].epoch}, {result.seconds:.0f} s"
        )
    click.echo(f"best: {chosen}")


def wanted_seeds(seeds: tuple[int, ...], count: int | None) -> list[int]:
    """Seeds named one by one, or the first `count`; 0 where neither is given."""
    if seeds and count is not None:
        raise click.UsageError("--seed names seeds, --seeds counts them; use one of the two")
    return list(seeds) if seeds else list(range(count or 1))


def train_one(run: TrainingRun, seed: int, console: Console) -> SeedRecord:
    """One seed, watched on the console."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True) if console.is_terminal else None
    with progress or nullcontext():
        return train_seed(
            run.streams,
            run.validation,
            run.model_config,
            run.config,
            seed=seed,
            directory=run.seed_directory(seed),
            resume=run.resume,
            watcher=ConsoleWatcher(console, progress, seed),
        )
