"""The console script `mambalob`: a thin door that imports a folder's commands only when one is asked for."""

import errno
import gc
import importlib
import sys
from importlib.metadata import version
from types import ModuleType

import click

from lob.errors import MambalobError

COMMANDS = {
    "admin": ("serve.commands.admin", "Change the models of a running service."),
    "bench": ("bench.commands.bench", "Measure latency."),
    "build": ("training.commands.build", "Turn captures into a data set of feature rows."),
    "compare": ("inference.commands.compare", "Hold all engines' answers together on captures."),
    "demo": ("serve.commands.demo", "The whole service on a simulated market, in the terminal."),
    "doctor": ("inference.commands.doctor", "Say what this machine offers and what is wrong with it."),
    "evaluate": ("training.commands.evaluate", "Score a trained run on held-out rows, beside simple rules."),
    "exchange": ("serve.commands.exchange", "A local exchange: captures or a simulated market, with faults."),
    "export": ("training.commands.export", "Turn a trained run into a model that can be served."),
    "fetch": ("serve.commands.fetch", "Download order-book archives by symbol and date."),
    "models": ("inference.commands.models", "List, verify, install and choose models."),
    "quantise": ("training.commands.quantise", "Shorter number formats of a model, and what they cost."),
    "record": ("serve.commands.record", "Record an exchange's frames; verify recordings."),
    "replay": ("inference.commands.replay", "Books, feature rows or predictions of captures."),
    "serve": ("serve.commands.serve", "Predict live: websocket and HTTP."),
    "subscribe": ("serve.commands.subscribe", "Print the predictions of a running service."),
    "train": ("training.commands.train", "Train a model on data sets."),
}
"""Each command's module, imported when it is asked for, and its line in the list of commands."""

TRAIN_EXTRA = {"matplotlib", "onnx", "onnxscript", "safetensors", "sklearn", "torch"}


class Door(click.Group):
    """A command group whose commands are imported by name, on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command `name`, imported now; None where there is no such command."""
        if name not in COMMANDS:
            return None
        try:
            module = _imported(COMMANDS[name][0])
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in TRAIN_EXTRA:
                raise
            from inference.training_extra import INSTALL_TRAINING_EXTRA

            raise click.ClickException(
                f"'mambalob {name}' needs {error.name}, which the serving install leaves out; "
                f"{INSTALL_TRAINING_EXTRA}"
            ) from error
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with a line each, importing none."""
        rows = [(name, COMMANDS[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an error of the input or of the system becomes one line and exit code 1."""
        try:
            return super().invoke(ctx)
        except MambalobError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of the output has gone: click ends quietly
                raise
            place = "" if error.filename is None else f"{error.filename}: "
            raise click.ClickException(f"{place}{error.strerror or error}") from error


def _imported(name: str) -> ModuleType:
    """The module `name`; what its import makes is kept from the garbage collector, now and later.

    Modules stay: to look for garbage among a hundred thousand objects, again and again, takes a tenth of a
    start, and finds none.
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


@click.command(cls=Door, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("mambalob"), prog_name="mambalob")
def main() -> None:
    """Low-latency limit-order-book inference: exchange frame bytes to calibrated probabilities."""


if __name__ == "__main__":
    main()
