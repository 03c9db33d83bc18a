"""Says of many clients of many threads whether each has heard each event once, in order, and all of
them the same.

    checker = Checker({"sse", "poll"})
    checker.heard("sse", "t", 1, b"{…}")
    assert checker.verdict({"t": 1}) == ["poll heard nothing of thread t, which has 1 event."]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

MOST_FINDINGS = 20
"""So many sentences of what was heard are kept. One bug makes thousands."""


class Checker:
    """Is told what each client heard, as it hears it. Every client follows every thread from the
    beginning."""

    def __init__(self, clients: Collection[str]) -> None:
        self.clients = frozenset(clients)
        self.events = 0
        self._last: dict[tuple[str, str], int] = {}
        self._bodies: defaultdict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self._findings: list[str] = []

    def heard(self, client: str, thread: str, seq: int, body: bytes) -> None:
        """Note that the client heard this event of the thread next, under this number."""
        assert client in self.clients, f"Nobody said that there is a client {client}."
        self.events += 1
        expected = self.last(client, thread) + 1
        if seq != expected:
            how = "again" if seq < expected else f"though {expected} should have come"
            self._find(f"{client} heard {seq} of thread {thread} {how}.")
        self._last[client, thread] = max(seq, expected - 1)
        self._compare(client, thread, seq, body)

    def last(self, client: str, thread: str) -> int:
        """The highest number that the client has heard of the thread: where it goes on."""
        return self._last.get((client, thread), 0)

    def verdict(self, last: Mapping[str, int]) -> list[str]:
        """What is wrong, in sentences, with the last number of each thread's log at rest; empty if
        nothing is."""
        unknown = sorted({thread for _, thread in self._last} - last.keys())
        findings = [f"Nobody knows of the thread {thread} that was heard." for thread in unknown]
        for thread, number in last.items():
            for client in sorted(self.clients):
                heard = self.last(client, thread)
                if heard == 0 and number:
                    events = "1 event" if number == 1 else f"{number} events"
                    findings.append(
                        f"{client} heard nothing of thread {thread}, which has {events}."
                    )
                elif heard != number:
                    findings.append(f"{client} heard thread {thread} up to {heard}, not {number}.")
        return self._findings + findings

    def _compare(self, client: str, thread: str, seq: int, body: bytes) -> None:
        """Hold the body to what the first who heard this number heard."""
        bodies = self._bodies[thread]
        bodies.extend([("", b"")] * (seq - len(bodies)))
        first, known = bodies[seq - 1]
        if not first:
            bodies[seq - 1] = (client, body)
        elif body != known:
            self._find(
                f"{client} heard {_short(body)} as {seq} of thread {thread}, "
                f"and {first} heard {_short(known)}."
            )

    def _find(self, sentence: str) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(sentence)


def _short(body: bytes) -> str:
    return repr(body if len(body) <= 200 else body[:200] + b"...")
