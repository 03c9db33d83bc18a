"""An agent that works by a script, and tools that write down what they did: no server, no storage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from assent import build_hitl_agent
from assent.graph.effects import EarlierEffect, EffectIntent
from assent.graph.provider_history import provider_history
from tests.support.models import ScriptedModel, lc_history_problems

Json = dict[str, Any]
ASKED: Json = {"messages": [("user", "Please.")]}
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


@dataclass
class AgentHarness:
    """`ran` is what the tools did, in order, as (tool, its first argument)."""

    ran: list[tuple[str, Any]] = field(default_factory=list)

    def tools(self) -> list[Callable[..., Any]]:
        def look(record: int) -> str:
            """Read a record."""
            self.ran.append(("look", record))
            return f"Record {record} is in order."

        def pay(amount: int, to: str = "Ada") -> str:
            """Pay somebody."""
            self.ran.append(("pay", amount))
            return f"Paid {amount} to {to}."

        async def mail(to: str) -> str:
            """Write to somebody."""
            self.ran.append(("mail", to))
            return f"Wrote to {to}."

        return [look, pay, mail]

    def agent(self, *script: Any, approve: Any = ("pay", "mail"), **options: Any) -> Any:
        """An agent with the harness's tools. Its checkpoints are in memory, unless the options say
        otherwise."""
        model = options.pop("model", None) or ScriptedModel(script=list(script))
        options.setdefault("checkpointer", InMemorySaver())
        return build_hitl_agent(
            model, options.pop("tools", None) or self.tools(), approve=approve, **options
        )


@dataclass
class Ledger:
    """Keeps intents and outcomes in memory, as JSON. `log` is what happened; the step named by
    `broken` fails like a full disk, and with `kills` the process dies once an outcome is stored."""

    rows: dict[str, str | None] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    broken: str = ""
    kills: bool = False

    async def begin(self, intent: EffectIntent) -> EarlierEffect | None:
        self._may_fail("begin")
        if intent.key in self.rows:
            stored = self.rows[intent.key]
            return EarlierEffect(outcome=None if stored is None else json.loads(stored))
        self.rows[intent.key] = None
        self.log.append(f"begin {intent.tool}")
        return None

    async def finish(self, key: str, outcome: Json) -> None:
        self._may_fail("finish")
        self.rows[key] = json.dumps(outcome)
        self.log.append("finish")
        if self.kills:
            raise Killed

    def _may_fail(self, step: str) -> None:
        if self.broken == step:
            raise OSError("No space left on device")


class Killed(BaseException):
    """Ends a run where it stands, as a crash does."""


def asks(*calls: tuple[str, str, Json], message_id: str | None = None) -> AIMessage:
    """A turn of the model with these calls, each given as (id, tool, arguments)."""
    return AIMessage(
        "",
        id=message_id,
        tool_calls=[tool_call(id=id_, name=name, args=args) for id_, name, args in calls],
    )


def told(result: Json, call_id: str) -> ToolMessage:
    """The one answer that the model got to a call, after checking that a provider takes the whole
    history."""
    messages: list[BaseMessage] = result["messages"]
    assert lc_history_problems(provider_history(messages)) == []
    (answer,) = [
        message
        for message in messages
        if isinstance(message, ToolMessage) and message.tool_call_id == call_id
    ]
    return answer
