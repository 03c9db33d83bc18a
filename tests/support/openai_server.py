"""A real HTTP server on this machine that speaks OpenAI's chat completions protocol, and follows a
script.

    async with OpenAIServer(Call(("pay", {"amount": 3})), Say("Paid.")) as server:
        model = ChatOpenAI(model="gpt-4o-mini", base_url=server.url, api_key="test")
        ...
        assert server.problems == []

Each request takes the next reply. A request whose history OpenAI would refuse takes none: it is
answered as OpenAI does, with a 400, and what was wrong stays in `server.problems`. Every answer
closes its connection, so that no client leaves one open behind a test.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Self
from uuid import uuid4

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tests.support.history import history_problems

__all__ = ["Call", "Drop", "OpenAIServer", "Reply", "Say", "Status", "history_problems"]

Json = dict[str, Any]

PIECE = 6
"""Characters in one chunk: words and JSON are cut in the middle, as tokens are."""

CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Say:
    """Answers in words. With `hold`, what follows the first piece waits until the event is set."""

    text: str
    hold: asyncio.Event | None = None


class Call:
    """Calls tools: `Call(("look", {"id": 1}), ("pay", {"amount": 3}))`. Arguments given as text are
    sent as they are, valid or not.

    Every call gets a new id, unless `ids` gives one for each. `finish_reason="length"` is what a
    provider says that ran into its limit.
    """

    def __init__(
        self,
        *tools: tuple[str, Json | str],
        text: str = "",
        ids: Sequence[str] = (),
        finish_reason: str = "tool_calls",
    ) -> None:
        self.tools = tools
        self.text = text
        self.ids = ids
        self.finish_reason = finish_reason


@dataclass(frozen=True, slots=True)
class Status:
    """Fails with an HTTP status. `retry_after` is in seconds; the client takes 0 for no advice and
    backs off by itself."""

    code: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Cuts the connection after some text and, with `tool`, in the middle of that call's arguments.

    With `clean` the response ends too early but as HTTP has it, as behind a proxy that hides the
    cut. With `error` a stream says before it ends that it failed of this type.
    """

    after: str = ""
    tool: tuple[str, Json] | None = None
    clean: bool = False
    error: str = ""


Reply = Say | Call | Status | Drop


class OpenAIServer:
    """The server, from entering it to leaving it. `requests` holds every body it was sent,
    `replies` what is left of the script."""

    def __init__(self, *replies: Reply) -> None:
        self.replies: deque[Reply] = deque(replies)
        self.requests: list[Json] = []
        self.problems: list[str] = []
        self.url = ""
        self._calls_made = 0

    @property
    def histories(self) -> list[list[Json]]:
        """The messages of each request."""
        return [request["messages"] for request in self.requests]

    async def __aenter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            ws="none",
            # uvicorn's other settings of the log would change its loggers for the whole process.
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = _QuietServer(config)
        # The socket listens already, so a client may connect before uvicorn accepts.
        self._task = asyncio.create_task(self._uvicorn.serve(sockets=[self._socket]))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._uvicorn.should_exit = True
        await self._task
        self._socket.close()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        refusal = self._refusal_of_address(request)
        body: Json = {} if refusal else await request.json()
        refusal = refusal or self._refusal_of_history(body)
        reply = None if refusal else self.replies.popleft()
        if refusal:
            await refusal(scope, receive, send)
        elif isinstance(reply, Status):
            await _failure(reply)(scope, receive, send)
        elif isinstance(reply, Say | Call | Drop):
            await self._answer(body, reply, send)

    def _refusal_of_address(self, request: Request) -> JSONResponse | None:
        if (request.method, request.url.path) != ("POST", "/v1/chat/completions"):
            self.problems.append(f"{request.method} {request.url.path} is not served here.")
            return _error(404, self.problems[-1])
        if not request.headers.get("authorization", "").startswith("Bearer "):
            self.problems.append("A request came without an API key.")
            return _error(401, self.problems[-1])
        return None

    def _refusal_of_history(self, body: Json) -> JSONResponse | None:
        self.requests.append(body)
        found = history_problems(body.get("messages", []))
        if not found and not self.replies:
            found = ["The script has no reply left."]
        self.problems += [f"Request {len(self.requests)}: {problem}" for problem in found]
        return _error(400, " ".join(found)) if found else None

    async def _answer(self, body: Json, reply: Say | Call | Drop, send: Send) -> None:
        message = self._message(reply)
        pieces = _sse(body, message, reply) if body.get("stream") else _whole(body, message, reply)
        content_type = b"text/event-stream" if body.get("stream") else b"application/json"
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", content_type), CLOSE],
            }
        )
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        # Returning without this last part makes uvicorn close the connection in the middle of the
        # response.
        if not isinstance(reply, Drop) or reply.clean:
            await send({"type": "http.response.body"})

    def _message(self, reply: Say | Call | Drop) -> Json:
        """The reply as the message of a response that does not stream."""
        if isinstance(reply, Say):
            return {"role": "assistant", "content": reply.text}
        tools: Sequence[tuple[str, Json | str]] = (
            reply.tools if isinstance(reply, Call) else ((reply.tool,) if reply.tool else ())
        )
        text = reply.text if isinstance(reply, Call) else reply.after
        ids = (reply.ids if isinstance(reply, Call) else ()) or [self._new_id() for _ in tools]
        calls = [_tool_call(id_, name, args) for id_, (name, args) in zip(ids, tools, strict=True)]
        return {
            "role": "assistant",
            "content": text or None,
            **({"tool_calls": calls} if calls else {}),
        }

    def _new_id(self) -> str:
        self._calls_made += 1
        return f"call_{self._calls_made}"


class _QuietServer(uvicorn.Server):
    """Leaves Ctrl-C to pytest."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


# ── what goes over the wire ───────────────────────────────────────────────────────────────────────


async def _whole(body: Json, message: Json, reply: Reply) -> AsyncIterator[bytes]:
    """The response in one piece, or half of it."""
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": _finish_reason(reply),
        "logprobs": None,
    }
    whole = json.dumps(
        {**_head(body, "chat.completion"), "choices": [choice], "usage": _usage(body, message)}
    ).encode()
    yield whole[: len(whole) // 2] if isinstance(reply, Drop) else whole


async def _sse(body: Json, message: Json, reply: Reply) -> AsyncIterator[bytes]:
    """The response as server-sent events."""
    include_usage = (body.get("stream_options") or {}).get("include_usage", False)
    head = {**_head(body, "chat.completion.chunk"), **({"usage": None} if include_usage else {})}
    hold = reply.hold if isinstance(reply, Say) else None

    deltas = list(_deltas(message))
    if isinstance(reply, Drop) and reply.tool:
        deltas = deltas[
            : -(len(message["tool_calls"][0]["function"]["arguments"]) // PIECE // 2 + 1)
        ]
    for delta in deltas:
        yield _event(
            {
                **head,
                "choices": [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}],
            }
        )
        if hold and delta.get("content"):
            await hold.wait()
    if isinstance(reply, Drop):
        if reply.error:
            yield _event(
                {
                    "error": {
                        "message": "The script says so.",
                        "type": reply.error,
                        "param": None,
                        "code": None,
                    }
                }
            )
        return
    yield _event(
        {
            **head,
            "choices": [
                {"index": 0, "delta": {}, "finish_reason": _finish_reason(reply), "logprobs": None}
            ],
        }
    )
    if include_usage:
        yield _event({**head, "choices": [], "usage": _usage(body, message)})
    yield b"data: [DONE]\n\n"


def _deltas(message: Json) -> Iterator[Json]:
    """The message in pieces: its role, its text, each call's id and name, then the arguments of all
    calls in turn."""
    calls: list[Json] = message.get("tool_calls", [])
    yield {
        "role": "assistant",
        "content": None if calls and message["content"] is None else "",
        "refusal": None,
    }
    for text in _cut(message["content"] or ""):
        yield {"content": text}
    for index, call in enumerate(calls):
        yield {
            "tool_calls": [
                {**call, "index": index, "function": {**call["function"], "arguments": ""}}
            ]
        }
    arguments = [
        [(index, part) for part in _cut(call["function"]["arguments"])]
        for index, call in enumerate(calls)
    ]
    for turn in chain.from_iterable(zip_longest(*arguments)):
        if turn is not None:
            yield {"tool_calls": [{"index": turn[0], "function": {"arguments": turn[1]}}]}


def _cut(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def _event(chunk: Json) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _head(body: Json, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": body.get("model", ""),
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _tool_call(id_: str, name: str, args: Json | str) -> Json:
    arguments = args if isinstance(args, str) else json.dumps(args)
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _finish_reason(reply: Reply) -> str:
    return reply.finish_reason if isinstance(reply, Call) else "stop"


def _usage(body: Json, message: Json) -> Json:
    """Counts pieces, not tokens: what matters is that the numbers arrive."""
    sent, made = len(_cut(json.dumps(body["messages"]))), len(list(_deltas(message)))
    return {"prompt_tokens": sent, "completion_tokens": made, "total_tokens": sent + made}


def _failure(status: Status) -> JSONResponse:
    headers = {} if status.retry_after is None else {"retry-after": f"{status.retry_after:g}"}
    return _error(status.code, f"The script says {status.code}.", headers)


def _error(code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    kind = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(
        code, "invalid_request_error" if code < 500 else "server_error"
    )
    error = {
        "message": message,
        "type": kind,
        "param": "messages" if code == 400 else None,
        "code": None,
    }
    return JSONResponse({"error": error}, code, {"connection": "close", **(headers or {})})
