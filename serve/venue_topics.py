"""What a symbol's book and trades are called on each venue, and whose words the subscriber speaks."""

from lob.venues import Venue
from serve import binance_stream, bybit_stream
from serve.bybit_whole_book import BybitWholeBookStream
from serve.venue_stream import Topic, VenueStream


def resolve_address(venue: Venue, url: str | None, category: str | None) -> tuple[str, str]:
    """(address, category) of a venue's stream from the two options a user may give; raises InputError."""
    resolve = bybit_stream.resolve_stream if venue == "bybit" else binance_stream.resolve_binance
    return resolve(url, category)


def book_topic(venue: Venue, symbol: str, depth: int) -> Topic:
    """The order book's topic; `depth` names Bybit's, Binance sends the whole book."""
    if venue == "bybit":
        return bybit_stream.BookTopic(symbol=symbol, depth=depth)
    return binance_stream.DepthTopic(symbol=symbol)


def trade_topic(venue: Venue, symbol: str, category: str) -> Topic:
    """The public trades' topic."""
    if venue == "bybit":
        return bybit_stream.TradeTopic(symbol=symbol)
    return binance_stream.TradeTopic(symbol=symbol, category=category)


def venue_stream(venue: Venue, url: str, category: str) -> VenueStream:
    """The venue's words, for a stream at `url`."""
    if venue == "bybit":
        return BybitWholeBookStream(url, category)
    return binance_stream.BinanceStream(url, category)
