"""An office agent for tests of what an approver sees: it calls what the message says, as JSON.

    {"calls": [["wire", {"to": "Ada", "amount": 5}]], "text": "I wire it now."}

`note` and `store` are of low risk, `wire` and `wipe` of high; `release` takes two people, `sign`
asks ann, `lock` needs four eyes, and `remind` waits for two seconds only. All leave a trace of exactly what they were
called with. `ask_human` asks; the graph `form` asks by a form, and `odd` a question of no known
form."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel, Field

from assent import ApprovalPolicy, ask_human, build_hitl_agent
from tests.support.models import ScriptedModel, calls, say
from tests.support.told import trace


class Line(BaseModel):
    """One line of a bill."""

    text: str
    cents: int = Field(ge=0)


class Wire(BaseModel):
    """What `wire` takes."""

    to: str = Field(description="Who gets it.", min_length=1)
    amount: int = Field(gt=0, le=1_000_000, description="In euros.")
    currency: Literal["EUR", "USD", "CHF"] = "EUR"
    purpose: str | None = Field(None, description="What it is\u200b for.")
    instant: bool | None = None
    on: date | None = Field(None, description="Not before this day.")
    lines: list[Line] | None = None


def _called(name: str, args: dict[str, Any]) -> str:
    trace(f"{name} {json.dumps(args, sort_keys=True)}")
    return f"{name}: done"


@tool(args_schema=Wire)
def wire(**args: Any) -> str:
    """Wire money to somebody."""
    args = Wire(**args).model_dump(mode="json", exclude_none=True)
    return _called("wire", args)


@tool
def note(text: str, tags: list[str] | None = None) -> str:
    """Write a note."""
    return _called("note", {"text": text, **({"tags": tags} if tags else {})})


@tool
def wipe(database: str, tables: Annotated[int, Field(ge=1)] = 1) -> str:
    """Empty a database."""
    return _called("wipe", {"database": database, "tables": tables})


@tool
def release(version: str) -> str:
    """Release a version."""
    return _called("release", {"version": version})


@tool
def sign(paper: str) -> str:
    """Sign a paper."""
    return _called("sign", {"paper": paper})


@tool
def lock(door: str) -> str:
    """Lock a door."""
    return _called("lock", {"door": door})


@tool
def remind(whom: str) -> str:
    """Remind somebody."""
    return _called("remind", {"whom": whom})


@tool
def store(value: Any) -> str:
    """Store a value of any form."""
    return _called("store", {"size": len(json.dumps(value))})


def _script(messages: list[BaseMessage]) -> AIMessage:
    last = messages[-1]
    if isinstance(last, ToolMessage):
        told = [message.text for message in messages if isinstance(message, ToolMessage)]
        return say(f"It ended: {told[-1]}")
    if not isinstance(last, HumanMessage) or not last.text.startswith("{"):
        return say("Nothing to do.")
    asked = json.loads(last.text)
    return calls(*((name, args) for name, args in asked["calls"]), text=asked.get("text", ""))


def _paid(args: dict[str, Any]) -> dict[str, Any]:
    amount = args["amount"]
    records = [
        {"account": f"DE{place:02}", "owner": f"Owner {place}", "balance": amount * place}
        for place in range(1, 13)
    ]
    return {"pays": amount, "records": 1363, "first": records}


def _office() -> Any:
    return build_hitl_agent(
        ScriptedModel(script=_script, unique_ids=True, remembers=False),
        [wire, note, wipe, release, sign, lock, remind, store, ask_human],
        approve={
            "wire": ApprovalPolicy(risk="high", four_eyes=False, preview=_paid),
            "note": ApprovalPolicy(risk="low"),
            "wipe": ApprovalPolicy(risk="high", four_eyes=False, allowed=("approve", "reject")),
            "release": ApprovalPolicy(quorum=2, timeout=timedelta(hours=4)),
            "sign": ApprovalPolicy(names=("ann",)),
            "lock": ApprovalPolicy(four_eyes=True),
            "remind": ApprovalPolicy(timeout=timedelta(seconds=2)),
            "store": ApprovalPolicy(risk="low"),
        },
        name="office",
    )


def _form() -> Any:
    class Trip(BaseModel):
        city: str = Field(description="Where to.")
        nights: int = Field(ge=1, le=30)
        breakfast: bool = True
        budget: float | None = Field(None, description="In euros a night.")
        guests: list[str] = []

    def ask(state: MessagesState) -> dict[str, Any]:
        answer = interrupt({"question": "Which trip?", "schema": Trip.model_json_schema()})
        trace(f"trip {json.dumps(answer, sort_keys=True)}")
        return {"messages": [AIMessage(f"Booked: {json.dumps(answer)}")]}

    return StateGraph(MessagesState).add_sequence([ask]).add_edge(START, "ask").compile(name="form")


def _odd() -> Any:
    def ask(state: MessagesState) -> dict[str, Any]:
        answer = interrupt({"widget": "dial", "range": [0, 11], "unit": {"name": "dB"}})
        trace(f"odd {json.dumps(answer, sort_keys=True)}")
        return {"messages": [AIMessage("Turned.")]}

    return StateGraph(MessagesState).add_sequence([ask]).add_edge(START, "ask").compile(name="odd")


GRAPHS = {"office": _office, "form": _form, "odd": _odd}


def __getattr__(name: str) -> Any:
    """The graph of this name, which is made now."""
    if name not in GRAPHS:
        raise AttributeError(f"There is no '{name}' in {__name__}.")
    graph = globals()[name] = GRAPHS[name]()
    return graph
