"""Ten thousand readers of one thread that only wait: the memory of each, the cost of keeping them,
and the time until one event has reached them all.

Run alone with `python -m benchmarks readers`. The readers are raw sockets in a process of their own
(`crowd.py`). Memory is the server's whole process, two heartbeats after the last reader has
connected, and without what the server and the first readers need anyway.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.crowd import TIMEOUT_SECONDS, Crowd, gathered
from benchmarks.server import served
from benchmarks.sizes import sized

PATHS = {"SSE": "/threads/t/events", "WebSocket": "/threads/t/ws"}
KILOBYTES = {"SSE": 25, "WebSocket": 30}
SECONDS = 5.0

ONE = f"{1:040}"
"""Asks the graph for one token, in a message that is no other's."""


@dataclass(frozen=True, slots=True)
class Size:
    """So many readers, after the `first`, and seconds between heartbeats."""

    first: int
    readers: int
    heartbeat: float

    @property
    def settings(self) -> dict[str, str]:
        """What the server is to be started with."""
        return {
            "ASSENT_HEARTBEAT": f"{self.heartbeat}s",
            "ASSENT_MAX_STREAMS_PER_CLIENT": str(self.first + self.readers),
        }


SIZE = Size(sized(500, 20), sized(10_000, 50), sized(5_000, 200) / 1000)


@dataclass(frozen=True, slots=True)
class Cost:
    """The bytes of one reader, the seconds until the last of all had connected, the share of a
    processor that they took while they waited, and the seconds until all had heard a broadcast and
    an event."""

    each: float
    connecting: float
    waiting: float
    broadcast: float
    event: float


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    for transport, path in PATHS.items():
        with served(**SIZE.settings) as (process, port):
            cost = cost_of(SIZE, path, psutil.Process(process.pid), port)
        print(f"{SIZE.readers:,} readers over {transport}, connected in {cost.connecting:.1f} s")
        for what, figure, unit, target in (
            ("memory of each", cost.each / 1000, "kB", KILOBYTES[transport]),
            ("a broadcast has reached all", cost.broadcast, "s", SECONDS),
            ("an event of the thread has reached all", cost.event, "s", SECONDS),
        ):
            verdict = "met" if figure <= target else "MISSED"
            print(f"  {what:40} {figure:7.2f} {unit:2} at most {target:g} {unit}: {verdict}")
        print(f"  {'processor while they wait':40} {cost.waiting:7.1%}")


def cost_of(size: Size, path: str, server: psutil.Process, port: int) -> Cost:
    """Measure so many readers of this path."""
    last = say(port, "1")
    with gathered(port) as crowd:
        crowd.open(path, size.first, last=last)
        time.sleep(2 * size.heartbeat)
        before = server.memory_info().rss
        connecting = crowd.open(path, size.readers, last=last)
        waiting = load(server, 2 * size.heartbeat)
        each = (server.memory_info().rss - before) / size.readers
        broadcast = heard_after(
            "Tea is ready.", crowd, lambda word: post(port, "/broadcast", message=word)
        )
        event = heard_after(ONE, crowd, lambda word: say(port, word))
    return Cost(each, connecting, waiting, broadcast, event)


def load(process: psutil.Process, seconds: float) -> float:
    """The share of a processor that the process takes for so long."""

    def cpu() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    before = cpu()
    time.sleep(seconds)
    return (cpu() - before) / seconds


def heard_after(word: str, crowd: Crowd, tell: Callable[[str], object]) -> float:
    """The seconds after which the last reader has this word, which is told now."""
    crowd.expect(word)
    begun = time.monotonic()
    tell(word)
    return crowd.heard() - begun


def say(port: int, message: str) -> int:
    """Say something on the thread that is read, and wait for the end; the last event's number."""
    run = post(port, "/agent/runs", message=message, thread_id="t")
    ask(port, f"/runs/{run['run_id']}/wait")
    page = ask(port, "/threads/t/events?limit=1000", accept="application/json")
    return int(page["next"])


def post(port: int, path: str, **body: Any) -> Any:
    """What the server answers to this body."""
    return ask(port, path, json.dumps(body).encode(), content_type="application/json")


def ask(port: int, path: str, body: bytes | None = None, **headers: str) -> Any:
    """What the server answers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, named)
    # No proxy leads to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)
