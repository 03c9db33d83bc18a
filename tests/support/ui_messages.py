"""A client of the AI SDK's stream, as strict as `useChat` of `ai` 7.0.173: each chunk is of its
schema, and fits the message so far.

    chat = Chat(api, "thread", agent="agent")
    await chat.say("pay 5")
    await chat.answer(chat.asked()[0], approved=True)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from tests.support.server import Api, expect

Json = Any
Chunk = dict[str, Any]

TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
OBJECT = {"type": "object"}
ANY: Json = {}

_CALL = {"toolCallId!": TEXT, "toolName!": TEXT, "dynamic": FLAG, "title": TEXT}
_PIECE = {"id!": TEXT, "delta!": TEXT}
_FILE = {"url!": TEXT, "mediaType!": TEXT}
REASONS = ("stop", "length", "content-filter", "tool-calls", "error", "interrupted", "other")

CHUNKS: dict[str, dict[str, Json]] = {
    "text-start": {"id!": TEXT},
    "text-delta": _PIECE,
    "text-end": {"id!": TEXT},
    "reasoning-start": {"id!": TEXT},
    "reasoning-delta": _PIECE,
    "reasoning-end": {"id!": TEXT},
    "error": {"errorText!": TEXT},
    "tool-input-start": _CALL,
    "tool-input-delta": {"toolCallId!": TEXT, "inputTextDelta!": TEXT},
    "tool-input-available": {**_CALL, "input": ANY},
    "tool-input-error": {**_CALL, "input": ANY, "errorText!": TEXT},
    "tool-approval-request": {
        "approvalId!": TEXT,
        "toolCallId!": TEXT,
        "approvalDescriptor": ANY,
        "reason": TEXT,
        "isAutomatic": FLAG,
    },
    "tool-approval-response": {"approvalId!": TEXT, "approved!": FLAG, "reason": TEXT},
    "tool-output-available": {"toolCallId!": TEXT, "output": ANY, "preliminary": FLAG},
    "tool-output-error": {"toolCallId!": TEXT, "errorText!": TEXT},
    "tool-output-denied": {"toolCallId!": TEXT},
    "file": _FILE,
    "start-step": {},
    "finish-step": {},
    "reset-step": {},
    "start": {"messageId": TEXT},
    "finish": {"finishReason": {"enum": [*REASONS]}},
    "abort": {"reason": TEXT},
    "data-": {"id": TEXT, "data": ANY, "transient": FLAG},
}
"""The fields of each type of chunk that we send, from `uiMessageChunkSchema`: with a ! if the chunk
needs it. The package takes other fields too, and we send none."""


def _validator(fields: dict[str, Json]) -> Draft202012Validator:
    return Draft202012Validator(
        {
            "type": "object",
            "properties": {"type": TEXT, **{name.rstrip("!"): fields[name] for name in fields}},
            "required": ["type", *(name[:-1] for name in fields if name.endswith("!"))],
            "additionalProperties": False,
        }
    )


_VALIDATORS = {kind: _validator(fields) for kind, fields in CHUNKS.items()}


def check_chunk(chunk: Chunk) -> None:
    """Fail unless the chunk is one."""
    kind = "data-" if chunk["type"].startswith("data-") else chunk["type"]
    assert kind in _VALIDATORS, chunk
    _VALIDATORS[kind].validate(chunk)


# ── a message ─────────────────────────────────────────────────────────────────────────────────────


class Message:
    """The message that chunks make. Those that do not fit it fail, as they do in a client."""

    def __init__(self, message: Json = None) -> None:
        self.id: str = message["id"] if message else ""
        self.parts: list[Json] = deepcopy(message["parts"]) if message else []
        self.error = ""
        self.finish = ""
        self.aborted = ""
        self._open: dict[str, Json] = {}
        self._texts: dict[str, str] = {}

    def apply(self, chunks: Iterable[Chunk]) -> Message:
        """The message with these chunks."""
        for chunk in chunks:
            check_chunk(chunk)
            assert not self.error, f"Behind an error, a client reads nothing: {chunk}"
            kind = chunk["type"]
            if kind.startswith("data-"):
                self._data(chunk)
            else:
                getattr(self, "_" + kind.replace("-", "_"))(chunk)
        return self

    def json(self) -> Json:
        return {"id": self.id, "role": "assistant", "parts": deepcopy(self.parts)}

    @property
    def text(self) -> str:
        """All text of it."""
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def calls(self) -> list[Json]:
        """The tool calls that it shows."""
        return [part for part in self.parts if "toolCallId" in part]

    def _last_step(self) -> list[Json]:
        steps = [at for at, part in enumerate(self.parts) if part["type"] == "step-start"]
        return self.parts[steps[-1] + 1 if steps else 0 :]

    def _call(self, id: str) -> Json:
        found = [part for part in self.calls if part["toolCallId"] == id]
        assert found, f"No call '{id}' was shown."
        return found[-1]

    def _add(self, part: Json) -> Json:
        self.parts.append(part)
        return part

    def _text_start(self, chunk: Chunk) -> None:
        assert chunk["id"] not in self._open
        kind = chunk["type"].removesuffix("-start")
        self._open[chunk["id"]] = self._add({"type": kind, "text": ""})

    def _text_delta(self, chunk: Chunk) -> None:
        part = self._open[chunk["id"]]
        assert part["type"] == chunk["type"].removesuffix("-delta")
        part["text"] += chunk["delta"]

    def _text_end(self, chunk: Chunk) -> None:
        del self._open[chunk["id"]]

    _reasoning_start, _reasoning_delta, _reasoning_end = _text_start, _text_delta, _text_end

    def _tool_input_start(self, chunk: Chunk) -> None:
        self._texts[chunk["toolCallId"]] = ""
        self._shown(chunk, "input-streaming")

    def _tool_input_delta(self, chunk: Chunk) -> None:
        self._texts[chunk["toolCallId"]] += chunk["inputTextDelta"]

    def _tool_input_available(self, chunk: Chunk) -> None:
        self._shown(chunk, "input-available")["input"] = chunk["input"]

    def _tool_input_error(self, chunk: Chunk) -> None:
        self._shown(chunk, "output-error")["errorText"] = chunk["errorText"]

    def _shown(self, chunk: Chunk, state: str) -> Json:
        of_step = [
            part for part in self._last_step() if part.get("toolCallId") == chunk["toolCallId"]
        ]
        if not of_step:
            assert chunk["toolCallId"] not in [part["toolCallId"] for part in self.calls], (
                "It would be shown twice."
            )
            kind = "dynamic-tool" if chunk.get("dynamic") else f"tool-{chunk['toolName']}"
            named = {"toolName": chunk["toolName"]} if chunk.get("dynamic") else {}
            of_step = [self._add({"type": kind, **named, "toolCallId": chunk["toolCallId"]})]
        of_step[0]["state"] = state
        return of_step[0]

    def _tool_approval_request(self, chunk: Chunk) -> None:
        call = self._call(chunk["toolCallId"])
        call["state"] = "approval-requested"
        call["approval"] = {
            "id": chunk["approvalId"],
            "descriptor": chunk.get("approvalDescriptor"),
            "requestReason": chunk.get("reason"),
        }

    def _tool_approval_response(self, chunk: Chunk) -> None:
        (call,) = [
            part for part in self.calls if part.get("approval", {}).get("id") == chunk["approvalId"]
        ]
        call["state"] = "approval-responded"
        call["approval"] |= {"approved": chunk["approved"], "reason": chunk.get("reason")}

    def _tool_output_available(self, chunk: Chunk) -> None:
        call = self._call(chunk["toolCallId"])
        call |= {"state": "output-available", "output": chunk["output"]}
        call["preliminary"] = chunk.get("preliminary", False)

    def _tool_output_error(self, chunk: Chunk) -> None:
        call = self._call(chunk["toolCallId"])
        call |= {"state": "output-error", "errorText": chunk["errorText"]}

    def _tool_output_denied(self, chunk: Chunk) -> None:
        self._call(chunk["toolCallId"])["state"] = "output-denied"

    def _file(self, chunk: Chunk) -> None:
        self._add(chunk)

    def _data(self, chunk: Chunk) -> None:
        if chunk.get("transient"):
            return
        for part in self.parts:
            if chunk.get("id") and (part["type"], part.get("id")) == (chunk["type"], chunk["id"]):
                part["data"] = chunk["data"]
                return
        self._add(chunk)

    def _start_step(self, chunk: Chunk) -> None:
        self._add({"type": "step-start"})

    def _finish_step(self, chunk: Chunk) -> None:
        assert not self._open, f"A step ends with open parts: {self._open}"

    def _reset_step(self, chunk: Chunk) -> None:
        self._open, self._texts = {}, {}
        if left := self._last_step():
            del self.parts[-len(left) :]

    def _start(self, chunk: Chunk) -> None:
        self.id = chunk["messageId"]

    def _finish(self, chunk: Chunk) -> None:
        assert not self._open
        self.finish = chunk["finishReason"]

    def _error(self, chunk: Chunk) -> None:
        self.error = chunk["errorText"]

    def _abort(self, chunk: Chunk) -> None:
        self.aborted = chunk["reason"]


# ── a conversation ────────────────────────────────────────────────────────────────────────────────


class Chat:
    """A conversation as `useChat` has it, with the requests of its `DefaultChatTransport`."""

    def __init__(self, api: Api, id: str, messages: Iterable[Json] = (), **query: str) -> None:
        self.http, self.id, self.query = api.http, id, query
        self.messages: list[Json] = deepcopy([*messages])
        self.last = Message()

    async def say(self, text: str, id: str = "", parts: Iterable[Json] = ()) -> Message:
        """Say something."""
        said = [*parts, *([{"type": "text", "text": text}] if text else [])]
        id = id or f"{self.id}-{len(self.messages)}"
        self.messages.append({"id": id, "role": "user", "parts": said})
        return await self.send()

    async def change(self, text: str) -> Message:
        """Say something else in place of what was said last."""
        at = max(at for at, each in enumerate(self.messages) if each["role"] == "user")
        del self.messages[at + 1 :]
        self.messages[at] |= {"parts": [{"type": "text", "text": text}]}
        return await self.send(messageId=self.messages[at]["id"])

    async def regenerate(self) -> Message:
        """Have the last message answered anew."""
        id = self.messages[-1]["id"]
        if self.messages[-1]["role"] == "assistant":
            del self.messages[-1]
        return await self.send(trigger="regenerate-message", messageId=id)

    async def decide(self, *approved: bool, **body: Json) -> Message:
        """Answer what is asked, in order, and go on with the last message."""
        for part, yes in zip(self.asked(), approved, strict=True):
            part["state"] = "approval-responded"
            part["approval"] |= {"approved": yes, **({} if yes else {"reason": "No."})}
        return await self.send(messageId=self.messages[-1]["id"], **body)

    def asked(self) -> list[Json]:
        """The parts of the last message that ask."""
        parts = self.messages[-1]["parts"]
        return [part for part in parts if part.get("state") == "approval-requested"]

    def body(self, **fields: Json) -> Json:
        """The body of a request."""
        of = {"id": self.id, "messages": self.messages, "trigger": "submit-message"}
        return {**of, **fields}

    async def post(self, **fields: Json) -> httpx.Response:
        """The response to a request, to its end."""
        return await self.http.post("/api/chat", params=self.query, json=self.body(**fields))

    async def send(self, **fields: Json) -> Message:
        """Send a request; the message that comes of it."""
        response = await expect(await self.post(**fields), 200)
        last = self.messages[-1]
        goes_on = last["role"] == "assistant"
        return self._took(Message(last if goes_on else None), chunks_of(response))

    async def resume(self) -> Message | None:
        """The turn that is at work or waits; None if there is none."""
        path = f"/api/chat/{self.id}/stream"
        response = await self.http.get(path, params=self.query)
        if response.status_code == 204:
            return None
        return self._took(Message(), chunks_of(await expect(response, 200)))

    def _took(self, message: Message, chunks: Iterable[Chunk]) -> Message:
        self.last = message.apply(chunks)
        ids = [each["id"] for each in self.messages]
        if message.id in ids:
            self.messages[ids.index(message.id)] = message.json()
        else:
            self.messages.append(message.json())
        return message


def chunks_of(response: httpx.Response) -> list[Chunk]:
    """The chunks in a whole stream."""
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    return [*chunks_in(response.text)]


def chunks_in(text: str) -> Iterator[Chunk]:
    """The chunks in a stream that came to its end."""
    data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    if json.loads(data[0])["type"] == "error":
        # The turn has not begun, and waits for something else.
        (error,) = data
        yield json.loads(error)
        return
    assert data[-1] == "[DONE]", data[-1]
    assert json.loads(data[0])["type"] == "start"
    yield from map(json.loads, data[:-1])
