import socket

import pytest

from lob.errors import InputError
from serve.listener import address_of, listen


def test_listens_on_a_free_port_and_says_which() -> None:
    with listen("127.0.0.1", 0) as listener:
        host, port = address_of(listener)
        assert host == "127.0.0.1"
        with socket.create_connection((host, port), timeout=5):
            pass
        with pytest.raises(InputError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
            listen("127.0.0.1", port)
    listen("127.0.0.1", port).close()  # free again at once


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_as_a_url_writes_it() -> None:
    try:
        listener = listen("::1", 0)
    except InputError as error:
        pytest.skip(f"no IPv6 loopback: {error}")
    with listener:
        assert address_of(listener)[0] == "[::1]"


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("no.such.host.invalid", 0, "host: 'no.such.host.invalid' came, which has no address here"),
        ("127.0.0.1", 65_536, "port: 65536 came, 0 to 65535 is allowed"),
        ("127.0.0.1", -1, "port: -1 came"),
        ("203.0.113.1", 0, "cannot listen on 203.0.113.1:0"),
    ],
)
def test_what_cannot_be_listened_on_is_refused(host: str, port: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        listen(host, port)
