"""Assistants: agents with settings of their own, as LangGraph's clients make them.

What an assistant sets lies under what is given with a run, as if whoever starts that had sent it.
It is held to the same rules when it is set, and again when it is used. It is copied into the run's
input, so a change of the assistant changes no run that has begun. Whoever has set it is among the
people whose words that run acts on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from msgspec import structs

from assent.approvals.requesters import each_once
from assent.core.assistants import assistant_id_of, version_id
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.errors import Conflict, NotFound
from assent.core.json import Json, JsonObject
from assent.core.metadata import MAX_ASSISTANT_METADATA_BYTES, check_metadata
from assent.core.rows import Assistant, AssistantVersion, Thread
from assent.core.run_input import RunInput
from assent.runs.inputs import Shapes
from assent.runs.recursion import RecursionLimits
from assent.runs.transitions import Submission
from assent.storage.base import Change, Storage

UNTITLED = "Untitled"
"""The name of an assistant that was given none, as on LangGraph's server."""

LIMIT = "recursion_limit"

SET = ("agent", "name", "description", "config", "context", "metadata")
"""The fields that an assistant and its versions both have."""

MERGED = frozenset({"context", "config"})
"""The fields of a run's input that an assistant lies under."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of an assistant. The `config` may have a recursion limit."""

    agent: str
    name: str = UNTITLED
    description: str | None = None
    config: Mapping[str, Json] = field(default_factory=dict)
    context: Mapping[str, Json] = field(default_factory=dict)
    metadata: Mapping[str, Json] = field(default_factory=dict)


def settings_of(row: Assistant | AssistantVersion) -> Settings:
    """The settings that the row has."""
    return Settings(**{name: getattr(row, name) for name in SET})


def as_version(assistant: Assistant) -> AssistantVersion:
    """The version that the assistant is at."""
    return AssistantVersion(
        version_id=version_id(assistant.assistant_id, assistant.number),
        assistant_id=assistant.assistant_id,
        number=assistant.number,
        owner=assistant.owner,
        tenant=assistant.tenant,
        created_at=assistant.updated_at,
        requested_by=assistant.requested_by,
        **{name: getattr(assistant, name) for name in SET},
    )


def beneath(assistant: Assistant, given: RunInput, fields: Collection[str] = MERGED) -> RunInput:
    """The input with what the assistant sets under it, in these fields: of the context, of the
    config and of its `configurable` and `metadata`, what is given counts, field by field."""
    merged: JsonObject = {}
    if "context" in fields:
        merged["context"] = {**assistant.context, **(given.context or {})} or given.context
    if "config" in fields:
        set_here = {name: value for name, value in assistant.config.items() if name != LIMIT}
        merged["config"] = _config(set_here, given.config or {}) or given.config
    begun_with: JsonObject = {"assistant_id": assistant.assistant_id, "version": assistant.number}
    if LIMIT in assistant.config:
        begun_with[LIMIT] = assistant.config[LIMIT]
    return structs.replace(given, assistant=begun_with, **merged)


def _config(lower: Mapping[str, Json], upper: Mapping[str, Json]) -> JsonObject:
    config = {**lower, **upper}
    for name in ("configurable", "metadata"):
        if name in lower and name in upper:
            config[name] = {**lower[name], **upper[name]}
    return config


class Assistants:
    """The assistants that are seen, and their versions."""

    def __init__(
        self, storage: Storage, clock: Clock, shapes: Shapes, recursion: RecursionLimits
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._shapes = shapes
        self._recursion = recursion

    # ── finding ───────────────────────────────────────────────────────────────────────────────────

    def itself(self, assistant_id: str) -> str | None:
        """The name of the agent with this name, or whose own id as an assistant this is; None if
        there is no such agent."""
        for name in self._shapes:
            if assistant_id in (name, assistant_id_of(name)):
                return name
        return None

    async def agent_of(self, assistant_id: str, thread: Thread | None = None) -> str | None:
        """The name of the agent behind the assistant; None if there is no such assistant. That with
        which the `thread` goes on may be gone, or be one of another agent by now."""
        itself = self.itself(assistant_id)
        if itself is not None:
            return itself
        if thread is not None and thread.assistant_id == assistant_id:
            return thread.agent
        assistant = await self._storage.assistant(assistant_id)
        return None if assistant is None else assistant.agent

    async def assistant(self, assistant_id: str) -> Assistant:
        """The assistant, which is no agent itself. Raises `NotFound`."""
        assistant = await self._storage.assistant(assistant_id)
        if assistant is None:
            raise no_assistant(assistant_id)
        return assistant

    # ── changing ──────────────────────────────────────────────────────────────────────────────────

    async def create(
        self, settings: Settings, *, by: Actor, assistant_id: str | None = None
    ) -> Assistant:
        """Create an assistant. Raises `NotFound` for an unknown agent, `InvalidRequest` for what
        its runs may not be given, or `Conflict` if there is one with this id."""
        self._check(settings)
        now = self._clock.now()
        made = Assistant(
            assistant_id=assistant_id or self._clock.new_id(),
            owner=by.name,
            tenant=by.tenant,
            created_at=now,
            updated_at=now,
            requested_by=by.people,
            **_fields(settings),
        )
        if self.itself(made.assistant_id) is not None:
            raise _exists(made.assistant_id)
        try:
            await self._storage.commit(Change(rows=(made, as_version(made))))
        except Conflict as error:
            if await self._storage.assistant(made.assistant_id) is None:
                # It is somebody else's.
                raise no_assistant(made.assistant_id) from None
            raise _exists(made.assistant_id) from error
        return made

    async def change(
        self, assistant_id: str, changes: Mapping[str, Json], *, by: Actor
    ) -> Assistant:
        """Change these settings, which makes the next version. Of the metadata, only the fields
        that are named change, and those that are None are taken off. Raises `NotFound`,
        `InvalidRequest`, or `Conflict` for an agent itself."""
        self._refuse_agents(assistant_id)
        while True:
            found = await self.assistant(assistant_id)
            settings = replace(settings_of(found), **changes)
            if "metadata" in changes:
                both = {**found.metadata, **changes["metadata"]}
                left = {name: value for name, value in both.items() if value is not None}
                settings = replace(settings, metadata=left)
            self._check(settings)
            number = found.last_number + 1
            changed = replace(
                found,
                number=number,
                last_number=number,
                updated_at=self._clock.now(),
                requested_by=each_once(found.requested_by, by.people),
                version=found.version + 1,
                **_fields(settings),
            )
            try:
                await self._storage.commit(Change(rows=(changed, as_version(changed))))
                return changed
            except Conflict:
                # Somebody else was faster, or has deleted it.
                continue

    async def go_back(self, assistant_id: str, number: int, *, by: Actor) -> Assistant:
        """Give the assistant the settings of the version with this number, an earlier or a later
        one. Raises `NotFound`, `InvalidRequest` if the agent takes these no more, or `Conflict` for
        an agent itself."""
        self._refuse_agents(assistant_id)
        while True:
            found = await self.assistant(assistant_id)
            wanted = await self._storage.assistant_version(version_id(assistant_id, number))
            if wanted is None:
                raise NotFound(f"The assistant '{assistant_id}' has no version {number}.")
            settings = settings_of(wanted)
            self._check(settings)
            changed = replace(
                found,
                number=number,
                updated_at=self._clock.now(),
                requested_by=each_once(wanted.requested_by, by.people),
                version=found.version + 1,
                **_fields(settings),
            )
            try:
                await self._storage.commit(Change(rows=(changed,), unchanged=(wanted,)))
                return changed
            except Conflict:
                continue

    async def deletable(self, assistant_id: str) -> Assistant:
        """The assistant. Raises `NotFound`, or `Conflict` for an agent itself."""
        self._refuse_agents(assistant_id)
        return await self.assistant(assistant_id)

    async def delete(self, assistant_id: str) -> None:
        """Remove the assistant with its versions. What was begun with it keeps what it set. Raises
        what `deletable` does."""
        while True:
            found = await self.deletable(assistant_id)
            try:
                await self._storage.commit(Change(removed=(found,)))
                return
            except Conflict:
                continue

    def _refuse_agents(self, assistant_id: str) -> None:
        name = self.itself(assistant_id)
        if name is not None:
            raise Conflict(
                f"The assistant '{assistant_id}' is the agent '{name}' itself, as its code has it: "
                "it is not changed or deleted. Create one with settings of its own, with "
                "POST /assistants."
            )

    def _check(self, settings: Settings) -> None:
        shape = self._shapes.get(settings.agent)
        if shape is None:
            raise NotFound(
                f"There is no agent '{settings.agent}'. There are: {', '.join(self._shapes)}."
            )
        config = dict(settings.config)
        self._recursion.check_requested(config.pop(LIMIT, None))
        shape.check_settings(dict(settings.context), config)
        check_metadata("assistant", settings.metadata, MAX_ASSISTANT_METADATA_BYTES)

    # ── using ─────────────────────────────────────────────────────────────────────────────────────

    async def applied(self, submission: Submission) -> Submission:
        """The submission to the agent of its assistant, with what that sets under what is given.
        The agent may not take that any more: it is checked with the rest. Raises `InvalidRequest`
        for too much metadata."""
        assistant_id = submission.assistant_id
        if assistant_id is None:
            return submission
        submission = replace(submission, assistant_id=None)
        itself = self.itself(assistant_id)
        if itself is not None:
            return replace(submission, agent=itself)
        assistant = await self._storage.assistant(assistant_id)
        if assistant is None or assistant.tenant != submission.by.tenant:
            # There may be an agent of this name elsewhere.
            return replace(submission, agent=assistant_id)
        metadata = {**assistant.metadata, **submission.metadata}
        check_metadata("run", metadata)
        limit = submission.recursion_limit
        return replace(
            submission,
            agent=assistant.agent,
            given=beneath(assistant, submission.given),
            metadata=metadata,
            recursion_limit=assistant.config.get(LIMIT) if limit is None else limit,
            requested_by=each_once(submission.requested_by, assistant.requested_by),
        )

    async def again(self, given: RunInput, fields: Collection[str]) -> tuple[RunInput, list[str]]:
        """The input of something that was begun with an assistant, with what that sets now under
        these fields, which are new; and the people whose words those are. Without one, or with one
        that is gone, it is as it was given."""
        if given.assistant is None or not fields:
            return given, []
        assistant = await self._storage.assistant(given.assistant["assistant_id"])
        if assistant is None:
            return given, []
        return beneath(assistant, given, fields), [*assistant.requested_by]


def no_assistant(assistant_id: str) -> NotFound:
    """The error for an assistant that there is not, or that is not seen."""
    return NotFound(f"There is no assistant '{assistant_id}'.")


def _exists(assistant_id: str) -> Conflict:
    return Conflict(f"There is an assistant '{assistant_id}' already.")


def _fields(settings: Settings) -> JsonObject:
    return {name: getattr(settings, name) for name in SET}
