"""The server itself."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response

from assent.api.deps import TheRuns, Who
from assent.api.responses import json_response
from assent.graph.builder import HitlGraph
from assent.graph.interrupts.resume import Agent

router = APIRouter(tags=["server"])


@router.get("/agents")
async def list_agents(runs: TheRuns, who: Who) -> Response:
    """The agents, the first of which takes messages that name none; where Assent built one, its
    tools and which of them need a person."""
    return json_response(
        {"agents": [_agent_view(name, agent) for name, agent in runs.agents.items()]}
    )


@router.get("/health")
async def health(runs: TheRuns) -> Response:
    """Whether the server can read its storage: 200, or 503. It needs no key."""
    await runs.storage.threads(limit=1)
    return json_response({"status": "ok", "version": version("assent")})


def _agent_view(name: str, agent: Agent) -> dict[str, Any]:
    if not isinstance(agent.builder, HitlGraph):
        return {"agent": name, "nodes": [node for node in agent.nodes if not node.startswith("__")]}
    gate = agent.builder.gate
    tools = [
        {
            "name": tool.name,
            "description": tool.description,
            "needs_approval": tool.name in gate.rules.policies,
        }
        for tool in gate.tools.values()
    ]
    return {"agent": name, "tools": tools, "chat_decisions": agent.builder.takes_chat_decisions}
