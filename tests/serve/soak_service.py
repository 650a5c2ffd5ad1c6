"""`mambalob serve` with a tap: each published prediction is written down beside the digest of its whole book.

    python -m tests.serve.soak_service TAP_FILE SERVE_OPTION...

One line a prediction: `symbol update_id sequence receive_ns mid digest`, with spaces between. The service is
the one that ships; the taps stand around the method that makes predictions and the one that publishes them.
"""

import sys
from pathlib import Path

import mambalob
from inference.pipeline import Pipeline
from inference.prediction import Prediction
from lob.book import OrderBook
from lob.book_digest import book_digest
from lob.messages import BookUpdate
from serve.hub import Hub


def whole_digest(book: OrderBook) -> int:
    """The digest of all levels of a book."""
    instrument = book.instrument
    scale = 10**instrument.tick_decimals
    bid_ticks, bid_sizes = book.bids()
    ask_ticks, ask_sizes = book.asks()
    return book_digest(
        bid_ticks * instrument.tick_mantissa / scale,
        bid_sizes,
        ask_ticks * instrument.tick_mantissa / scale,
        ask_sizes,
    )


def tap_predictions(path: Path) -> None:
    """Write a line to `path` for each prediction that any hub of this process publishes from now on."""
    file = path.open("x", buffering=1)
    on_frame, publish = Pipeline.on_frame, Hub.publish
    line = ""

    def tapped_on_frame(self: Pipeline, frame: bytes, receive_ns: int) -> Prediction | None:
        nonlocal line
        prediction = on_frame(self, frame, receive_ns)
        if prediction is not None:
            message = self.rows.message
            assert isinstance(message, BookUpdate), "a prediction without a book message"
            digest = whole_digest(self.rows.book)
            numbers = f"{prediction.update_id} {message.sequence} {receive_ns} {prediction.mid!r}"
            line = f"{prediction.symbol} {numbers} {digest:016x}\n"
        return prediction

    def tapped_publish(self: Hub, prediction: Prediction) -> None:
        file.write(line)
        publish(self, prediction)

    Pipeline.on_frame = tapped_on_frame  # type: ignore[method-assign]  # the point of a tap
    Hub.publish = tapped_publish  # type: ignore[method-assign]  # likewise


if __name__ == "__main__":
    tap_predictions(Path(sys.argv[1]))
    sys.argv = ["mambalob", "serve", *sys.argv[2:]]
    mambalob.main()
