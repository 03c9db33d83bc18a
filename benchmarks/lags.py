"""What became of streams whose tokens tell when they were due and made: their lag, and their
cost."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

MILLISECOND = 1e6
SECOND = 1e9


class Heard(NamedTuple):
    """A token: the nanoseconds in which it was due, made, and heard."""

    due: int
    made: int
    at: int

    @classmethod
    def of(cls, token: str, at: int) -> Heard:
        """Of the text of a token that was heard at that time."""
        due, _, made = token.partition(":")
        return cls(int(due), int(made), at)


@dataclass(frozen=True, slots=True)
class Streamed:
    """The lags of all tokens in milliseconds; the seconds after it was due at which the last token
    of a stream was heard, at worst; the events in which the tokens came; and the CPU seconds that
    it took, if they are known."""

    tokens: int
    events: int
    p50: float
    p99: float
    late: float
    cpu: float = 0.0

    @classmethod
    def of(cls, streams: Sequence[Sequence[Heard]], *, events: int, cpu: float = 0.0) -> Streamed:
        """Of streams that each have all their tokens, in order."""
        lags = [(token.at - token.made) / MILLISECOND for stream in streams for token in stream]
        percentiles = statistics.quantiles(lags, n=100)
        late = max((stream[-1].at - stream[-1].due) / SECOND for stream in streams)
        return cls(len(lags), events, percentiles[49], percentiles[98], late, cpu)

    def as_json(self) -> str:
        """For the process that asked."""
        return json.dumps(asdict(self))

    @property
    def cost(self) -> float:
        """Microseconds of CPU per token."""
        return self.cpu / self.tokens * 1e6
