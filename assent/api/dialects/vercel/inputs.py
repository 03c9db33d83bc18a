"""What clients of the AI SDK send: all messages of their conversation, of which the last one is
new, or answers what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from assent.core.approval import Approval, ApprovalStatus
from assent.core.blocks import check_blocks
from assent.core.decisions import DECISION_TYPES, Edit, Respond
from assent.core.errors import InvalidInput, InvalidRequest
from assent.core.json import Json, JsonObject

MEDIA = ("image", "audio", "video")

IGNORED = ("step-start", "reasoning", "source-url", "source-document")
"""The parts of a person's message that nobody has written. So are those of data."""


# ── messages ──────────────────────────────────────────────────────────────────────────────────────


def said_last(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """The messages of the person behind the last one of the model's, as LangChain's. They keep
    their ids. Raises `InvalidInput` for what no agent takes."""
    said: list[JsonObject] = []
    for place in range(len(messages), 0, -1):
        message, where = messages[place - 1], f"The message {place}"
        role = message.get("role")
        if role == "assistant":
            break
        if role != "user":
            raise InvalidInput(
                f"{where} has the role {role!r:.40}. Send what the person says, as 'user': the "
                "agent has instructions of its own."
            )
        said.insert(0, _human(message, where))
    return said


def _human(message: JsonObject, where: str) -> JsonObject:
    id = message.get("id")
    if not isinstance(id, str) or not id:
        raise InvalidInput(f"{where} has no 'id'.")
    blocks = [*_blocks(message.get("parts"), where)]
    if not blocks:
        raise InvalidInput(f"{where} has no text and no file in its 'parts'.")
    check_blocks(blocks)
    is_text = len(blocks) == 1 and blocks[0]["type"] == "text"
    return {"role": "user", "id": id, "content": blocks[0]["text"] if is_text else blocks}


def _blocks(parts: Json, where: str) -> Iterator[JsonObject]:
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise InvalidInput(f"{where} has no list of 'parts', each an object.")
    for part in parts:
        kind = part.get("type")
        if kind == "text":
            yield {"type": "text", "text": part.get("text")}
        elif kind == "file":
            yield _file(part, where)
        elif not (kind in IGNORED or (isinstance(kind, str) and kind.startswith("data-"))):
            raise InvalidInput(f"{where} has a part {kind!r:.40}. Send texts and files.")


def _file(part: JsonObject, where: str) -> JsonObject:
    if part.get("providerReference"):
        raise InvalidInput(
            f"{where} has a file that a provider keeps: send its 'url', and no 'providerReference'."
        )
    media_type = part.get("mediaType")
    top, _, sub = media_type.partition("/") if isinstance(media_type, str) else ("", "", "")
    block: JsonObject = {"type": top if top in MEDIA else "file", "url": part.get("url")}
    if sub not in ("", "*"):
        block["mime_type"] = media_type
    if part.get("filename"):
        block["filename"] = part["filename"]
    return block


# ── decisions ─────────────────────────────────────────────────────────────────────────────────────


class Answered(NamedTuple):
    """The message of the model's that answers are in, and those: decisions in our own words, by
    the ids of approvals."""

    message_id: str
    decisions: Mapping[str, JsonObject]


def answered(
    messages: Sequence[JsonObject], message_id: str | None, beside: Mapping[str, Json]
) -> Answered | None:
    """The answers in the message of the model's that a client goes on with: the one it names, or
    else the last one, if nobody has said anything since. None if there is no such message.

    Those `beside` the messages are by the same ids, and say more than a yes or no can. Raises
    `InvalidRequest` for what is no answer, or answers one thing in two ways.
    """
    named = [each for each in messages if each.get("id") == message_id] if message_id else []
    found = (named or [*messages])[-1:]
    if not found or found[0].get("role") != "assistant":
        return None
    listed = found[0].get("parts")
    parts = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    digests = dict(_digests(parts))
    decisions: JsonObject = {}
    for approval_id, decision in _decisions(parts):
        if decisions.setdefault(approval_id, decision) != decision:
            raise _two_answers(approval_id)
    for approval_id, decision in beside.items():
        is_ours = isinstance(decision, dict) and decision.get("type") in DECISION_TYPES
        answer = decisions.get(approval_id, {})
        if answer.get("type") == "reject" and not (is_ours and decision["type"] == "reject"):
            raise _two_answers(approval_id)
        is_shown = is_ours and approval_id in digests
        shown = {"digest": digests[approval_id]} if is_shown else {}
        decisions[approval_id] = {**shown, **decision} if shown else decision
    return Answered(str(found[0].get("id") or ""), decisions)


def _digests(parts: Sequence[JsonObject]) -> Iterator[tuple[str, Json]]:
    """The digests of what was shown, by the ids of approvals."""
    for part in parts:
        asked, shown = part.get("approval"), None
        if isinstance(asked, dict):
            id, shown = asked.get("id"), asked.get("descriptor")
        elif part.get("type") == "data-interrupt":
            id, shown = part.get("id"), part.get("data")
        if isinstance(shown, dict) and isinstance(id, str) and "digest" in shown:
            yield id, shown["digest"]


def _two_answers(approval_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"The answers to '{approval_id:.100}' are two, and differ. Nothing was decided: send one."
    )


def _decisions(parts: Sequence[JsonObject]) -> Iterator[tuple[str, JsonObject]]:
    for part in parts:
        if part.get("state") != "approval-responded":
            continue
        approval = part.get("approval")
        if not isinstance(approval, dict) or not isinstance(approval.get("id"), str):
            raise InvalidRequest("A part is 'approval-responded' and has no 'approval' with an id.")
        yield approval["id"], _decision(approval)


def _decision(approval: JsonObject) -> JsonObject:
    approved, reason = approval.get("approved"), approval.get("reason")
    if not isinstance(approved, bool):
        raise InvalidRequest(
            f"The answer to '{approval['id']:.100}' is neither true nor false: send 'approved'."
        )
    decision: JsonObject = {"type": "approve"} if approved else {"type": "reject"}
    if reason and not approved:
        decision["message"] = reason
    descriptor = approval.get("descriptor")
    if isinstance(descriptor, dict) and "digest" in descriptor:
        decision["digest"] = descriptor["digest"]
    return decision


def says_the_same(approval: Approval, decision: Json) -> bool:
    """True if the approval is decided, and a client shows that as this decision: whoever has read
    how it was decided sends it back, and so does whoever does not know that they have decided."""
    word = decision.get("type") if isinstance(decision, dict) else None
    if approval.is_pending:
        return False
    made = approval.decision
    if isinstance(made, Respond) and word is None:
        return bool(made.message == decision)
    if isinstance(made, Respond) and word == "respond":
        return bool(made.message == decision.get("message"))
    if isinstance(made, Edit) and word == "edit":
        return bool(made.args == decision.get("args"))
    return word in _SHOWN_AS.get(approval.status, ("reject",))


_SHOWN_AS: Mapping[ApprovalStatus, tuple[str, ...]] = {
    ApprovalStatus.APPROVED: ("approve",),
    ApprovalStatus.EDITED: ("approve",),
    ApprovalStatus.RESPONDED: ("approve",),
}
"""The decisions that an approval with this status is shown as, which name neither its arguments nor
its answer; the others as rejected."""
