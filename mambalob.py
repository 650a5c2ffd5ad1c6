"""The console script `mambalob`: a thin door that imports a folder's commands only when one is asked for."""

import errno
import importlib
from importlib.metadata import version

import click

from lob.errors import MambalobError

COMMANDS = {
    "bench": "bench.commands.bench",
    "build": "training.commands.build",
    "demo": "serve.commands.demo",
    "doctor": "inference.commands.doctor",
    "evaluate": "training.commands.evaluate",
    "exchange": "serve.commands.exchange",
    "export": "training.commands.export",
    "fetch": "serve.commands.fetch",
    "models": "inference.commands.models",
    "record": "serve.commands.record",
    "replay": "inference.commands.replay",
    "serve": "serve.commands.serve",
    "subscribe": "serve.commands.subscribe",
    "train": "training.commands.train",
}
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
            module = importlib.import_module(COMMANDS[name])
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in TRAIN_EXTRA:
                raise
            raise click.ClickException(
                f"'mambalob {name}' needs {error.name}, which the serving install leaves out; "
                "install the training extra: pip install 'mambalob[train]'"
            ) from error
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by the folder that holds them, importing none."""
        rows = [(name, COMMANDS[name].split(".", maxsplit=1)[0]) for name in self.list_commands(ctx)]
        with formatter.section("Commands (and the folder each lives in)"):
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


@click.command(cls=Door, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("mambalob"), prog_name="mambalob")
def main() -> None:
    """Low-latency limit-order-book inference: exchange frame bytes to calibrated probabilities."""


if __name__ == "__main__":
    main()
