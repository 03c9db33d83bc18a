"""The server itself."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import Request, Response

from assent.api.access.rules import Thing, may, open_to_all
from assent.api.answers import answers, refuses
from assent.api.context import served
from assent.api.deps import TheActor, TheRuns
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.shapes.server import AgentGraphs, Agents, Health
from assent.core.access import Right
from assent.core.clock import time_text
from assent.core.errors import NotFound, Unavailable
from assent.core.json import JsonObject
from assent.graph.describing import graphs_of
from assent.graph.json_schemas import schema_of_args
from assent.graph.kinds import Agent, gated_graph
from assent.runs.service import Runs

router = router_of("server")


@router.get("/agents")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "search"))
@answers(Agents)
async def list_agents(request: Request, runs: TheRuns, by: TheActor) -> Response:
    """The agents. The first takes messages that name no agent. An agent that Assent built has its
    tools, and says which of them need approval. The `description` is its langgraph.json's."""
    descriptions = served(request).descriptions
    views: list[JsonObject] = []
    for name, agent in runs.agents.items():
        views.append({**_agent_view(name, agent), "description": descriptions.get(name)})
    return json_response({"agents": views})


# A name may have a slash.
@router.get("/agents/{name:path}/graph")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "read"))
@answers(AgentGraphs)
@refuses(404)
async def get_graph(name: str, runs: TheRuns, by: TheActor) -> Response:
    """The nodes and edges of the agent's graph, and of each of its subgraphs."""
    agent = runs.agents.get(name)
    if agent is None:
        raise NotFound(f"There is no agent '{name}'. There are: {', '.join(runs.agents)}.")
    return json_response({"agent": name, "graphs": await graphs_of(agent)})


@router.get("/health")
@router.get("/health/live")
@open_to_all("It says nothing of anybody.")
@answers(Health)
async def health(request: Request) -> Response:
    """200 while the process lives, also if its storage is away. No key is needed."""
    return _health("healthy", served(request).program)


@router.get("/health/ready")
@open_to_all("It says nothing of anybody.")
@answers(Health)
async def ready(request: Request) -> Response:
    """200 if the server can take requests, and 503 with the reason while its storage is away. No
    key is needed."""
    runs = served(request).program
    outage = runs.storage.outage()
    if outage is not None:
        raise Unavailable(outage.reason)
    await runs.storage.threads(limit=1)
    return _health("ready", runs)


def _health(status: str, runs: Runs) -> Response:
    timestamp = time_text(runs.clock.now())
    return json_response({"status": status, "timestamp": timestamp, "version": version("assent")})


def _agent_view(name: str, agent: Agent) -> JsonObject:
    graph = gated_graph(agent)
    if graph is None:
        nodes = [node for node in agent.nodes if not node.startswith("__")]
        return {"agent": name, "nodes": nodes}
    gate = graph.gate
    tools = [
        {
            "name": tool.name,
            "description": tool.description,
            "needs_approval": tool.name in gate.rules.policies,
            "schema": schema_of_args(tool),
        }
        for tool in gate.tools.values()
    ]
    return {"agent": name, "tools": tools, "chat_decisions": graph.takes_chat_decisions}
