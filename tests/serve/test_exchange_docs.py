"""The page on the local exchange: every command on it is one, and every kind of fault is on it."""

import re
import shlex
from pathlib import Path

import pytest

from serve.commands.exchange import command
from serve.fault_plan import KINDS, read_rule, read_script

PAGE = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text()
COMMANDS = re.findall(r"mambalob exchange --[^`\n]*", PAGE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_on_the_page_can_be_given(line: str) -> None:
    arguments = shlex.split(line)[2:]
    given = command.make_context("exchange", arguments).params
    assert given["simulate"]
    for rule in given["rules"]:
        read_rule(rule)


def test_every_kind_has_an_example_and_a_row() -> None:
    tried = {
        read_rule(rule).kind
        for rule in re.findall(r"--fault ([^\s`]+)", PAGE)
        if "=N" not in rule and "[" not in rule
    }
    assert tried == set(KINDS)
    assert all(f"| `{kind}` |" in PAGE for kind in KINDS)


def test_the_script_on_the_page_can_be_read(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text("\n".join(re.findall(r'^\{"fault".*$', PAGE, re.MULTILINE)))
    assert [rule.kind for rule in read_script(script)] == ["drop", "stall", "refuse"]
