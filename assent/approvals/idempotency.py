"""Idempotency keys: the outcome of a request is stored with its decision or its run, so that
whoever sends the same again gets the same answer, also when the first one was lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from assent.core.access import Owner
from assent.core.approval import Outcome
from assent.core.clock import Clock
from assent.core.digest import call_digest
from assent.core.errors import Conflict, InvalidRequest
from assent.core.json import Json
from assent.core.rows import Answer
from assent.storage.base import Change, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A client's key: the id of the stored answer, its owner, and a digest of the request that it
    came with."""

    answer_id: str
    owner: str
    request_digest: str
    tenant: str | None = None

    @classmethod
    def given(cls, text: str, owner: Owner, path: str, body: Json) -> Key:
        """The key that this owner sent as text, with this request."""
        of = {"owner": owner.name, "key": text}
        if owner.tenant is not None:
            of["tenant"] = owner.tenant
        return cls(
            answer_id=call_digest("answer", of),
            owner=owner.name,
            tenant=owner.tenant,
            request_digest=call_digest(path, body),
        )

    def part(self, name: str) -> Key:
        """The key of one part of the request."""
        return replace(self, answer_id=call_digest("answer", {"of": self.answer_id, "part": name}))

    def answer(self, outcome: Outcome | None, now: datetime) -> Answer:
        """The row that stores the outcome; without one, the row that claims the key."""
        return Answer(
            answer_id=self.answer_id,
            owner=self.owner,
            tenant=self.tenant,
            thread_id=outcome.thread_id if outcome else "",
            request_digest=self.request_digest,
            created_at=now,
            outcome=outcome,
        )


async def stored_outcome(storage: Storage, key: Key | None) -> Outcome | None:
    """The outcome of the same request under this key; None if there is none yet. Raises
    `InvalidRequest` if the key came with another request."""
    answer = await storage.answer(key.answer_id) if key else None
    if answer is None or key is None:
        return None
    if answer.request_digest != key.request_digest:
        raise InvalidRequest(
            "This Idempotency-Key was sent with another request before. "
            "Send a new one, or that request again."
        )
    return answer.outcome


async def claim(storage: Storage, clock: Clock, key: Key) -> None:
    """Reserve the key for this request, whose parts are decided one by one. Raises `InvalidRequest`
    if it came with another request."""
    await stored_outcome(storage, key)
    try:
        await storage.commit(Change(rows=(key.answer(None, clock.now()),)))
    except Conflict:
        await stored_outcome(storage, key)


def is_about_a_key(conflict: Conflict) -> bool:
    """True if somebody else has stored an answer under the same key."""
    return conflict.details.get("kind") == "answer"
