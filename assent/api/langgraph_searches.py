"""Bodies of searches, as LangGraph's clients send them, and their pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StrictBool, StrictInt

from assent.api.langgraph_shapes import LangGraphBody
from assent.api.schemas import CheckpointId, Metadata, Name, ThreadId
from assent.core.json import JsonObject, holds
from assent.core.rows import ThreadStatus
from assent.runs.searching import Order, ThreadSearch

T = TypeVar("T")

MOST_LEFT_OUT = 10_000
"""The most rows that a page may leave out: they are read all the same."""

SortOrder = Literal["asc", "desc"]


class SearchBody(LangGraphBody):
    """A page of what is found."""

    metadata: Metadata | None = Field(
        default=None, description="Only those whose metadata have these values"
    )
    limit: StrictInt = Field(default=10, ge=1, le=1000)
    offset: StrictInt = Field(default=0, ge=0, le=MOST_LEFT_OUT)
    sort_order: SortOrder | None = Field(default=None, description="`desc` if it is left out")

    @property
    def newest_first(self) -> bool:
        """True unless the first shall come first."""
        return self.sort_order != "asc"


def page_of(found: Sequence[T], body: SearchBody) -> tuple[Sequence[T], dict[str, str]]:
    """The page of what was found behind the body's `offset`, which is one more than its `limit`
    where there are others, with the headers that say so: as LangGraph's server does, the total is
    that as far as it is known."""
    if len(found) <= body.limit:
        return found, {"X-Pagination-Total": str(body.offset + len(found))}
    return found[: body.limit], others_behind(body, body.limit)


def others_behind(body: SearchBody, count: int) -> dict[str, str]:
    """The headers of a page of so many, behind which there are others."""
    end = body.offset + count
    return {"X-Pagination-Total": str(end + 1), "X-Pagination-Next": str(end)}


def selected(view: JsonObject, names: Collection[str] | None) -> JsonObject:
    """The fields of the view that are selected; all of them, if none are named."""
    return view if names is None else {name: view[name] for name in names if name in view}


# ── threads ───────────────────────────────────────────────────────────────────────────────────────

ThreadField = Literal[
    "thread_id",
    "owner",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "title",
    "status",
    "pending",
    "config",
    "context",
    "values",
    "interrupts",
    "error",
    "approvals",
]

OF_STATE = frozenset({"values", "interrupts", "error", "approvals"})
"""The fields of a thread that are not in its row."""


class ThreadCountRequest(LangGraphBody):
    """The threads to count."""

    metadata: Metadata | None = Field(
        default=None,
        description="Only those whose metadata have these values, `graph_id` and `assistant_id` "
        "among them",
    )
    values: JsonObject | None = Field(
        default=None, description="Only those whose states have these values"
    )
    status: ThreadStatus | None = None

    def search(self) -> ThreadSearch:
        """The search for them."""
        return ThreadSearch(
            status=self.status, metadata=self.metadata or {}, values=self.values or {}
        )


class ThreadSearchRequest(SearchBody):
    """The threads to find."""

    refused = {"extract": "Name the fields to `select`, and read from those."}

    ids: Annotated[list[ThreadId], Field(max_length=1000)] | None = None
    values: JsonObject | None = Field(
        default=None, description="Only those whose states have these values"
    )
    status: ThreadStatus | None = None
    sort_by: Order | None = Field(default=None, description="`created_at` if it is left out")
    select: list[ThreadField] | None = Field(
        default=None, description="The fields to show; all of them if it is left out"
    )

    def search(self) -> ThreadSearch:
        """The search for them."""
        return ThreadSearch(
            ids=None if self.ids is None else tuple(self.ids),
            status=self.status,
            metadata=self.metadata or {},
            values=self.values or {},
            by=self.sort_by or "created_at",
            newest_first=self.newest_first,
        )

    @property
    def needs_states(self) -> bool:
        """True if a field is to be shown that is in no row."""
        return self.select is None or not OF_STATE.isdisjoint(self.select)


class ThreadPruneRequest(LangGraphBody):
    """The threads to remove, or whose states to remove but the latest."""

    thread_ids: list[ThreadId] = Field(max_length=1000)
    strategy: Literal["delete", "keep_latest"] = "delete"


class CheckpointPlace(LangGraphBody):
    """A checkpoint as states show it. Without a `checkpoint_id` it is the latest."""

    checkpoint_id: CheckpointId | None = None
    checkpoint_ns: str = Field(default="", max_length=2000)

    @property
    def ns(self) -> tuple[str, ...]:
        """The names of the subgraph and those around it."""
        return tuple(self.checkpoint_ns.split("|")) if self.checkpoint_ns else ()


class StateAt(LangGraphBody):
    """The checkpoint whose state is asked for; of a subgraph, if it has a `checkpoint_ns`."""

    checkpoint: CheckpointPlace
    subgraphs: StrictBool = False


# ── assistants ────────────────────────────────────────────────────────────────────────────────────

AssistantField = Literal[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "metadata",
    "version",
    "created_at",
    "updated_at",
]

AssistantOrder = Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"]


class AssistantCountRequest(LangGraphBody):
    """The assistants to count."""

    metadata: Metadata | None = Field(
        default=None, description="Only those whose metadata have these values"
    )
    graph_id: Name | None = Field(default=None, description="Only those of this agent")
    name: Name | None = Field(default=None, description="Only those with this in their names")

    def takes(self, view: JsonObject) -> bool:
        """True if the assistant is one of them."""
        return (
            self.graph_id in (None, view["graph_id"])
            and (self.name or "").lower() in view["name"].lower()
            and holds(view["metadata"], self.metadata or {})
        )


class AssistantSearchRequest(AssistantCountRequest, SearchBody):
    """The assistants to find."""

    sort_by: AssistantOrder | None = Field(
        default=None, description="`created_at` if it is left out"
    )
    select: list[AssistantField] | None = Field(
        default=None, description="The fields to show; all of them if it is left out"
    )

    def place(self, view: JsonObject) -> tuple[Any, str]:
        """The place of the assistant in the order that is asked for, with its id."""
        return view[self.sort_by or "created_at"], view["assistant_id"]

    def page(self, places: Sequence[tuple[Any, str]]) -> Sequence[str]:
        """The ids of those that are asked for, in order: one more than the limit, if there are
        others."""
        found = sorted(places, reverse=self.newest_first)
        return [id for _, id in found[self.offset : self.offset + self.limit + 1]]
