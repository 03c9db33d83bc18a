"""Messages as AG-UI writes them, and as LangChain does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from assent.api.dialects.blocks import Kind, content_blocks
from assent.core.json import Json, JsonObject, encode_json

ONLY_CLIENTS = frozenset({"activity", "reasoning"})
"""The roles of messages that clients keep by themselves, whatever a snapshot says."""

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_TAKEN = frozenset({"user", "assistant", "system", "developer", "tool"})

_MEDIA = {"image": "image", "audio": "audio", "video": "video", "document": "file"}
"""The types of parts that are files, and of the blocks that they are to LangChain."""

_PARTS = {block: part for part, block in _MEDIA.items()}
_SOURCES = {"data": "base64", "url": "url", "file": "file_id"}


# ── as AG-UI writes them ──────────────────────────────────────────────────────────────────────────


def agui_messages(conversation: Json) -> list[JsonObject]:
    """The messages of a state, which LangChain has written as JSON."""
    listed = conversation if isinstance(conversation, list) else []
    found = (agui_message(each) for each in listed if isinstance(each, dict))
    # Of two answers to one call, the last one counts.
    return [*{message["id"]: message for message in found if message is not None}.values()]


def id_of(message: JsonObject) -> str | None:
    """The id under which clients know the message; None for one that has none yet. A tool's has one
    of its call, as its own is not known before its step is over."""
    if message.get("type") == "tool" and message.get("tool_call_id"):
        return f"{message['tool_call_id']}-result"
    id = message.get("id")
    return id if isinstance(id, str) else None


def written(update: Json) -> Iterator[JsonObject]:
    """The messages in what a node wrote, in their order."""
    channels = update.values() if isinstance(update, dict) else ()
    for value in channels:
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, dict) and each.get("type") in _ROLES and "content" in each:
                yield each


def agui_message(message: JsonObject) -> JsonObject | None:
    """The message; None for one of a kind that AG-UI has not, or without an id."""
    role, id = _ROLES.get(message.get("type", "")), id_of(message)
    if role is None or id is None:
        return None
    name = {"name": message["name"]} if message.get("name") and role != "tool" else {}
    begun: JsonObject = {"id": id, "role": role, **name}
    if role == "user":
        return {**begun, "content": _parts(message["content"])}
    if role == "tool":
        return {**begun, **_result(message)}
    text = text_of(message)
    if role == "system":
        return {**begun, "content": text}
    calls = [
        agui_call(call["id"], call["name"], encode_json(call["args"]).decode())
        for call in message.get("tool_calls") or ()
        if call.get("id")
    ]
    return {**begun, "content": text, **({"toolCalls": calls} if calls else {})}


def agui_call(id: str, tool: str, args: str) -> JsonObject:
    """A call of a tool; `args` are the JSON of its arguments."""
    return {"id": id, "type": "function", "function": {"name": tool, "arguments": args}}


def tool_result(message: JsonObject) -> JsonObject:
    """The call that a tool's message answers, and its content."""
    return {"toolCallId": str(message.get("tool_call_id")), "content": text_of(message)}


def text_of(message: JsonObject) -> str:
    """The texts of a message; of a tool's without any, its content as JSON."""
    content = message.get("content")
    texts = [text for kind, text in content_blocks(content) if kind is Kind.TEXT]
    if texts or message.get("type") != "tool":
        return "".join(texts) or str((message.get("additional_kwargs") or {}).get("refusal", ""))
    return encode_json(content).decode() if content else ""


def _result(message: JsonObject) -> JsonObject:
    result = tool_result(message)
    is_error = message.get("status") == "error"
    return {**result, "error": result["content"]} if is_error else result


def _parts(content: Json) -> Json:
    """The content of a user's message: a text, or the parts that AG-UI has words for."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return [part for block in blocks for part in _part(block)]


def _part(block: Json) -> Iterator[JsonObject]:
    if isinstance(block, str):
        yield {"type": "text", "text": block}
    elif not isinstance(block, dict):
        return
    elif block.get("type") == "text" and isinstance(block.get("text"), str):
        yield {"type": "text", "text": block["text"]}
    elif block.get("type") == "image_url":
        image = block.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        yield {"type": "image", "source": {"type": "url", "value": str(url)}}
    elif block.get("type") in _PARTS:
        named = {"mimeType": block["mime_type"]} if block.get("mime_type") else {}
        for source, field in _SOURCES.items():
            if isinstance(block.get(field), str) and (named or source != "data"):
                told = {"type": source, "value": block[field], **named}
                yield {"type": _PARTS[block["type"]], "source": told}


# ── as clients send them ──────────────────────────────────────────────────────────────────────────


class Sent(NamedTuple):
    """The messages that a client has: those that are `new`, as LangChain reads them; and those that
    only the client has, `kept` as they are."""

    new: list[JsonObject]
    kept: list[JsonObject]


def sent_messages(messages: Sequence[JsonObject], known: Collection[str]) -> Sent:
    """The messages of a client, which sends its whole conversation each time. `known` are the ids
    in the thread's.

    New are those behind the last one that is known. Of an assistant's only the text is: calls come
    from the model. Messages of a subagent have had their place in a run.
    """
    ids = [message["id"] for message in messages]
    behind = max((place for place, id in enumerate(ids, 1) if id in known), default=0)
    sent = Sent([], [])
    for place, message in enumerate(messages):
        if message["id"] in known or message["role"] in ONLY_CLIENTS:
            continue
        is_new = place >= behind and not message.get("subagentRunId")
        if is_new and message["role"] in _TAKEN and message.get("content"):
            sent.new.append(_given(message))
        else:
            sent.kept.append(message)
    return sent


def _given(message: JsonObject) -> JsonObject:
    role = message["role"]
    given = {"role": role, "id": message["id"], "content": _content(message["content"])}
    if message.get("name"):
        given["name"] = message["name"]
    if role == "tool":
        given["tool_call_id"] = message["toolCallId"]
        given["status"] = "error" if message.get("error") else "success"
    return given


def _content(content: Json) -> Json:
    return content if isinstance(content, str) else [_block(part) for part in content]


def _block(part: Mapping[str, Json]) -> JsonObject:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    source = part["source"]
    named = {"mime_type": source["mimeType"]} if source.get("mimeType") else {}
    return {"type": _MEDIA[part["type"]], _SOURCES[source["type"]]: source["value"], **named}
