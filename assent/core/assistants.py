"""The names that LangGraph's server has for agents: assistants."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID, uuid5

ASSISTANTS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
"""The namespace in which LangGraph's server makes the id of an assistant from its graph's name."""


@lru_cache
def assistant_id_of(agent: str) -> str:
    """The id of the agent, as LangGraph's server makes it."""
    return str(uuid5(ASSISTANTS, agent))
