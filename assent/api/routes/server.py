"""The server itself."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response

from assent.api.deps import TheActor, TheRuns
from assent.api.responses import json_response
from assent.core.json import JsonObject
from assent.graph.builder import HitlGraph
from assent.graph.interrupts.questions import Agent

router = APIRouter(tags=["server"])


@router.get("/agents")
async def list_agents(runs: TheRuns, by: TheActor) -> Response:
    """The agents. The first takes messages that name no agent. An agent that Assent built has its
    tools, and says which of them need approval."""
    views = [_agent_view(name, agent) for name, agent in runs.agents.items()]
    return json_response({"agents": views})


@router.get("/health")
async def health(runs: TheRuns) -> Response:
    """200 if the server can read its storage, else 503. No key is needed."""
    await runs.storage.threads(limit=1)
    return json_response({"status": "ok", "version": version("assent")})


def _agent_view(name: str, agent: Agent) -> JsonObject:
    if not isinstance(agent.builder, HitlGraph):
        nodes = [node for node in agent.nodes if not node.startswith("__")]
        return {"agent": name, "nodes": nodes}
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
