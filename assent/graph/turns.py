"""The recursion limit of an agent counts turns of its model.

LangGraph counts supersteps, and an agent takes three for a turn with tools: the model, the tools,
and the step that joins them. With a limit of 25 it would stop after eight turns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import ensure_config
from langgraph.errors import GraphRecursionError
from langgraph.graph.state import CompiledStateGraph

from assent.graph.state import AgentState, Conversation

TURNS_KEY = "__assent_turns"
"""The key of the configurable under which a run's turns are counted."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The supersteps that an agent takes beside those that every agent takes: in each turn, and in
    a run."""

    of_a_turn: int = 0
    further: int = 0


STEPS_OF_A_TURN = 3
FURTHER_STEPS = 4
"""The decision, its tools and the joining step before the first turn of a run that goes on after a
pause; and the step in which a turn too many is refused."""


@dataclass(slots=True)
class Turns:
    """The turns of the model in one run."""

    limit: int
    also: Steps = Steps()
    taken: int = 0

    @property
    def steps(self) -> int:
        """Supersteps that are enough for all the turns."""
        of_a_turn = STEPS_OF_A_TURN + self.also.of_a_turn
        return self.limit * of_a_turn + FURTHER_STEPS + self.also.further

    def begin(self) -> None:
        """Count a turn. Raises `GraphRecursionError` if it is one too many."""
        if self.taken >= self.limit:
            raise GraphRecursionError(
                f"The model has had the {self.limit} turns that a run may take. "
                "The recursion_limit in the config allows more."
            )
        self.taken += 1


def begin_turn(config: RunnableConfig) -> None:
    """Count a turn of the model in the run that this config is of."""
    turns: Turns | None = config.get("configurable", {}).get(TURNS_KEY)
    if turns is not None:
        turns.begin()


class HitlAgent(CompiledStateGraph[AgentState, Any, Conversation, Conversation]):
    """A compiled agent of `build_hitl_agent`, whose recursion limit counts turns of the model."""

    @property
    def _steps(self) -> Steps:
        builder: Any = self.builder
        steps: Steps = builder.steps
        return steps

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> Iterator[Any]:
        return super().stream(input, self._counting(config), **options)

    def astream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        return super().astream(input, self._counting(config), **options)

    def _counting(self, config: RunnableConfig | None) -> RunnableConfig:
        """The config with enough supersteps for the turns that it allows, and their count."""
        merged = ensure_config(self.config, config)
        limit = merged["recursion_limit"]
        around = merged["configurable"].get(TURNS_KEY)
        if around is not None and limit == around.steps:
            # An agent within an agent inherits its limit.
            limit = around.limit
        turns = Turns(limit, self._steps)
        counting = RunnableConfig(**(config or {}))
        counting["recursion_limit"] = turns.steps
        counting["configurable"] = {**counting.get("configurable", {}), TURNS_KEY: turns}
        return counting


def as_agent(graph: CompiledStateGraph[Any, Any, Any, Any]) -> HitlAgent:
    """The same compiled graph, as an agent. LangGraph's own `copy` makes one in this way."""
    attributes = {name: part for name, part in vars(graph).items() if name != "__orig_class__"}
    return HitlAgent(**attributes)
