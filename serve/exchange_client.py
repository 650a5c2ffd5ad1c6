"""One connection to the local exchange: what its client asks, and which topics it has."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection

from serve.bybit_stream import Category
from serve.exchange_protocol import (
    INVALID_OPERATION,
    MAXIMUM_ARGS_CHARACTERS,
    Request,
    RequestError,
    Wording,
    read_request,
)
from serve.outbox import Outbox
from serve.playback import Subscription, Timeline


@dataclass
class ExchangeCounters:
    """What happened to an exchange so far."""

    connections: int = 0
    requests: int = 0
    refused: int = 0
    """Requests that were answered with an error."""
    overruns: int = 0
    """Connections ended because their client was too slow."""
    idle: int = 0
    """Connections ended because nothing was said on them."""
    turned_away: int = 0
    """Connections refused because there were too many."""


class ExchangeClient:
    """One client's topics among the exchange's `timelines`; its answers and frames go to `outbox`.

    `rejects` says whether a request that nothing else is wrong with is to be refused all the same.
    """

    def __init__(
        self,
        category: Category,
        connection: ServerConnection,
        timelines: Mapping[str, Timeline],
        outbox: Outbox,
        counters: ExchangeCounters,
        *,
        rejects: Callable[[Sequence[str]], bool] = lambda _: False,
    ) -> None:
        self.connection = connection
        self.outbox = outbox
        self.asked_s = asyncio.get_running_loop().time()
        """When the client last sent anything, on the event loop's clock."""
        self._rejects = rejects
        self._timelines = timelines
        self._counters = counters
        self._wording = Wording(category=category, connection_id=secrets.token_hex(10))
        self._subscriptions: dict[str, Subscription] = {}

    def answer(self, message: str | bytes) -> None:
        """Act on one message of the client and answer it."""
        self._counters.requests += 1
        self.asked_s = asyncio.get_running_loop().time()
        try:
            request = read_request(message)
        except RequestError as error:
            self._refuse(str(error), None)
            return
        if request.op == "ping":
            self.outbox.answer(self._wording.pong(request))
        elif request.op == "subscribe":
            self._subscribe(request)
        elif request.op == "unsubscribe":
            self._unsubscribe(request)
        else:
            self._refuse(INVALID_OPERATION, request)

    def leave_all(self) -> None:
        """The connection is gone."""
        for topic, subscription in self._subscriptions.items():
            self._timelines[topic].leave(subscription)
        self._subscriptions.clear()

    def _subscribe(self, request: Request) -> None:
        """All topics or, where one of them cannot be, none."""
        reason = self._wording.bad_args(request)
        for i, topic in enumerate(request.args):
            if reason is not None:
                break
            if topic not in self._timelines:
                reason = self._wording.unknown_topic(topic)
            elif topic in self._subscriptions or topic in request.args[:i]:
                reason = self._wording.already_subscribed(topic)
        characters = sum(map(len, [*self._subscriptions, *request.args]))
        if reason is None and characters > MAXIMUM_ARGS_CHARACTERS:
            reason = self._wording.too_many_characters()
        if reason is None and self._rejects(request.args):
            reason = self._wording.rejected()
        if reason is not None:
            self._refuse(reason, request)
            return
        self.outbox.answer(self._wording.done(request))
        for topic in request.args:
            self._subscriptions[topic] = self._timelines[topic].join(self.outbox)

    def _unsubscribe(self, request: Request) -> None:
        """A topic that the connection does not have is no error."""
        reason = self._wording.bad_args(request)
        if reason is not None:
            self._refuse(reason, request)
            return
        for topic in request.args:
            subscription = self._subscriptions.pop(topic, None)
            if subscription is not None:
                self._timelines[topic].leave(subscription)
        self.outbox.answer(self._wording.done(request))

    def _refuse(self, reason: str, request: Request | None) -> None:
        self._counters.refused += 1
        self.outbox.answer(self._wording.refused(reason, request))
