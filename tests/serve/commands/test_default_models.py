import click
import pytest

from inference.registry import shipped_models
from serve.commands import demo, serve


@pytest.mark.parametrize("command", [demo.command, serve.command])
def test_the_default_model_ships(command: click.Command):
    defaults = [option.default for option in command.params if option.name == "model"]
    assert len(defaults) == 1
    assert (shipped_models() / str(defaults[0]) / "manifest.json").is_file()
