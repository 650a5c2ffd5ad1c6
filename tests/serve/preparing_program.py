"""Programs that a test has in the place of the process that makes models ready."""

import sys
from pathlib import Path

ON_CHOSEN_PAGES = """
import sys

from inference.fused import loaded_model
from inference.fused.page_file import PageFile, PageMapping
from inference.fused.page_placement import ChosenPages
from serve.preparation_worker import main


def place_pages(words):
    count = -(-words.nbytes // 4096)
    file, order = PageFile(2 * count), tuple(range(2 * count - 1, count - 1, -1))
    file.keep_only(order)
    mapping = PageMapping(file.descriptor, order)
    mapping.map_next(count)
    mapping.words[: words.size] = words
    told = order[: count - int(sys.argv[1])]
    return ChosenPages(words=mapping.words[: words.size], file=file, order=told)


loaded_model.place_pages = place_pages
main()
"""


def program_that(folder: Path, does: str) -> str:
    """The path of a shell script that `does` something instead of preparing models."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o700)
    return str(program)


def program_that_chooses_pages(folder: Path, leaves_out: int = 0) -> str:
    """One that makes models ready on the pages of a file, from the last one on, whatever the cache's size.

    So many of the last pages it does not tell of.
    """
    source = folder / "on_chosen_pages.py"
    source.write_text(ON_CHOSEN_PAGES)
    return program_that(folder, f"exec '{sys.executable}' -P '{source}' {leaves_out}")
