"""Requests to a real server that answers as badly as a server can."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from serve.http_get import HttpError, http_get


@contextmanager
def server(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Has `talk` answer one connection after the other; it is told when to stop."""
    stopped = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def run() -> None:
        while not stopped.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.settimeout(5)
                    while b"\r\n\r\n" not in connection.recv(65_536):
                        pass
                    talk(connection, stopped)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/depth"
    finally:
        stopped.set()
        thread.join()
        listener.close()


def says(answer: bytes) -> Callable[[socket.socket, threading.Event], None]:
    return lambda connection, stopped: connection.sendall(answer)


def drips(beginning: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """A byte now and then for ever, so that no time-out of a single read is ever reached."""

    def talk(connection: socket.socket, stopped: threading.Event) -> None:
        connection.sendall(beginning)
        while not stopped.wait(0.02):
            connection.sendall(b"x")

    return talk


def test_the_body_of_an_answer() -> None:
    with server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")) as url:
        assert http_get(url, timeout_s=5) == b"hi"


@pytest.mark.parametrize(
    "beginning",
    [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"],
)
def test_an_answer_that_drips_is_cut_when_its_time_is_up(beginning: bytes) -> None:
    with server(drips(beginning)) as url, pytest.raises(HttpError, match=r"in 0\.2 s"):
        http_get(url, timeout_s=0.2)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 7", 7.0),
        ("Retry-After: soon", None),
        ("Retry-After: -1", None),
        ("Retry-After: inf", None),
        ("X: 1", None),
    ],
)
def test_a_status_that_says_no_is_told_with_its_words(header: str, seconds: float | None) -> None:
    answer = f"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n{header}\r\n\r\n{{}}".encode()
    with server(says(answer)) as url, pytest.raises(HttpError, match="HTTP 429") as caught:
        http_get(url, timeout_s=5)
    assert (caught.value.status, caught.value.body, caught.value.retry_after_s) == (429, b"{}", seconds)


def test_a_redirection_is_not_followed() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n"
    with server(says(answer)) as url, pytest.raises(HttpError, match="HTTP 302"):
        http_get(url, timeout_s=5)


def test_an_answer_above_the_bound_is_refused() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000
    with server(says(answer)) as url, pytest.raises(HttpError, match="above 1000 bytes"):
        http_get(url, timeout_s=5, maximum_bytes=1_000)


def test_an_answer_that_is_cut_off_by_the_server_is_none() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    with server(says(answer)) as url, pytest.raises(HttpError, match="4 of 100 bytes"):
        http_get(url, timeout_s=5)
