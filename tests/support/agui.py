"""A client of AG-UI's, as `HttpAgent` of @ag-ui/client 1.0.0 is one: it holds each event to the
models of ag-ui-protocol, and all of them to an order; and has the conversation and the state that
come of them.

    client = AgUiClient(api.http, "agent", thread)
    await client.run("pay 5")
    await client.answer({"approved": True})
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
from ag_ui.core import Event, RunAgentInput
from pydantic import TypeAdapter

from assent.core.json import Json
from tests.support.server import expect

_EVENTS: TypeAdapter[Any] = TypeAdapter(Event)

Told = dict[str, Any]

_OPENS = {
    "TEXT_MESSAGE_START": ("text", "messageId"),
    "REASONING_START": ("span", "messageId"),
    "REASONING_MESSAGE_START": ("reasoning", "messageId"),
    "TOOL_CALL_START": ("call", "toolCallId"),
    "SUBAGENT_STARTED": ("subagent", "subagentRunId"),
}
_GOES_ON = {
    "TEXT_MESSAGE_CONTENT": ("text", "messageId"),
    "REASONING_MESSAGE_CONTENT": ("reasoning", "messageId"),
    "TOOL_CALL_ARGS": ("call", "toolCallId"),
}
_CLOSES = {
    "TEXT_MESSAGE_END": ("text", "messageId"),
    "REASONING_END": ("span", "messageId"),
    "REASONING_MESSAGE_END": ("reasoning", "messageId"),
    "TOOL_CALL_END": ("call", "toolCallId"),
    "SUBAGENT_FINISHED": ("subagent", "subagentRunId"),
    "SUBAGENT_ERROR": ("subagent", "subagentRunId"),
}


def checked(data: bytes) -> Told:
    """The event, if the model of its type takes it, and knows every field of it."""
    event = _EVENTS.validate_json(data)
    told: Told = json.loads(data)
    assert not event.model_extra, (told, event.model_extra)
    assert None not in (value for name, value in told.items() if name not in ("value", "snapshot"))
    return told


class Order:
    """The rules of the client's verifier: what may follow what in a run."""

    def __init__(self) -> None:
        self._state = "new"
        self._open: set[tuple[str, str]] = set()
        self._steps: set[tuple[str | None, str]] = set()
        self._subagents: set[str] = set()
        # Whose a thing is, by its kind and id: the first to name it says so for the whole run.
        self._owners: dict[tuple[str, str], str | None] = {}

    def take(self, event: Told) -> None:
        """Fails for an event that may not come now."""
        kind = event["type"]
        if self._state == "new":
            assert kind in ("RUN_STARTED", "RUN_ERROR"), f"{kind} comes first"
        else:
            assert kind != "RUN_STARTED", "a run begins within another"
        assert self._state != "over", f"{kind} comes after the end"
        self._state = "over" if kind in ("RUN_FINISHED", "RUN_ERROR") else "begun"
        if kind in _OPENS:
            self._opened(event, *_OPENS[kind])
        elif kind in _GOES_ON:
            self._named(event, *_GOES_ON[kind])
        elif kind in _CLOSES:
            self._open.remove(self._named(event, *_CLOSES[kind]))
        elif kind.startswith("STEP_"):
            self._step(event)
        elif kind == "RUN_FINISHED":
            assert not self._open, f"still open: {self._open}"
            assert not self._steps, f"steps are still active: {self._steps}"

    def over(self) -> None:
        """Fails for a stream that has ended amid a run."""
        assert self._state == "over", "the stream ended amid a run"

    def _opened(self, event: Told, kind: str, field: str) -> None:
        place = (kind, event[field])
        assert place not in self._open, f"{place} is open already"
        if kind == "subagent":
            assert event[field] not in self._subagents, f"{place} was there before"
            parent = event.get("parentSubagentRunId")
            assert parent is None or parent in self._subagents, f"{parent} has not begun"
            self._subagents.add(event[field])
        else:
            self._owned(event, place)
        self._open.add(place)

    def _named(self, event: Told, kind: str, field: str) -> tuple[str, str]:
        place = (kind, event[field])
        assert place in self._open, f"{event['type']}: {place} is not open"
        if kind != "subagent":
            self._owned(event, place)
        return place

    def _owned(self, event: Told, place: tuple[str, str]) -> None:
        tag = event.get("subagentRunId")
        owner = self._owners.setdefault(place, tag)
        assert tag in (None, owner), f"{place} is of {owner}, and not of {tag}"

    def _step(self, event: Told) -> None:
        step = (event.get("subagentRunId"), event["stepName"])
        if event["type"] == "STEP_STARTED":
            assert step not in self._steps, f"the step {step} is active already"
            self._steps.add(step)
        else:
            self._steps.remove(step)


def in_order(frames: Iterable[bytes]) -> list[Told]:
    """The events of a whole stream, each valid and in its place."""
    order, told = Order(), []
    for data in frames:
        event = checked(data)
        order.take(event)
        told.append(event)
    order.over()
    return told


class Conversation:
    """The messages and the state that a client has, by what it was told."""

    def __init__(self) -> None:
        self.messages: list[Told] = []
        self.state: Json = {}

    def say(self, text: str) -> str:
        """Add words of the user's; the message's id."""
        id = str(uuid4())
        self.messages.append({"id": id, "role": "user", "content": text})
        return id

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Each message's role and content."""
        return [(message["role"], message.get("content", "")) for message in self.messages]

    def take(self, event: Told) -> None:
        """What the client makes of an event."""
        match event["type"]:
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START":
                self._message(event["messageId"], event["role"])
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                message = self._find(event["messageId"])
                message["content"] = message.get("content", "") + event["delta"]
            case "TOOL_CALL_START":
                self._call(event)
            case "TOOL_CALL_ARGS":
                self._called(event["toolCallId"])["function"]["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                fields = ("toolCallId", "content")
                message = self._message(event["messageId"], "tool")
                message.update({name: event[name] for name in fields})
            case "STATE_SNAPSHOT":
                self.state = event["snapshot"]
            case "MESSAGES_SNAPSHOT":
                self._snapshot(event["messages"])

    def _call(self, event: Told) -> None:
        message = self._message(event["parentMessageId"], "assistant")
        calls = message.setdefault("toolCalls", [])
        function = {"name": event["toolCallName"], "arguments": ""}
        calls.append({"id": event["toolCallId"], "type": "function", "function": function})

    def _snapshot(self, messages: list[Told]) -> None:
        by_id = {message["id"]: message for message in messages}
        kept = [
            by_id.pop(message["id"], message)
            for message in self.messages
            if message["id"] in by_id or message["role"] == "reasoning"
        ]
        self.messages = [*kept, *by_id.values()]

    def _find(self, id: str) -> Told:
        (message,) = (message for message in self.messages if message["id"] == id)
        return message

    def _message(self, id: str, role: str) -> Told:
        if not any(message["id"] == id for message in self.messages):
            self.messages.append({"id": id, "role": role, "content": ""})
        return self._find(id)

    def _called(self, id: str) -> Told:
        (call,) = (
            call
            for message in self.messages
            for call in message.get("toolCalls", ())
            if call["id"] == id
        )
        return call


class AgUiClient(Conversation):
    """A client of one thread."""

    def __init__(self, http: httpx.AsyncClient, agent: str, thread_id: str) -> None:
        super().__init__()
        self._http = http
        self._agent = agent
        self.thread_id = thread_id
        self.interrupts: list[Told] = []

    def body(self, **given: Any) -> Told:
        """The body of a run, which the model of it takes."""
        body = {
            "threadId": self.thread_id,
            "runId": str(uuid4()),
            "messages": self.messages,
            "state": self.state,
            "tools": [],
            "context": [],
            "forwardedProps": {},
            **given,
        }
        RunAgentInput.model_validate(body)
        # As it is now: what is told meanwhile changes the messages.
        copy: Told = json.loads(json.dumps(body))
        return copy

    @asynccontextmanager
    async def opened(self, **given: Any) -> AsyncGenerator[AsyncGenerator[Told, None], None]:
        """The events of a run, one by one. The connection is closed where the context ends."""
        body = self.body(**given)
        path = f"/agui/{self._agent}"
        async with self._http.stream("POST", path, json=body) as response:
            await expect(response, 200)
            assert response.headers["content-type"].startswith("text/event-stream")
            yield self._events(response, body)

    async def _events(self, response: httpx.Response, body: Told) -> AsyncGenerator[Told, None]:
        order = Order()
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            event = checked(line.removeprefix("data: ").encode())
            order.take(event)
            self.take(event)
            if event["type"] in ("RUN_STARTED", "RUN_FINISHED"):
                assert event["runId"] == body["runId"]
                assert event["threadId"] == self.thread_id
            yield event
        order.over()

    async def run(self, text: str | None = None, **given: Any) -> list[Told]:
        """Say something, or give another input; the events of the run."""
        if text is not None:
            self.say(text)
        async with self.opened(**given) as events:
            told = [event async for event in events]
        if told[-1]["type"] == "RUN_FINISHED":
            self.interrupts = told[-1]["outcome"].get("interrupts", [])
        return told

    async def answer(self, *payloads: Json, **given: Any) -> list[Told]:
        """Answer each open interrupt, in their order: None cancels it."""
        return await self.run(resume=self.resume(*payloads), **given)

    def resume(self, *payloads: Json) -> list[Told]:
        """The answers to the open interrupts."""
        return [
            {"interruptId": interrupt["id"], "status": "cancelled"}
            if payload is None
            else {"interruptId": interrupt["id"], "status": "resolved", "payload": payload}
            for interrupt, payload in zip(self.interrupts, payloads, strict=True)
        ]


def types_in(told: Iterable[Told]) -> list[str]:
    """Each event's type, and runs of one type once."""
    types: list[str] = []
    for event in told:
        if not types or types[-1] != event["type"]:
            types.append(event["type"])
    return types
