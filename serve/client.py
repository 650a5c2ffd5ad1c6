"""A client of the stream: subscribes to topics, keeps the connection, gives the messages one by one."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from random import Random

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from lob.errors import InputError
from serve.bybit_stream import check_stream_url, public_address
from serve.messages import Push, Reply, Request, encode_text, parse_push, topic_name
from serve.reconnect import ReconnectPolicy
from serve.venue_connection import is_this_machine

logger = logging.getLogger(__name__)

REPLY_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 0.5
QUEUED_MESSAGES = 1_024
CLOSED_IN_GOOD_ORDER = (1000, 1001)

_reply_decoder = msgspec.json.Decoder(Reply)


class StreamClient:
    """One subscription to the predictions of some symbols.

    The first connection must succeed; one that is lost later is made again as `reconnect` says, without an
    end unless it gives one. `missed` counts what the service left out because this client was slow.
    """

    def __init__(
        self,
        url: str,
        symbols: Sequence[str],
        reconnect: ReconnectPolicy | None = None,
        random: Random | None = None,
    ) -> None:
        self.url = check_stream_url(url)
        self._address = public_address(url)
        self.missed = 0
        self.connections = 0
        self._topics = [topic_name(symbol) for symbol in symbols]
        self._reconnect = reconnect or ReconnectPolicy()
        self._random = random or Random()  # noqa: S311  # jitter, no secret

    async def messages(self) -> AsyncGenerator[tuple[Push, bytes], None]:
        """Every message pushed, read and as its bytes came, from one connection after the other.

        Raises InputError where the first connection cannot be made, the service refuses a topic, or the
        attempts the policy allows are used up.
        """
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began_s = loop.time()
            try:
                async with self._connect() as connection:
                    await self._subscribe(connection)
                    self.connections += 1
                    while True:
                        text = await connection.recv(decode=False)
                        push = parse_push(text)
                        self.missed += push.missed
                        yield push, text
            except ConnectionClosed as error:
                told = error.rcvd is not None and error.rcvd.code in CLOSED_IN_GOOD_ORDER
                reason = f"closed by the service: {error.rcvd}" if told else f"connection lost: {error}"
            except (OSError, InvalidHandshake, InvalidURI) as error:
                reason = f"cannot connect: {error}" if str(error) else "no answer in time"
            if self.connections == 0:
                raise InputError(f"{self._address}: {reason}")
            if loop.time() - began_s >= self._reconnect.settled_s:
                failures = 0
            if self._reconnect.gives_up_after(failures + 1):
                raise InputError(f"{self._address}: given up after {failures + 1} attempts: {reason}")
            delay_s = self._reconnect.delay_s(failures, self._random)
            failures += 1
            logger.warning("%s: %s; connecting again in %.2f s", self._address, reason, delay_s)
            await asyncio.sleep(delay_s)

    def _connect(self) -> connect:
        return connect(
            self.url,
            compression=None,
            max_queue=QUEUED_MESSAGES,
            close_timeout=CLOSE_TIMEOUT_S,
            proxy=None if is_this_machine(self.url) else True,
        )

    async def _subscribe(self, connection: ClientConnection) -> None:
        """Ask for the topics and wait for the reply, which comes before any push."""
        await connection.send(encode_text(Request("subscribe", "1", self._topics)))
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            text = await connection.recv(decode=False)
        try:
            reply = _reply_decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{self._address} answers no request of this protocol: {error}") from error
        if not reply.success:
            raise InputError(f"{self._address} refuses the subscription: {reply.ret_msg}")
