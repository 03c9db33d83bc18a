"""The input that each agent takes, found out once, and what a graph is run with."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import structlog
from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig

from assent.core.audit import LOCAL
from assent.core.config_keys import is_own_key, is_trace_key
from assent.core.json import encode_json
from assent.core.rows import Run
from assent.core.run_input import RunInput, given_in
from assent.graph.inputs import InputShape, shape_of
from assent.graph.kinds import Agent
from assent.graph.model_node import chat_model
from assent.graph.task_options import INSTRUCTIONS_KEY, MODEL_KEY, TaskRules

log = structlog.get_logger(__name__)

LARGE_BYTES = 16 * 1024
"""The size of an input, as JSON, that is checked on the event loop at most."""

Shapes = Mapping[str, InputShape]
"""The input that agents take, by their names."""


TaskModels = Mapping[str, Mapping[str, BaseChatModel]]
"""The models that tasks may choose, by agent and by the name that clients say."""


def shapes_of(
    agents: Mapping[str, Agent],
    configurable: Mapping[str, Collection[str]] | None = None,
    tasks: Mapping[str, TaskRules] | None = None,
) -> Shapes:
    """The input that these agents take; `configurable` has keys that the operator declares for
    them, and `tasks` what tasks may choose of them. Logs which of them take no message."""
    declared, rules = configurable or {}, tasks or {}
    shapes = {
        name: shape_of(agent, name, declared.get(name, ()), rules.get(name, TaskRules()))
        for name, agent in agents.items()
    }
    for name, shape in shapes.items():
        if not shape.takes_message:
            log.warning("agent takes no messages", agent=name, input=shape.fields.shown())
    return shapes


def task_models(shapes: Shapes) -> TaskModels:
    """The models that tasks may choose of agents of `build_hitl_agent`; any other graph gets only
    the name of one. Raises `ConfigurationError` for one that cannot be set up."""
    return {
        agent: {name: chat_model(model, retries=True) for name, model in shape.tasks.models.items()}
        for agent, shape in shapes.items()
        if shape.is_gated
    }


async def check_given(shape: InputShape, given: RunInput, *, is_update: bool = False) -> None:
    """Raise `InvalidInput` if the agent of the shape does not take this, or if as an update its
    state does not. A large input goes to a thread: to hold a megabyte to a JSON Schema takes a
    second or more."""
    check = shape.check_update if is_update else shape.check
    if given.has_input and len(encode_json(given.input)) > LARGE_BYTES:
        await asyncio.to_thread(check, given)
    else:
        check(given)


def add_given_config(config: RunnableConfig, run: Run, models: TaskModels) -> None:
    """Add the client's part to the config of a run's graph, with what its task has chosen of the
    agent and its `models`; and for tracing the name of who asks.

    Tags and metadata go by a callback manager: what is in the config's own `metadata`, LangGraph
    writes into checkpoints, where it says whose a checkpoint is and who asked.
    """
    run_input = given_in(run.input)
    given = run_input.config or {}
    configurable = given.get("configurable", {})
    ours = config["configurable"]
    if run_input.model is not None:
        ours[MODEL_KEY] = models.get(run.agent, {}).get(run_input.model)
    if run_input.instructions is not None:
        ours[INSTRUCTIONS_KEY] = run_input.instructions
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
