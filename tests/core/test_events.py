"""The vocabulary: what is on the wire, and that the reference says the same."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assent.core import events
from assent.core.events import (
    EVENT_TYPES,
    TERMINAL_TYPES,
    Event,
    decode,
    encode,
    event_type,
    json_schemas,
)

REFERENCE = Path(__file__).parents[2] / "docs/reference/events.md"
TS = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def example(cls: type[Event]) -> Event:
    """An event of this type with every field that must be given."""
    given: dict[str, Any] = {"ts": TS, "thread_id": "t", "run_id": "r"}
    values = {str: "x", int: 1, float: 0.5, events.ErrorInfo: events.ErrorInfo(type="ValueError")}
    for field in msgspec.structs.fields(cls):
        if field.required:
            given[field.name] = values[field.type]
    return cls(**given)


@pytest.mark.parametrize("cls", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_an_event_survives_the_wire(cls: type[Event]) -> None:
    event = example(cls)
    assert decode(encode(event)) == event
    assert msgspec.json.decode(encode(event))["type"] == event_type(event)


def test_what_a_token_looks_like_on_the_wire() -> None:
    token = events.Token(
        ts=TS, thread_id="t", run_id="r", seq=7, node="agent", message_id="m", content="Hi"
    )
    assert encode(token) == (
        b'{"type":"token","ts":"2026-01-02T03:04:05Z","thread_id":"t","run_id":"r","seq":7,"node":"agent","message_id":"m","content":"Hi"}'
    )


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        example(events.Done).seq = 3  # type: ignore[misc]


def test_something_else_is_no_event() -> None:
    for body in (b"{}", b'{"type":"nothing"}', b'{"type":"token"}', b"[]", b"{"):
        with pytest.raises(msgspec.DecodeError):
            decode(body)


def test_every_type_has_a_schema() -> None:
    (union,), components = json_schemas()
    assert {reference["$ref"].rsplit("/", 1)[1] for reference in union["anyOf"]} == {
        cls.__name__ for cls in EVENT_TYPES.values()
    }
    for name, cls in EVENT_TYPES.items():
        schema = components[cls.__name__]
        assert schema["properties"]["type"] == {"enum": [name]}
        # An operator's message is of no run, and has no number if it is to everybody.
        always = {"type", "ts"} if name == "broadcast" else set(events.ALWAYS_SENT)
        assert always <= set(schema["required"])


def test_a_run_ends_with_events_that_exist() -> None:
    assert set(EVENT_TYPES) > TERMINAL_TYPES


def test_the_reference_lists_every_type_with_its_fields_and_meaning() -> None:
    rows = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]
    common = {field.name for field in msgspec.structs.fields(events.Event)}
    in_node = {field.name for field in msgspec.structs.fields(events.NodeEvent)}
    expected = []
    for name, cls in EVENT_TYPES.items():
        hidden = in_node if issubclass(cls, events.NodeEvent) else common
        fields = ", ".join(
            f"`{field.name}`" for field in msgspec.structs.fields(cls) if field.name not in hidden
        )
        expected.append(f"| `{name}` | {fields or '—'} | {' '.join((cls.__doc__ or '').split())} |")
    assert rows == expected
