"""The listening socket of the service and of the local exchange."""

import socket

from lob.errors import InputError

KERNEL_SEND_BUFFER_BYTES = 64 * 1024
"""SO_SNDBUF of the listening socket, which its connections inherit (the kernel doubles it)."""


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket on `host` and `port` (0: any free one); raises InputError if it is taken."""
    if not 0 <= port <= 65_535:
        raise InputError(f"port: {port} came, 0 to 65535 is allowed")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"host: {host!r} came, which has no address here ({error})") from error
    try:
        listener = socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; allowed: a free port, or 0 for any"
        ) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_SEND_BUFFER_BYTES)
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> tuple[str, int]:
    """The host and the port a socket listens on, the host as a URL writes it."""
    host, port = listener.getsockname()[:2]
    return (f"[{host}]" if ":" in host else host), port
