"""What a paused run asks, as AG-UI's interrupts, and the answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from assent.api.dialects.questions import Asked
from assent.core.approval import Approval, ApprovalKind
from assent.core.errors import InvalidDecision, NotFound
from assent.core.json import Json, JsonObject, encode_json

_ANSWERS = ("approved", "reason", "editedArgs", "response", "digest")
_ARGS_SHOWN = 300


# ── out ───────────────────────────────────────────────────────────────────────────────────────────


def interrupt_of(asked: Asked, subagent: str = "") -> JsonObject:
    """The interrupt that asks for the approval. `metadata` has what AG-UI has no words for."""
    args, digest, needed = asked.args, asked.digest, ""
    if isinstance(asked, Approval):
        args, digest = asked.current_args, asked.current_digest
        needed = still_needed(asked)
    told: JsonObject = {
        "id": asked.approval_id,
        "reason": _reason(asked),
        "message": " ".join(filter(None, [_question(asked, args), needed])),
        "responseSchema": _response_schema(asked, digest),
        "metadata": {
            "kind": str(asked.kind),
            "tool": asked.tool,
            "node": asked.node,
            "args": args,
            "digest": digest,
            "allowed": list(asked.allowed),
            "preview": asked.preview,
        },
    }
    if asked.tool_call_id:
        told["toolCallId"] = asked.tool_call_id
    if asked.expires_at is not None:
        told["expiresAt"] = asked.expires_at
    if subagent:
        told["subagentRunId"] = subagent
    return told


def still_needed(approval: Approval) -> str:
    """A sentence that says who must still decide an approval that several have to agree on, or that
    not everybody may decide; empty for any other."""
    quorum, votes = approval.policy.quorum, len(approval.agreeing)
    people = [*(f"the role {role}" for role in approval.roles), *approval.names]
    people += [name for name in approval.assignees if name not in people]
    if quorum == 1 and not people:
        return ""
    of = f" of {', '.join(people)}" if people else ""
    if quorum == 1:
        return f"It takes one{of}."
    voters = [vote.by for vote in approval.agreeing]
    if not voters:
        return f"It takes {quorum}{of}."
    return f"{', '.join(voters)} agreed, and it takes {quorum - votes} more{of}."


def _reason(asked: Asked) -> str:
    if asked.kind == ApprovalKind.INPUT:
        return "input_required"
    return "tool_call" if asked.tool_call_id else "confirmation"


def _question(asked: Asked, args: Json) -> str:
    preview = asked.preview
    if isinstance(preview, dict) and isinstance(preview.get("description"), str):
        return str(preview["description"])
    if asked.kind == ApprovalKind.INPUT:
        return args if isinstance(args, str) else _shown(args)
    if asked.tool:
        return f"May {asked.tool} be called with {_shown(args)}?"
    return f"May the run go on at '{asked.node}'?"


def _shown(args: Json) -> str:
    text = encode_json(args).decode(errors="replace")
    return text if len(text) <= _ARGS_SHOWN else f"{text[:_ARGS_SHOWN]}…"


def _response_schema(asked: Asked, digest: str) -> JsonObject:
    schema = asked.schema if isinstance(asked.schema, dict) else {}
    if asked.kind == ApprovalKind.INPUT:
        return schema
    properties: JsonObject = {
        "approved": {"type": "boolean"},
        "reason": {"type": "string", "description": "Why not. The model reads it"},
        "digest": {"const": digest, "description": "What was shown"},
    }
    if "edit" in asked.allowed:
        properties["editedArgs"] = schema or {"type": "object"}
    if "respond" in asked.allowed:
        properties["response"] = {"description": "A result in place of the call's"}
    return {"type": "object", "properties": properties, "required": ["approved"]}


# ── in ────────────────────────────────────────────────────────────────────────────────────────────


class Answered(NamedTuple):
    """An entry of `resume`: the id of its interrupt; the payload, if there is one, or that it was
    cancelled."""

    interrupt_id: str
    is_cancelled: bool
    payload: Json | UnsetType = UNSET
    digest: str | None = None


def answer_to(pending: Sequence[Approval], resume: Sequence[Answered]) -> JsonObject:
    """The answers as decisions by the ids of approvals. Raises `NotFound` for an id that no pending
    approval has, and `InvalidDecision` for one that is missing or there twice, or for a payload
    that decides nothing."""
    asked = {approval.approval_id: approval for approval in pending}
    decisions: JsonObject = {}
    for entry in resume:
        approval = asked.get(entry.interrupt_id)
        if approval is None:
            id = entry.interrupt_id
            raise NotFound(f"The interrupt {id} is not pending.", key=id)
        if entry.interrupt_id in decisions:
            raise InvalidDecision(f"'resume' answers the interrupt {entry.interrupt_id} twice.")
        decisions[entry.interrupt_id] = _decision(approval, entry)
    if missing := [id for id in asked if id not in decisions]:
        raise InvalidDecision(
            f"Nothing was decided: 'resume' must answer every open interrupt, and has no answer to "
            f"{', '.join(missing)}."
        )
    return {"decisions": decisions}


def _decision(approval: Approval, entry: Answered) -> JsonObject:
    if entry.is_cancelled:
        return _with_digest({"type": "reject"}, entry.digest)
    if approval.kind is ApprovalKind.INPUT and entry.payload is not UNSET:
        return _with_digest({"type": "respond", "message": entry.payload}, entry.digest)
    return _from_payload(approval.approval_id, entry)


def _from_payload(id: str, entry: Answered) -> JsonObject:
    payload = entry.payload
    if not isinstance(payload, Mapping) or not isinstance(payload.get("approved"), bool):
        raise InvalidDecision(
            f'The payload of the interrupt {id} decides nothing. Send {{"approved": true}}, or '
            '{"approved": false, "reason": "why"}.'
        )
    if unknown := [name for name in payload if name not in _ANSWERS]:
        raise InvalidDecision(
            f"The payload of the interrupt {id} has '{unknown[0]:.100}', which is not known. It "
            f"may have: {', '.join(_ANSWERS)}."
        )
    digest = payload.get("digest")
    if digest is None:
        digest = entry.digest
    edited, response = payload.get("editedArgs"), payload.get("response")
    if (response is not None and payload["approved"]) or (
        edited is not None and not payload["approved"]
    ):
        raise InvalidDecision(
            f"The payload of the interrupt {id} says two things: 'editedArgs' are approved, and a "
            "'response' takes the place of a call that is not."
        )
    if response is not None:
        return _with_digest({"type": "respond", "message": response}, digest)
    if not payload["approved"]:
        reason = payload.get("reason")
        return _with_digest({"type": "reject", "message": reason or ""}, digest)
    if edited is not None:
        return _with_digest({"type": "edit", "args": edited}, digest)
    return _with_digest({"type": "approve"}, digest)


def _with_digest(decision: JsonObject, digest: Json) -> JsonObject:
    return decision if digest is None else {**decision, "digest": digest}
