"""The clients of a dialect, in a process of their own:
`python -m benchmarks.dialect_client DIALECT PORT RUNS TOKENS TIMES`.

Each has a run make TOKENS tokens, and follows it to its end as the dialect's document says; RUNS of
them at once, and TIMES times over. Raises if any has not heard the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from websockets.asyncio.client import connect

from benchmarks.client import TIMEOUT_SECONDS, Listener, dechunked

Client = Callable[[int, int], Awaitable[None]]
"""Has a run at this port make so many tokens, and follows it."""


async def native(port: int, tokens: int) -> None:
    """Our own stream of a run."""
    run = await started(port, tokens)
    expect(await asked(port, f"/runs/{run}/stream"), b'"type":"done"', END)


async def human_input(port: int, tokens: int) -> None:
    """A run that asks nobody anything, so that only its end is told."""
    run = await started(port, tokens)
    expect(await asked(port, f"/events/human-input/{run}"), b"\n\n: end done\n\n")


async def progress(port: int, tokens: int) -> None:
    """The progress of a run, and its result."""
    run = await started(port, tokens)
    expect(await asked(port, f"/progress/{run}"), b'"type":"result"', b"data: [DONE]\n\n")


async def tasks(port: int, tokens: int) -> None:
    """A task that is executed and followed."""
    tasks = f"/api/v1/agents/{AGENT}/tasks"
    made = await told(port, tasks, {"description": "Count.", "user_id": "bench"})
    task = f"{tasks}/{made['id']}"
    await told(port, f"{task}/execute", {"query": str(tokens), "enable_streaming": True})
    events = await asked(port, f"{task}/events/stream?include_history=true")
    expect(events, b"event: WorkflowCompleted\n", b"\n\n: end done\n\n")


async def query(port: int, tokens: int) -> None:
    """A socket on which one query is asked."""
    uri = f"ws://127.0.0.1:{port}/ws/query"
    async with connect(uri, proxy=None) as socket:
        await socket.send(json.dumps({"query": str(tokens), "stream_thinking": True}))
        async for message in socket:
            event = json.loads(message)
            if event["type"] == "agent_execution_complete":
                return
            if event["type"] == "agent_execution_error":
                break
    raise ValueError(f"The query was not answered: {event}.")


async def langgraph(port: int, tokens: int) -> None:
    """A run as LangGraph's SDKs and UIs follow it: the messages in pieces, and the states."""
    frames = await turn(port, str(uuid4()), tokens, "messages-tuple", "values")
    expect(frames, b"event: messages\n", b"event: values\n")


async def protocol(port: int, tokens: int) -> None:
    """A run that is started and followed over a WebSocket, by LangGraph's thread protocol."""
    uri = f"ws://127.0.0.1:{port}/threads/{uuid4()}/stream/events"
    channels = {"channels": ["lifecycle", "messages", "values", "input"]}
    start = {"assistant_id": AGENT, "input": counting_to(tokens)}
    commands = (("subscription.subscribe", channels), ("run.start", start))
    async with connect(uri, proxy=None) as socket:
        for number, (method, params) in enumerate(commands, start=1):
            await socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async for message in socket:
            if '"method":"lifecycle"' in message and '"completed"' in message:
                return
    raise ValueError(f"The run was not completed: {message!r}.")


async def agui(port: int, tokens: int) -> None:
    """A run of AG-UI's HttpAgent."""
    message = {"id": str(uuid4()), "role": "user", "content": str(tokens)}
    body = {
        "threadId": str(uuid4()),
        "runId": str(uuid4()),
        "messages": [message],
        "state": {},
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }
    frames = await asked(port, f"/agui/{AGENT}", json.dumps(body).encode())
    expect(frames, b'"TEXT_MESSAGE_CONTENT"', b'"RUN_FINISHED"')


async def ai_sdk(port: int, tokens: int) -> None:
    """A message in a chat of the AI SDK."""
    parts = [{"type": "text", "text": str(tokens)}]
    message = {"id": str(uuid4()), "role": "user", "parts": parts}
    body = {"id": str(uuid4()), "messages": [message], "trigger": "submit-message"}
    frames = await asked(port, "/api/chat", json.dumps(body).encode())
    expect(frames, b'"text-delta"', b"data: [DONE]\n\n")


async def turn(port: int, thread_id: str, tokens: int, *modes: str) -> bytes:
    """The frames of a turn on the thread in LangGraph's stream modes."""
    path = f"/threads/{thread_id}/runs/stream"
    frames = await asked(port, path, turn_body(tokens, *modes))
    expect(frames, b"event: end\n")
    return frames


def turn_body(tokens: int, *modes: str) -> bytes:
    """The body that asks for a turn."""
    body = {
        "assistant_id": AGENT,
        "input": counting_to(tokens),
        "stream_mode": modes,
        "if_not_exists": "create",
    }
    return json.dumps(body).encode()


def counting_to(tokens: int) -> dict[str, Any]:
    """The input of a run that makes so many tokens."""
    return {"messages": [{"role": "user", "content": str(tokens)}]}


AGENT = "counting"
END = b": end\nevent: end\n"

CLIENTS: dict[str, Client] = {
    "native": native,
    "human-input": human_input,
    "progress": progress,
    "tasks": tasks,
    "query": query,
    "langgraph": langgraph,
    "protocol": protocol,
    "agui": agui,
    "ai-sdk": ai_sdk,
}


# ── what they have in common ──────────────────────────────────────────────────────────────────────


async def started(port: int, tokens: int) -> str:
    """The id of a run that was started in the background."""
    run = await told(port, "/agent/runs", {"message": str(tokens)})
    return str(run["run_id"])


async def told(port: int, path: str, body: dict[str, Any]) -> Any:
    """What the server answers to this body."""
    return json.loads(await asked(port, path, json.dumps(body).encode()))


async def asked(port: int, path: str, body: bytes | None = None) -> bytes:
    """The whole answer to a GET, or to a POST of the body."""
    _, listener = await asyncio.get_running_loop().create_connection(
        lambda: Listener(request(path, body)), "127.0.0.1", port
    )
    raw = (await listener.heard).raw
    head, _, answer = raw.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 20"):
        raise ValueError(f"The server answered {raw[:500]!r}.")
    return dechunked(answer) if b"transfer-encoding: chunked" in head.lower() else answer


def request(path: str, body: bytes | None) -> bytes:
    """The request, on a connection that is closed behind its answer."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + (body or b"")


def expect(answer: bytes, *parts: bytes) -> None:
    """Raise unless each of these is in the answer."""
    if missing := [part for part in parts if part not in answer]:
        raise ValueError(f"There is no {missing[0]!r} in {answer[-500:]!r}.")


async def follow(dialect: str, port: int, runs: int, tokens: int, times: int) -> None:
    """Have so many clients do it at once, so many times."""
    client = CLIENTS[dialect]
    for _ in range(times):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await asyncio.gather(*(client(port, tokens) for _ in range(runs)))


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], *map(int, sys.argv[2:])))
