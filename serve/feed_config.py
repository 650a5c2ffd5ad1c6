"""Where a feed comes from and how it is kept alive."""

from dataclasses import dataclass, field

from serve.bybit_stream import check_stream_url
from serve.feed_policies import (
    IdlePolicy,
    RefusalPolicy,
    ResyncPolicy,
    SilencePolicy,
    SnapshotPolicy,
    check_above_zero,
)
from serve.reconnect import ReconnectPolicy
from serve.venue_connection import check_transport


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """Where a feed comes from and how it is kept alive.

    `allow_plaintext`: an address without TLS is taken for a machine other than this one, too.
    `unreadable_every_s`: frames that cannot be read are logged at most so often. Raises InputError where the
    address is none or not allowed, or a time is not above 0.
    """

    url: str
    allow_plaintext: bool = False
    send_timeout_s: float = 5.0
    check_interval_s: float = 0.1
    unreadable_every_s: float = 60.0
    idle: IdlePolicy = field(default_factory=IdlePolicy)
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    resync: ResyncPolicy = field(default_factory=ResyncPolicy)
    silence: SilencePolicy = field(default_factory=SilencePolicy)
    snapshot: SnapshotPolicy = field(default_factory=SnapshotPolicy)
    refusal: RefusalPolicy = field(default_factory=RefusalPolicy)

    def __post_init__(self) -> None:
        check_transport(check_stream_url(self.url), allow_plaintext=self.allow_plaintext)
        for name in ("send_timeout_s", "check_interval_s", "unreadable_every_s"):
            check_above_zero(name, getattr(self, name))
