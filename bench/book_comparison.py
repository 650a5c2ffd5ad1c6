"""After a run of books: are they all the same, and how do their medians compare with ours."""

from collections.abc import Iterable

from bench.books import PeerStage, RowStage
from bench.peers.book_peer import DISTRIBUTIONS, PrintedSide
from bench.report import Result
from bench.stages import BookStage, Stage
from lob.book import OrderBook
from lob.errors import MambalobError


class WrongBookError(MambalobError):
    """A book differs from ours after a run, so its figures mean nothing."""


def compare_books(stages: Iterable[Stage]) -> int:
    """Hold every book of one depth against that of the stage `book`, level by level; how many were held.

    Prices and sizes are compared as the float64 nearest to their text, which both sides' are, so equal means
    equal. Raises WrongBookError where a book has not taken as many messages, or differs in a level.
    """
    held = list(stages)
    ours = next(stage.book for stage in held if type(stage) is BookStage)
    expected = _printed(ours)
    count = 0
    for stage in held:
        if isinstance(stage, PeerStage):
            taken, found = stage.messages, stage.peer.levels()
        elif isinstance(stage, (BookStage, RowStage)):
            book = stage.book if isinstance(stage, BookStage) else stage.path.book
            if book is ours:
                continue
            taken, found = book.update_id, _printed(book)
        else:
            continue
        if taken != ours.update_id:
            raise WrongBookError(f"{stage.name} {stage.model}: took {taken} messages, ours {ours.update_id}")
        for side, levels, right in zip(("bids", "asks"), found, expected, strict=True):
            if levels != right:
                raise WrongBookError(f"{stage.name} {stage.model}: {_difference(side, levels, right)}")
        count += 1
    return count


def book_ratios(results: Iterable[Result]) -> list[str]:
    """Each peer's median as a multiple of ours, a line for each depth and question."""
    p50 = {(result.subject, result.model): result.p50 for result in results}
    lines = []
    for ours, suffix in (("book", ""), ("book-best", "-best"), ("row", "-frame")):
        for subject, model in p50:
            if subject != ours:
                continue
            ratios = [
                f"{peer + suffix} {p50[peer + suffix, model] / p50[ours, model]:.2f}"
                for peer in DISTRIBUTIONS
                if (peer + suffix, model) in p50
            ]
            if ratios:
                lines.append(f"p50 over that of {ours}, {model}: {', '.join(ratios)}")
    return lines


def _printed(book: OrderBook) -> tuple[PrintedSide, PrintedSide]:
    return book.printed(book.capacity)


def _difference(side: str, found: PrintedSide, expected: PrintedSide) -> str:
    """Where two sides part, in words."""
    for level, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f"{side}, level {level + 1} is {one}, ours {other}"
    return f"{side}, {len(found)} levels, ours {len(expected)}"
