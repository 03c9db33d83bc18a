"""The names that LangGraph's server has for agents, and for those with settings of their own:
assistants."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from uuid import UUID, uuid5

from assent.core.json import Json

ASSISTANTS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
"""The namespace in which LangGraph's server makes the id of an assistant from its graph's name."""


@lru_cache
def assistant_id_of(agent: str) -> str:
    """The id of the agent, as LangGraph's server makes it."""
    return str(uuid5(ASSISTANTS, agent))


def version_id(assistant_id: str, number: int) -> str:
    """The key of a version of the assistant."""
    return f"{assistant_id}:{number}"


def assistant_in(given: Mapping[str, Json]) -> str | None:
    """The id of the assistant that a run or a schedule with this input was begun with; None if it
    was the agent itself."""
    begun_with = given.get("assistant")
    return None if begun_with is None else begun_with["assistant_id"]
