"""An agent whose state holds what JSON does not have, to be served as a file."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel


class Scan(BaseModel):
    name: str
    page: bytes


@dataclass
class Copy:
    name: str
    page: bytes


@dataclass
class Fragile:
    """It cannot be made while there is a file `broken` beside this one."""

    def __post_init__(self) -> None:
        if Path(__file__).with_name("broken").exists():
            raise RuntimeError("It is broken.")


def small(old: int, new: int) -> int:
    """A reducer that does not take everything."""
    if new > 100:
        raise ValueError("It is too large.")
    return new


class State(MessagesState, total=False):
    small: Annotated[int, small]
    odd: Any
    scan: Scan
    copied: Copy
    fragile: Fragile


def odd_values() -> dict[str, Any]:
    return {
        "bytes": b"\xff",
        "model": Scan(name="scan", page=b"\xff\x00"),
        "dataclass": Copy(name="scan", page=b"\xff\x00"),
        "by bytes": {b"\xff": 1},
        "set": {b"\xff"},
        "deque": deque([b"\xff"]),
        "decimal": Decimal("1.50"),
        "delta": timedelta(seconds=5),
        "path": Path("a/b"),
        "nan": float("nan"),
        "by tuple": {(1, 2): 3},
    }


def answer(state: State) -> dict[str, Any]:
    said = AIMessage("Here they are.")
    if state["messages"] and state["messages"][-1].text == "fragile":
        return {"fragile": Fragile(), "messages": [said]}
    scanned = ToolMessage("scanned", tool_call_id="1", artifact=b"\xff")
    return {"odd": odd_values(), "messages": [scanned, said]}


graph = StateGraph(State).add_node(answer).add_edge(START, "answer").compile()
