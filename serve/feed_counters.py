"""What happened to a feed so far: in all, and to each of its topics."""

from dataclasses import dataclass


@dataclass
class FeedCounters:
    """What happened to a feed so far, all its topics together."""

    frames: int = 0
    bytes: int = 0
    connections: int = 0
    failed_connections: int = 0
    resyncs: int = 0
    refusals: int = 0
    idle_connections: int = 0
    """Connections given up because nothing arrived on them, not even the answer to a ping."""
    silent_connections: int = 0
    """Connections given up because they answered pings and brought nothing else."""
    unnamed_frames: int = 0
    """Frames that name no topic: replies, and what cannot be read."""
    unknown_topics: int = 0
    """Frames of topics that nobody here takes."""
    full_queues: int = 0
    """Times so many frames waited in the process that reading from the socket paused."""


@dataclass
class TopicCounters:
    """What happened to one topic so far."""

    frames: int = 0
    bytes: int = 0
    resyncs: int = 0
    refusals: int = 0
