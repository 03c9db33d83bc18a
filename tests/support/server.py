"""The real server as a process of its own, to be asked, killed and started again; and a client that
is strict about what it gets."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import psutil

from assent.client import Client
from tests.support import agents
from tests.support.command import COLD, REPOSITORY, Process, started
from tests.support.document import check_response
from tests.support.secrets import bearer, leaks
from tests.support.waiting import PATIENCE, until

FRAME = re.compile(rb"(?:id: ([1-9][0-9]*)\n)?(?:event: ([a-z_]+)\n)?data: (\{[^\r\n]*\})")
BEGIN = b": assent\nretry: 1000\n\n"
PING = b": ping\n\n"
END = re.compile(rb': end\nevent: end\ndata: \{"reason": "([a-z]+)"\}\n\n')

JSON = {"accept": "application/json"}
"""Asks for a page of events instead of a stream."""

Event = dict[str, Any]
Json = Any


# ── the process ───────────────────────────────────────────────────────────────────────────────────


class Server:
    """One server process after another, on one port and over the files in one folder. Made by
    `serving`.

    Without a `target` it serves the demo's clerk. A `cold` one is started as its command is,
    whatever the others are.
    """

    def __init__(
        self, folder: Path, target: str | None, environment: Mapping[str, str], *, cold: bool = COLD
    ) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._argv = ["serve", *([target] if target else []), "--port", str(self.port)]
        self._cold = cold
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")
        }
        self.environment = {
            **inherited,
            "PYTHONPATH": str(REPOSITORY),
            "LEDGER": str(self.ledger),
            "ASSENT_DATABASE": f"sqlite:///{folder / 'assent.db'}",
            "ASSENT_RECORDS": str(folder / "records.db"),
            # Tests guess more often than ten times a minute.
            "ASSENT_FAILED_KEYS": "none",
            **environment,
        }
        self._log = folder / "server.log"
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        self.launch()
        self.wait_until_healthy()

    def launch(self) -> None:
        """Start the process, and do not wait for it."""
        assert self._process is None, "The server runs already."
        self._process = started(
            self._argv,
            folder=self.folder,
            environment=self.environment,
            log=self._log,
            cold=self._cold,
        )

    def wait_until_healthy(self) -> None:
        """Wait until the process answers."""
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            code = self._process.poll()
            assert code is None, f"The server ended with {code} as it started:\n{self.output}"
            assert time.monotonic() < deadline, (
                f"The server did not answer within {PATIENCE:g} s:\n{self.output}"
            )
            time.sleep(0.01)

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ask the process to end; return its exit code."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill the process, if it has not died yet, and start another."""
        self.kill()
        self.start()

    def wait_for_death(self) -> None:
        """Wait until the process has died of itself."""
        assert self._process is not None
        self._process.wait(PATIENCE)

    def let_go(self, *amounts: int) -> None:
        """Let the tools that wait with these amounts end."""
        for amount in amounts:
            self.ledger_file(f"go-{amount}").touch()

    def ledger_file(self, suffix: str) -> Path:
        """A file beside the traces, by which a test and its tools understand each other."""
        return self.ledger.with_name(f"{self.ledger.name}.{suffix}")

    async def until_traced(self, *lines: str, times: int = 1) -> None:
        """Wait until the tools have left each of these lines so many times."""
        await until(lambda: all(self.traces().count(line) >= times for line in lines))

    @property
    def output(self) -> str:
        """What the processes have written so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def traces(self, prefix: str = "") -> list[str]:
        """The lines that the tools of `agents.py` left."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [line for line in lines if line.startswith(prefix)]

    def is_listening(self) -> bool:
        """Whether it takes connections. Draining begins before it does not."""
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def peers(self) -> set[int]:
        """The ports of those whose connections the process holds."""
        held = psutil.Process(self.pid).net_connections("tcp")
        return {connection.raddr.port for connection in held if connection.raddr}

    def sql(self, query: str, *parameters: Json) -> list[tuple[Json, ...]]:
        """Ask the database in plain SQL, beside the server or while there is none."""
        with (
            closing(sqlite3.connect(self.folder / "assent.db", timeout=PATIENCE)) as connection,
            connection,
        ):
            return connection.execute(query, parameters).fetchall()

    def answers(self) -> bool:
        """Whether it answers."""
        with closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        ) as connection:
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False

    def _end(self, with_signal: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(with_signal)
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
            raise AssertionError(
                f"The server did not end within {PATIENCE:g} s of {with_signal.name}:\n{self.output}"
            ) from None


@contextmanager
def serving(
    folder: Path, target: str | None = None, *, cold: bool = COLD, **environment: str
) -> Iterator[Server]:
    """A server over the files in `folder`; none is left when the context is. pytest shows its
    output where a test fails."""
    server = Server(folder, target, environment, cold=cold)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        sys.stdout.write(server.output[-20_000:])
    assert leaks(server.output) == [], "The server has logged secrets."


def scripted_agents(folder: Path, *names: str) -> str:
    """A langgraph.json for the agents of `agents.py`: these, or all."""
    return project_of(folder, {agents: names or agents.ALL})


def project_of(folder: Path, names: Mapping[ModuleType, Iterable[str]]) -> str:
    """A langgraph.json for these graphs of the modules, by their own names."""
    graphs = {name: f"{module.__file__}:{name}" for module, its in names.items() for name in its}
    file = folder / "langgraph.json"
    file.write_text(json.dumps({"graphs": graphs}))
    return str(file)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def volley(server: Server, requests: list[tuple[str, Json]]) -> list[tuple[int, Json]]:
    """POST to these paths at once, to the tick: everything is sent but the last byte of each, and
    then those. The statuses and bodies."""
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in requests]
    bodies = [json.dumps(body).encode() for _, body in requests]
    for (path, _), body, (_, writer) in zip(requests, bodies, connections, strict=True):
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        await writer.drain()
    for body, (_, writer) in zip(bodies, connections, strict=True):
        writer.write(body[-1:])
    return [await _answer(reader, writer) for reader, writer in connections]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, Json]:
    async with asyncio.timeout(PATIENCE):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), json.loads(body)


# ── the client ────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def asking(server: Server, **headers: str) -> AsyncIterator[Api]:
    """A client of the server. Each answer that it gets is held to the server's document."""
    timeout = httpx.Timeout(PATIENCE)
    # A connection for each request. httpcore compares its open connections with each other at every
    # request: 200 streams that end at once cost 40 seconds.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=server.url,
        headers=headers,
        timeout=timeout,
        limits=limits,
        trust_env=False,
        verify=False,
        event_hooks={"response": [check_response]},
    ) as http:
        yield Api(http)


@asynccontextmanager
async def asking_as(server: Server, *names: str) -> AsyncIterator[dict[str, Api]]:
    """A client of the server for each of these people, by name, with their own key."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(asking(server, **bearer(name))) for name in names
        }


def _as_everybody_sees(approval: Json) -> Json:
    """The approval without what its reader may do."""
    return {name: value for name, value in approval.items() if name != "yours"}


class Api:
    """Asks the server, as our own client does where only the answer matters; `http` is for tests of
    the wire. What it shows is JSON, as it came."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.client = Client(str(http.base_url), http=http)

    async def stream(self, message: str | None = None, **body: Json) -> list[Event]:
        """Say something, or give another input; the events of the run. Our client would take them
        up again on another connection: this ends with the server."""
        body = body if message is None else {"message": message, **body}
        async with self.http.stream("POST", "/agent/stream", json=body) as response:
            await expect(response, 200)
            return [event async for event in events_of(response)]

    async def paused(self, message: str, **body: Json) -> list[Json]:
        """Say something that the agent must ask a person for; the approvals it asks for."""
        events = await self.stream(message, **body)
        assert events[-1]["type"] == "run_paused", events[-1]
        return await self.pending(events[-1]["thread_id"])

    async def resume(self, thread_id: str, **body: Json) -> httpx.Response:
        """Decide."""
        return await self.http.post(f"/threads/{thread_id}/resume", json=body)

    async def decided(self, thread_id: str, **body: Json) -> Json:
        """Decide, and be told so; the answer."""
        return (await self.client.threads.resume(thread_id, body)).fields

    async def pending(self, thread_id: str) -> list[Json]:
        """The approvals that the thread waits for, in the order in which they were asked for, as
        everybody sees them: without what their reader may do."""
        in_order = (await self.client.threads.get(thread_id)).approvals
        listed = self.client.approvals.list(thread_id=thread_id, status="pending")
        approvals = [approval async for approval in listed]
        assert [each.approval_id for each in approvals] == [each.approval_id for each in in_order]
        return [_as_everybody_sees(each.fields) for each in approvals]

    async def approval(self, approval_id: str) -> Json:
        """One approval, as everybody sees it."""
        return _as_everybody_sees((await self.client.approvals.get(approval_id)).fields)

    async def run(self, thread_id: str, message: str, **body: Json) -> Json:
        """Start a run in the background; its view."""
        return (await self.client.runs.start(message, thread_id=thread_id, **body)).fields

    async def runs(self, thread_id: str, **parameters: Json) -> list[Json]:
        """The newest runs of the thread, the last one first."""
        listed = self.client.runs.list(thread_id=thread_id, limit=1000, **parameters)
        return [run.fields async for run in listed]

    async def ended(self, run_id: str) -> Json:
        """The run, once it has ended or paused."""
        await self.client.runs.wait(run_id)
        return (await self.client.runs.get(run_id)).fields

    async def cancel(self, path: str, **body: Json) -> list[Json]:
        """Cancel what is at this path, a run or all of a thread; the runs that were asked to
        stop."""
        response = await self.http.post(f"{path}/cancel", json=body)
        assert response.status_code in (200, 202), response.text
        runs: list[Json] = response.json()["runs"]
        assert response.status_code == (200 if all(run["ended_at"] for run in runs) else 202)
        return runs

    async def get(self, path: str, **parameters: Json) -> Json:
        """What stands at this path, as JSON."""
        return (await expect(await self.http.get(path, params=parameters), 200)).json()

    async def events(self, thread_id: str, after: int = 0, **parameters: Json) -> list[Event]:
        """The thread's events so far, numbered as they should be if none is left out."""
        events: list[Event] = []
        path, last = f"/threads/{thread_id}/events", after
        while page := (await self.page(path, after=last, **parameters))["events"]:
            events += page
            last = page[-1]["seq"]
        if not parameters:
            assert [event["seq"] for event in events] == list(
                range(after + 1, after + 1 + len(events))
            )
        return events

    async def page(self, path: str, **parameters: Json) -> Json:
        """The page of events at this path."""
        return (
            await expect(await self.http.get(path, params=parameters, headers=JSON), 200)
        ).json()

    async def connections(self, **parameters: Json) -> list[Json]:
        """The streams that are open."""
        found: list[Json] = (await self.get("/connections", **parameters))["connections"]
        return found

    async def until_streams(self, count: int, **parameters: Json) -> None:
        """Wait until so many streams are open."""

        async def are_open() -> bool:
            return len(await self.connections(**parameters)) == count

        await until(are_open)

    @asynccontextmanager
    async def following(
        self, thread_id: str, last: int | None = None, **parameters: Json
    ) -> AsyncIterator[AsyncGenerator[Event, None]]:
        """The thread's events as they come, after the one numbered `last`."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        async with self.http.stream(
            "GET", f"/threads/{thread_id}/events", params=parameters, headers=headers
        ) as response:
            await expect(response, 200)
            async with aclosing(events_of(response)) as events:
                yield events

    async def until(self, thread_id: str, *types: str, after: int = 0) -> list[Event]:
        """The thread's events after a number, up to the first of one of these types, which may be
        still to come."""
        seen = []
        async with asyncio.timeout(PATIENCE), self.following(thread_id, after) as events:
            async for event in events:
                seen.append(event)
                if event["type"] in types:
                    return seen
        raise AssertionError(f"The stream ended without any of {types}: {seen}")

    async def until_there(self, thread_id: str) -> None:
        """Wait until the thread is there: made with a run that another request starts."""

        async def is_there() -> bool:
            return (await self.http.get(f"/threads/{thread_id}")).status_code == 200

        await until(is_there)

    async def at_rest(self, thread_id: str) -> Json:
        """The thread, once no run is active on it."""

        async def rests() -> Json:
            thread = await self.get(f"/threads/{thread_id}")
            return None if thread["status"] == "busy" else thread

        return await until(rests, every=0.05)

    async def last_words(self, thread_id: str) -> str:
        """The text of the thread's last message, once no run is active on it."""
        return str((await self.at_rest(thread_id))["values"]["messages"][-1]["content"])


async def expect(response: httpx.Response, status: int) -> httpx.Response:
    """The response, if it has this status."""
    if response.status_code != status:
        await response.aread()
        raise AssertionError(
            f"{response.request.method} {response.request.url} gave {response.status_code}, not {status}: {response.text}"
        )
    return response


async def problem(response: httpx.Response, status: int) -> Json:
    """The problem document (RFC 9457) that the response must be."""
    await expect(response, status)
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:assent:problem:")
    assert body["title"]
    assert body["detail"].endswith((".", "?")), body
    return body


async def events_of(response: httpx.Response) -> AsyncGenerator[Event, None]:
    """The events in a stream, each frame held to the letter of the wire."""
    rest = b""
    async for chunk in response.aiter_raw():
        *frames, rest = (rest + chunk).split(b"\n\n")
        for frame in frames:
            if is_aside(frame):
                continue
            match = FRAME.fullmatch(frame)
            assert match, f"This is no frame: {frame!r}"
            event: Event = json.loads(match[3])
            if match[1] is None:
                assert event["type"] == "broadcast" and "seq" not in event
            else:
                assert event["seq"] == int(match[1])
            assert match[2] is None or match[2].decode() == event["type"]
            yield event
    assert not rest, f"The stream ended amid a frame: {rest!r}"


def is_aside(frame: bytes) -> bool:
    """True if the frame carries no event: a stream's begin, its end, or a sign of life."""
    whole = frame + b"\n\n"
    return whole in (BEGIN, PING) or END.fullmatch(whole) is not None


def without_ends(body: bytes) -> tuple[bytes, str]:
    """The frames of the events in a whole stream, and the reason of its end."""
    body = body.replace(PING, b"")
    assert body.startswith(BEGIN), body[:100]
    found = END.search(body)
    assert found is not None, body[-100:]
    assert found.end() == len(body), body[-100:]
    return body[len(BEGIN) : found.start()], found[1].decode()


def types_of(events: list[Event]) -> list[str]:
    """Each event's type."""
    return [event["type"] for event in events]


def only(events: list[Event], kind: str) -> Event:
    """The only event of this type."""
    (event,) = [event for event in events if event["type"] == kind]
    return event


def without_tokens(events: list[Event]) -> list[str]:
    """The types that tell the story of a run: what its nodes and models said aside."""
    story = ("run_", "approval_", "tool_", "done", "error")
    return [
        kind for kind in types_of(events) if kind.startswith(story) and kind != "tool_call_delta"
    ]
