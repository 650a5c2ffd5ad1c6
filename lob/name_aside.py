"""Names aside: what is not whole yet stands under one until it is renamed, and what it replaces goes there.

Such a name begins with a dot, so no reader takes it, and tells what a killed process left.
"""

import re
import secrets
from pathlib import Path

_NAME = re.compile(r"\.(?P<original>.+)\.[0-9a-f]{8}\Z", re.DOTALL)


def name_aside(path: Path) -> Path:
    """A new name in the folder of `path`, which no reader takes."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def original_name(path: Path) -> str | None:
    """The name that `name_aside` was given for `path`; None where `path` has no name of that kind."""
    match = _NAME.match(path.name)
    return None if match is None else match["original"]
