"""The state updates in what a node returns, by channel, as LangGraph writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.types import Command
from pydantic import BaseModel

from assent.core.events import ROOT_CHANNEL

Update = Mapping[str, Any]


def state_updates(output: Any) -> Iterator[Update]:
    """The updates that a node's return value writes: none, one or several."""
    if isinstance(output, Command):
        yield from _command_updates(output)
    elif isinstance(output, list | tuple) and any(isinstance(item, Command) for item in output):
        for item in output:
            yield from state_updates(item)
    elif _is_state(output):
        yield _by_channel(output)
    elif output is not None:
        yield {ROOT_CHANNEL: output}


def name_messages(update: Update, new_id: Callable[[], str]) -> None:
    """Give an id to each message of the update that has none, as LangGraph's reducer would a moment
    later: whoever reads of it in an event finds it in the state by that id."""
    for value in update.values():
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, BaseMessage) and item.id is None:
                item.id = new_id()


def changes(inputs: Any, update: Update) -> Update:
    """The part of a subgraph's update that its run changed.

    A subgraph returns its whole state, earlier messages included. Passing that on would repeat a
    thread's messages in each of its turns.
    """
    before = _by_channel(inputs) if _is_state(inputs) else {}
    changed: dict[str, Any] = {}
    for channel, value in update.items():
        if channel not in before:
            changed[channel] = value
            continue
        old = before[channel]
        if _equal(value, old):
            continue
        if isinstance(old, list) and _are_messages(value):
            value = _new_messages(value, old)
            if not value:
                continue
        changed[channel] = value
    return changed


def _command_updates(command: Command[Any]) -> Iterator[Update]:
    update = command.update
    if command.graph == Command.PARENT or update is None:
        return
    if isinstance(update, list | tuple) and all(_is_pair(item) for item in update):
        for channel, value in update:
            yield {channel: value}
    else:
        yield from state_updates(update)


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping | BaseModel) or is_dataclass(value)


def _by_channel(state: Any) -> Update:
    """A state as a mapping. LangGraph writes only those fields of an object that are set."""
    if isinstance(state, BaseModel):
        is_set = state.model_fields_set
        values = {name: getattr(state, name) for name in type(state).model_fields}
    elif is_dataclass(state):
        is_set = set()
        values = {field.name: getattr(state, field.name) for field in fields(state)}
    else:
        mapping: Update = state
        return mapping
    return {name: value for name, value in values.items() if value is not None or name in is_set}


def _are_messages(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, BaseMessage) for item in value)


def _new_messages(messages: list[BaseMessage], old: list[Any]) -> list[BaseMessage]:
    known = {message.id: message for message in old if isinstance(message, BaseMessage)}
    new: list[BaseMessage] = []
    for message in messages:
        if message.id is None or not _equal(message, known.get(message.id)):
            new.append(message)
    return new


def _equal(one: Any, other: Any) -> bool:
    """True if two values are known to be equal; some, such as arrays, cannot be compared."""
    try:
        return one is other or bool(one == other)
    except Exception:
        return False
