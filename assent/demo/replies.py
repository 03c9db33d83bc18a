"""The clerk's words once its calls have been answered. Pure.

Every number comes from a tool's result. A call that did not run, or whose arguments a person
changed, is reported as such.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from langchain_core.messages import ToolCall, ToolMessage

from assent.core.json import JsonObject
from assent.demo.filters import describe

_REASON = re.compile(r"\bThe reason:\s*(?P<reason>.+)", re.DOTALL)
_CHANGED = re.compile(r"\A[^\n{]*\bchanged the arguments\b[^\n{]*(?P<args>[^\n]*)")

_DEEDS = {
    "search_records": "search the records",
    "summarise_records": "count the records",
    "update_record": "change the record",
    "delete_records": "delete the records",
}


def answer(call: ToolCall | None, result: ToolMessage) -> str:
    """The outcome of one call. `call` is None if it is no longer known."""
    # A message's text is a subclass of str, which the JSON reader does not take.
    content = str(result.text)
    tool = result.name or (call["name"] if call else "tool")
    args = call["args"] if call else {}
    preface = ""

    # The note before an edited call's result has the arguments that it ran with.
    if note := _CHANGED.match(content):
        content = content[note.end() :].strip()
        args = _json_object(note["args"]) or {}
        preface = f"A person changed what I asked for before it ran; it ran with {note['args']}. "

    if result.status == "error":
        return preface + _failure(tool, content)
    return preface + _success(tool, args, content)


def _failure(tool: str, content: str) -> str:
    deed = _DEEDS.get(tool, f"use {tool}")
    if "did not run" not in content:
        return f"I tried to {deed}, and the answer was: {content}"

    who = "A person rejected this" if "rejected" in content else "This was not approved"
    words = f"{who}, so I did not {deed} and nothing was changed."
    if because := _REASON.search(content):
        words += f" The reason given: “{because['reason'].strip()}”"
    return words


def _success(tool: str, args: Mapping[str, Any], content: str) -> str:
    data = _json_object(content)
    report = _REPORTS.get(tool)
    if data is not None and report is not None:
        try:
            return report(args, data)
        except (KeyError, TypeError, ValueError):
            pass  # Not the tool's own result: a person may answer a call with any JSON.
    return f"The answer to my call of {tool} is: {content}"


# Each of these raises `KeyError`, `TypeError` or `ValueError` for data that is not its tool's.


def _searched(args: Mapping[str, Any], data: JsonObject) -> str:
    found, records = data["found"], data["records"]
    if found == 0:
        return f"I found no {_counted(args, found)}."

    head = f"I found {found:d} {_counted(args, found)}."
    if len(records) < found:
        head += f" The first {len(records)}:"
    return "\n".join([head, *map(_line, records)])


def _line(record: JsonObject) -> str:
    line = ("- {id}: {title}, {owner} ({category}, {year}, {status}, {amount} euros)").format_map(
        record
    )
    return f"{line}. {record['notes']}" if record["notes"] else line


def _summarised(args: Mapping[str, Any], data: JsonObject) -> str:
    count, groups = data["records"], data["groups"]
    verb = "is" if count == 1 else "are"
    words = f"There {verb} {count:d} {_counted(args, count)}, worth {data['amount']} euros in all."
    if len(groups) < 2:
        return words
    listed = ", ".join(f"{group['value']} {group['records']}" for group in groups)
    return f"{words} By {data['by']}: {listed}."


def _updated(args: Mapping[str, Any], data: JsonObject) -> str:
    return ("I changed the {field} of record {record} from “{before}” to “{after}”.").format_map(
        data
    )


def _deleted(args: Mapping[str, Any], data: JsonObject) -> str:
    deleted, remaining = data["deleted"], data["remaining"]
    left = "record remains" if remaining == 1 else "records remain"
    return f"I deleted {deleted:d} {_counted(args, deleted)}. {remaining} {left}."


def _counted(args: Mapping[str, Any], count: int) -> str:
    """The noun in the right number: "1 invoice from before 2012"."""
    chosen = {name: value for name, value in args.items() if name != "ids"}
    words = describe(chosen)
    noun = chosen.get("category") or "record"
    return words.replace(f"{noun}s", noun, 1) if count == 1 else words


_REPORTS: Mapping[str, Callable[[Mapping[str, Any], JsonObject], str]] = {
    "search_records": _searched,
    "summarise_records": _summarised,
    "update_record": _updated,
    "delete_records": _deleted,
}


def _json_object(text: str) -> JsonObject | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
