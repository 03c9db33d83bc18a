"""What the clerk says once its calls have been answered. Pure.

Every number comes from a tool's result. A call that did not run, or whose arguments a person
changed, is reported as what it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from langchain_core.messages import ToolCall, ToolMessage

from assent.demo.filters import describe

_REASON = re.compile(r"\bThe reason:\s*(?P<reason>.+)", re.DOTALL)
_CHANGED = re.compile(r"\A[^\n]*\bchanged the arguments\b[^\n]*")


def answer(call: ToolCall | None, result: ToolMessage) -> str:
    """What became of one call. `call` is None if it is no longer known."""
    # A message's text is a subclass of str, which the JSON reader does not take.
    changed, content = _without_note(str(result.text))
    tool = result.name or (call["name"] if call else "tool")
    # An edited call ran with other arguments than the model's message has, and the note before the
    # result says which.
    args = _args_in(changed) if changed else call["args"] if call else {}
    if result.status == "error":
        return _join(_note(changed), _failure(tool, content))
    data = _json_object(content)
    said = _SUCCESSES[tool](args or {}, data) if data is not None and tool in _SUCCESSES else None
    return _join(_note(changed), said or f"The answer to my call of {tool} is: {content}")


def _failure(tool: str, content: str) -> str:
    if "did not run" not in content:
        return f"I tried to {_DEEDS.get(tool, f'use {tool}')}, and the answer was: {content}"
    because = _REASON.search(content)
    reason = f" The reason given: “{because.group('reason').strip()}”" if because else ""
    who = "A person rejected this" if "rejected" in content else "This was not approved"
    return f"{who}, so I did not {_DEEDS.get(tool, f'use {tool}')} and nothing was changed.{reason}"


def _searched(args: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    found, records = data.get("found"), data.get("records")
    if not isinstance(found, int) or not isinstance(records, list):
        return None
    if not found:
        return f"I found no {_counted(args, found)}."
    head = f"I found {found} {_counted(args, found)}."
    shown = f" The first {len(records)}:" if len(records) < found else ""
    return "\n".join([f"{head}{shown}", *(_line(record) for record in records)])


def _line(record: Mapping[str, Any]) -> str:
    notes = f" {record['notes']}" if record["notes"] else ""
    return (
        f"- {record['id']}: {record['title']}, {record['owner']} ({record['category']}, {record['year']}, {record['status']}, "
        f"{record['amount']} euros){notes and '.'}{notes}"
    )


def _summarised(args: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    records, amount, groups = data.get("records"), data.get("amount"), data.get("groups")
    if not isinstance(records, int) or not isinstance(groups, list):
        return None
    head = f"There {'is' if records == 1 else 'are'} {records} {_counted(args, records)}, worth {amount} euros in all."
    if len(groups) < 2:
        return head
    return (
        f"{head} By {data.get('by')}: "
        + ", ".join(f"{group['value']} {group['records']}" for group in groups)
        + "."
    )


def _updated(args: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    if data.get("updated") != 1:
        return None
    return f"I changed the {data['field']} of record {data['record']} from “{data['before']}” to “{data['after']}”."


def _deleted(args: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    deleted, remaining = data.get("deleted"), data.get("remaining")
    if not isinstance(deleted, int):
        return None
    return f"I deleted {deleted} {_counted(args, deleted)}. {remaining} {'record remains' if remaining == 1 else 'records remain'}."


def _counted(args: Mapping[str, Any], count: int) -> str:
    """What was counted, in the right number: "1 invoice from before 2012"."""
    chosen = {name: value for name, value in args.items() if name != "ids"}
    text = describe(chosen)
    noun = chosen.get("category") or "record"
    return text.replace(f"{noun}s", noun, 1) if count == 1 else text


_SUCCESSES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str | None]] = {
    "search_records": _searched,
    "summarise_records": _summarised,
    "update_record": _updated,
    "delete_records": _deleted,
}
_DEEDS = {
    "search_records": "search the records",
    "summarise_records": "count the records",
    "update_record": "change the record",
    "delete_records": "delete the records",
}


def _without_note(content: str) -> tuple[str, str]:
    """The note that the arguments were changed, if there is one, and the tool's own result."""
    note = _CHANGED.match(content)
    return (note.group(), content[note.end() :].strip()) if note else ("", content)


def _args_in(note: str) -> dict[str, Any]:
    return _json_object(note[note.find("{") :]) or {}


def _note(changed: str) -> str:
    if not changed:
        return ""
    return f"A person changed what I asked for before it ran; it ran with {json.dumps(_args_in(changed), ensure_ascii=False)}."


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
