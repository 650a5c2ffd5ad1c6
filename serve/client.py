"""A client of the stream: subscribes to topics, keeps the connection, gives the messages one by one."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from random import Random

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from lob.errors import InputError
from serve.bybit_stream import check_stream_url
from serve.messages import Push, Reply, Request, encode_text, parse_push, topic_name
from serve.reconnect import ReconnectPolicy
from serve.venue_connection import is_this_machine

logger = logging.getLogger(__name__)

REPLY_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 0.5
QUEUED_MESSAGES = 1_024

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
                async with aclosing(self._one_connection()) as pushes:
                    async for push in pushes:
                        yield push
                reason = "the service closed the connection"
            except ConnectionClosed as error:
                reason = f"connection lost: {error}"
            except (OSError, InvalidHandshake, InvalidURI) as error:
                reason = f"cannot connect: {error}" if str(error) else "no answer in time"
            if self.connections == 0:
                raise InputError(f"{self.url}: {reason}")
            if loop.time() - began_s >= self._reconnect.settled_s:
                failures = 0
            if self._reconnect.gives_up_after(failures + 1):
                raise InputError(f"{self.url}: given up after {failures + 1} attempts: {reason}")
            delay_s = self._reconnect.delay_s(failures, self._random)
            failures += 1
            logger.warning("%s: %s; connecting again in %.2f s", self.url, reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _one_connection(self) -> AsyncGenerator[tuple[Push, bytes], None]:
        async with connect(
            self.url,
            compression=None,
            max_queue=QUEUED_MESSAGES,
            close_timeout=CLOSE_TIMEOUT_S,
            proxy=None if is_this_machine(self.url) else True,
        ) as connection:
            await self._subscribe(connection)
            self.connections += 1
            async with aclosing(_texts(connection)) as texts:
                async for text in texts:
                    push = parse_push(text)
                    self.missed += push.missed
                    yield push, text

    async def _subscribe(self, connection: ClientConnection) -> None:
        """Ask for the topics and wait for the reply, which comes before any push."""
        await connection.send(encode_text(Request("subscribe", "1", self._topics)))
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            text = await connection.recv(decode=False)
        try:
            reply = _reply_decoder.decode(text)
        except msgspec.DecodeError as error:
            raise InputError(f"{self.url} answers no request of this protocol: {error}") from error
        if not reply.success:
            raise InputError(f"{self.url} refuses the subscription: {reply.ret_msg}")


async def _texts(connection: ClientConnection) -> AsyncGenerator[bytes, None]:
    """Every message of a connection as bytes; ends when it is closed in good order, raises otherwise."""
    while True:
        try:
            yield await connection.recv(decode=False)
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code in (1000, 1001):
                logger.info("closed by the service: %s", error.rcvd.reason or error.rcvd.code)
                return
            raise
