"""Recursion limits: how far a run may go before it counts as going round in circles.

The limit of an agent of `build_hitl_agent` counts turns of its model (`graph/turns.py`), that of
any other graph LangGraph's supersteps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from langgraph._internal._config import DEFAULT_RECURSION_LIMIT

from assent.core.errors import ConfigurationError, InvalidRequest
from assent.graph.kinds import Agent

MOST = 10_000
"""The highest limit of any run, unless a setting says otherwise: about LangGraph's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecursionLimits:
    """The limits of a server: the operator's by agent, that of agents which have none, and the
    highest of any run."""

    default: int = int(DEFAULT_RECURSION_LIMIT)
    agents: Mapping[str, int] = field(default_factory=dict)
    most: int = MOST

    def of(self, name: str, agent: Agent, requested: int | None) -> int:
        """The limit of a run: what the request asks for, or else the operator's for the agent, or
        the graph's own."""
        own = (agent.config or {}).get("recursion_limit")
        return min(requested or self.agents.get(name) or own or self.default, self.most)

    def check_highest(self) -> None:
        """Raise `ConfigurationError` for an agent's limit that is too high."""
        for name, limit in self.agents.items():
            if limit > self.most:
                raise ConfigurationError(
                    f"The recursion limit of the agent '{name}' is {limit}, and "
                    f"ASSENT_MAX_RECURSION_LIMIT is {self.most}. Change one of them."
                )

    def check_requested(self, requested: int | None) -> None:
        """Raise `InvalidRequest` if a request asks for more than any run may have."""
        if requested is not None and requested > self.most:
            raise InvalidRequest(
                f"The recursion_limit is {requested}, and this server allows at most {self.most}. "
                "Ask for less."
            )
