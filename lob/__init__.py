"""The order book, its feed and its feature rows: no sockets, no clock, no logging."""
