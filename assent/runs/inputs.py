"""The input that each agent takes, found out once, and what a graph is run with."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import structlog
from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.runnables import RunnableConfig

from assent.core.audit import LOCAL
from assent.core.config_keys import is_own_key, is_trace_key
from assent.core.json import encode_json
from assent.core.rows import Run
from assent.core.run_input import RunInput, given_in
from assent.graph.inputs import InputShape, shape_of
from assent.graph.kinds import Agent

log = structlog.get_logger(__name__)

LARGE_BYTES = 16 * 1024
"""The size of an input, as JSON, that is checked on the event loop at most."""

Shapes = Mapping[str, InputShape]
"""The input that agents take, by their names."""


def shapes_of(
    agents: Mapping[str, Agent], configurable: Mapping[str, Collection[str]] | None = None
) -> Shapes:
    """The input that these agents take; `configurable` has keys that the operator declares for
    them. Logs which of them take no message."""
    declared = configurable or {}
    shapes = {name: shape_of(agent, name, declared.get(name, ())) for name, agent in agents.items()}
    for name, shape in shapes.items():
        if not shape.takes_message:
            log.warning("agent takes no messages", agent=name, input=shape.fields.shown())
    return shapes


async def check_given(shape: InputShape, given: RunInput, *, is_update: bool = False) -> None:
    """Raise `InvalidInput` if the agent of the shape does not take this, or if as an update its
    state does not. A large input goes to a thread: to hold a megabyte to a JSON Schema takes a
    second or more."""
    check = shape.check_update if is_update else shape.check
    if given.has_input and len(encode_json(given.input)) > LARGE_BYTES:
        await asyncio.to_thread(check, given)
    else:
        check(given)


def add_given_config(config: RunnableConfig, run: Run) -> None:
    """Add the client's part to the config of a run's graph, and for tracing the name of who asks.

    Tags and metadata go by a callback manager: what is in the config's own `metadata`, LangGraph
    writes into checkpoints, where it says whose a checkpoint is and who asked.
    """
    given = given_in(run.input).config or {}
    configurable = given.get("configurable", {})
    ours = config["configurable"]
    for key, value in configurable.items():
        if not is_own_key(key):
            ours.setdefault(key, value)

    of_run = {key: value for key, value in run.metadata.items() if not is_trace_key(key)}
    metadata = {**of_run, **given.get("metadata", {})}
    if run.owner != LOCAL:
        metadata["user"] = run.owner
    tags = given.get("tags", [])
    if metadata or tags:
        callbacks = AsyncCallbackManager(handlers=[])
        callbacks.add_tags(list(tags))
        callbacks.add_metadata(metadata)
        config["callbacks"] = callbacks
