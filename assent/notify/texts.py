"""Messages for people, as plain text.

Whatever the model wrote comes last and is labelled, and invisible characters are shown as escapes.
"""

from __future__ import annotations

from assent.core.json import Json, JsonObject
from assent.core.text import (
    is_shortened,
    look_alike_warnings,
    pretty,
    shortened,
    unseen,
    visible,
)
from assent.notify.audit_head import AUDIT_HEAD
from assent.notify.notifier import Message
from assent.notify.outbox import ASKING_EVENTS

MAX_TEXT_CHARACTERS = 2_500
"""The size of the arguments in a text. Chats cut or refuse messages of more than about 4,000."""

MAX_PREVIEW_CHARACTERS = 700
"""The size of the preview in a text. The page behind the link shows all of it."""

_TITLES = {
    "approval_required": "Approval needed",
    "approval_edited": "Approval needed for other arguments",
    "approval_reminder": "Approval still needed",
    "approval_escalated": "Approval needed, as nobody decided in time",
    "approval_delegated": "Approval handed on",
    "approval_decided": "Decided",
    "approval_voted": "A vote",
    "approval_withdrawn": "A vote was taken back",
    "approval_commented": "A comment",
    "approval_expired": "Nobody decided in time",
    "approval_cancelled": "Approval no longer needed",
    "approval_superseded": "Approval no longer valid",
}


def texts(message: Message) -> tuple[str, str]:
    """The title and the body of a message, for people."""
    if message.type == AUDIT_HEAD:
        head = message.data["head"]
        return "Head of the audit chain", f"{head['number']}:{head['mac']}\nat {head['at']}"

    approval, event = message.data.get("approval", {}), message.data.get("event", {})
    subject = approval.get("tool") or event.get("tool") or approval.get("node") or "a question"
    title = f"{_TITLES.get(message.type, message.type)}: {_line(subject)}"

    lines = [f"{label}: {_line(value)}" for label, value in _facts(approval, event) if value]
    if message.link:
        lines.append(f"Decide: {message.link}")
    elif message.page:
        lines.append(f"Page: {message.page}")

    preview = approval.get("preview")
    if preview is not None and message.type in ASKING_EVENTS:
        is_node = approval.get("kind") == "node"
        title_of_preview = "The state that it is about to see (from the graph):"
        lines += [
            "",
            title_of_preview if is_node else "What it would do (from the tool):",
            _indented(preview, MAX_PREVIEW_CHARACTERS),
        ]

    args = event.get("args", approval.get("args"))
    if args is not None:
        block = _indented(args, MAX_TEXT_CHARACTERS)
        lines += ["", "Arguments (written by the model):", block]
    if hidden := unseen(args):
        lines.append(f"Careful: {hidden} hidden character(s) in them are shown as \\u….")
    if note := approval.get("conversation", {}).get("warning"):
        lines.append(f"Careful: {note}")
    lines += [f"Careful: {warning}" for warning in look_alike_warnings(args, "args")]
    return title, "\n".join(lines)


def _facts(approval: JsonObject, event: JsonObject) -> list[tuple[str, Json]]:
    decision = approval.get("decision") or {}
    return [
        ("Agent", approval.get("agent")),
        ("Asked by", approval.get("requested_by")),
        ("Decision", event.get("decision") or decision.get("type")),
        ("By", event.get("by") or approval.get("decided_by")),
        ("To", event.get("to") or event.get("role")),
        ("Reason", event.get("reason")),
        ("Until", event.get("expires_at") or approval.get("expires_at")),
        ("Approval", approval.get("approval_id") or event.get("approval_id")),
        ("Thread", approval.get("thread_id") or event.get("thread_id")),
        ("SHA-256", approval.get("digest")),
    ]


def _line(value: Json) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return visible(text[:300], keep="")


def _indented(value: Json, most: int) -> str:
    text = visible(value if is_shortened(value) else pretty(value))
    if len(text) > most:
        text = shortened(text, most)
    return "\n".join(f"    {line}" for line in text.splitlines())
