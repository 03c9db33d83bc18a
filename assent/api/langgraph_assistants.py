"""Assistants, as LangGraph's clients send and read them: the agents themselves, and those with
settings of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field, StrictInt

from assent.api.langgraph_searches import SearchBody
from assent.api.langgraph_shapes import LangGraphBody
from assent.api.schemas import ClientConfig, Metadata, Name, SmallObject
from assent.api.views import pick
from assent.core.assistants import assistant_id_of
from assent.core.json import Json, JsonObject, holds
from assent.core.rows import Assistant, AssistantVersion
from assent.runs.assistants import UNTITLED, Settings

SINCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The time at which an agent is said to have been made: its code does not say."""

MAX_DESCRIPTION = 10_000

Description = Annotated[str, Field(max_length=MAX_DESCRIPTION)]

_THEIR_NAMES = {"graph_id": "agent"}


class AssistantSettings(LangGraphBody):
    """What an assistant has of its own."""

    graph_id: Name | None = None
    config: ClientConfig | None = Field(
        default=None, description="Under the `config` of each run: what the run sends counts"
    )
    context: SmallObject | None = Field(
        default=None, description="Under the `context` of each run, in the same way"
    )
    metadata: Metadata | None = Field(
        default=None, description="Anything of yours, shown as it is, with its runs too"
    )
    name: Name | None = None
    description: Description | None = None

    def settings(self) -> JsonObject:
        """The settings that were sent. Those that are null are left as they are."""
        sent = self.model_dump(exclude_unset=True, include={*AssistantSettings.model_fields})
        return {
            _THEIR_NAMES.get(name, name): value for name, value in sent.items() if value is not None
        }


class AssistantRequest(AssistantSettings):
    """A new assistant."""

    graph_id: Name = Field(description="The agent's name")
    name: Name | None = Field(default=None, description=f"`{UNTITLED}` if it is left out")
    assistant_id: UUID | None = None
    if_exists: Literal["raise", "do_nothing"] | None = Field(
        default=None,
        description="If there is one with this id: a 409, or with `do_nothing` that one as it is",
    )

    @property
    def id(self) -> str | None:
        """The id that it is to have, if that is said."""
        return None if self.assistant_id is None else str(self.assistant_id)

    def begun(self) -> Settings:
        """The settings of the first version."""
        return Settings(**self.settings())


class AssistantChange(AssistantSettings):
    """The settings to change: `config` and `context` as a whole, and of the `metadata` the fields
    that are sent, of which those that are null are taken off."""


class LatestRequest(LangGraphBody):
    """The version whose settings count."""

    version: StrictInt = Field(ge=1)


class AssistantVersionSearch(SearchBody):
    """The versions to list, the last one first unless something else is said."""

    def takes(self, metadata: Mapping[str, Json]) -> bool:
        """True if the version with this metadata is one of them."""
        return holds(metadata, self.metadata or {})

    def page(self, numbers: Sequence[int]) -> Sequence[int]:
        """The numbers of those that are asked for: one more than the limit, if there are others."""
        found = sorted(numbers, reverse=self.newest_first)
        return found[self.offset : self.offset + self.limit + 1]


def agent_view(name: str, descriptions: Mapping[str, str]) -> JsonObject:
    """An agent itself, as the assistant that it is."""
    return {
        "assistant_id": assistant_id_of(name),
        "graph_id": name,
        "name": name,
        "description": descriptions.get(name),
        "config": {},
        "context": {},
        "metadata": {"created_by": "system"},
        "version": 1,
        "created_at": SINCE,
        "updated_at": SINCE,
    }


def agent_version_view(name: str, descriptions: Mapping[str, str]) -> JsonObject:
    """The only version of an agent itself."""
    view = agent_view(name, descriptions)
    del view["updated_at"]
    return view


_SAME: Final = ("name", "description", "config", "context", "metadata")


def assistant_view(assistant: Assistant) -> JsonObject:
    """An assistant with settings of its own."""
    return {**_view(assistant), "updated_at": assistant.updated_at}


def version_view(version: AssistantVersion) -> JsonObject:
    """A version of an assistant."""
    return _view(version)


def _view(row: Assistant | AssistantVersion) -> JsonObject:
    return {
        "assistant_id": row.assistant_id,
        "graph_id": row.agent,
        **pick(row, _SAME),
        "version": row.number,
        "created_at": row.created_at,
    }
