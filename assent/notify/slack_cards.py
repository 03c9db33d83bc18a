"""Messages in Slack that show how an approval stands, with buttons as long as it is pending.

Nothing that a model, a tool or a person wrote is read as Slack's markup: no link, no mention and no
formatting comes of it. The button's value holds the digest of what the message shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

import msgspec

from assent.core.approval import Approval, ApprovalKind, ApprovalStatus
from assent.core.clock import time_text
from assent.core.decisions import decision_type
from assent.core.json import Json, JsonObject
from assent.core.policy import Risk
from assent.core.text import clipped, look_alike_warnings, pretty, shortened, unseen, visible
from assent.notify.audit_head import AUDIT_HEAD
from assent.notify.notifier import Message
from assent.notify.texts import MAX_PREVIEW_CHARACTERS, MAX_TEXT_CHARACTERS, texts

ACTION = "assent_"
"""The beginning of the ids of our buttons. The rest is the type of the decision."""

MAX_TITLE = 150
MAX_FIELD = 300
MAX_PLAIN = 2_900
"""The most characters of a header, of a field, and of any other text. Slack takes 150, 2,000 and
3,000."""

_STYLES = {"approve": "primary", "reject": "danger"}

_OUTCOMES = {
    ApprovalStatus.PENDING: "Approval needed",
    ApprovalStatus.APPROVED: "Approved",
    ApprovalStatus.EDITED: "Approved with other arguments",
    ApprovalStatus.REJECTED: "Rejected",
    ApprovalStatus.RESPONDED: "Answered",
    ApprovalStatus.CANCELLED: "No longer needed",
    ApprovalStatus.EXPIRED: "Nobody decided in time",
    ApprovalStatus.SUPERSEDED: "No longer valid",
}


class Shown(msgspec.Struct, frozen=True):
    """The value of a button: the approval, and the digest of what was shown."""

    approval_id: str
    digest: str


def card(approval: Approval) -> JsonObject:
    """The message that shows how the approval stands."""
    title = f"{_OUTCOMES[approval.status]}: {_line(approval.tool or approval.node or 'a question')}"
    blocks = [
        {"type": "header", "text": plain(title, MAX_TITLE)},
        {"type": "section", "fields": [plain(each, MAX_FIELD) for each in _facts(approval)]},
        *_content(approval),
    ]
    if approval.is_pending:
        blocks += _asking(approval)
    facts = f"Approval {approval.approval_id}, SHA-256 {approval.current_digest}"
    blocks.append({"type": "context", "elements": [plain(facts)]})
    return {**_message(title), "blocks": blocks}


def notice(message: Message) -> JsonObject:
    """The message as a line: of an approval only that something is to be done, since what it asks
    is shown above."""
    title, body = texts(message)
    return _message(f"{title}\n{body}" if message.type == AUDIT_HEAD else title)


def offered(approval: Approval) -> tuple[str, ...]:
    """The decisions that the message offers. What it cannot show whole, nobody approves there, and
    no question is answered of which the end was not seen. Nobody in Slack is of a tenant."""
    if approval.tenant is not None:
        return ()
    types = [each for each in ("approve", "edit", "respond", "reject") if each in approval.allowed]
    if not shows_whole(approval):
        is_question = approval.kind is ApprovalKind.INPUT
        of_the_whole = ("approve", "edit", "respond") if is_question else ("approve", "edit")
        types = [each for each in types if each not in of_the_whole]
    if not isinstance(approval.current_args, dict):
        types = [each for each in types if each != "edit"]
    return tuple(types)


def shows_whole(approval: Approval) -> bool:
    """True if the message has all of what is asked."""
    return len(pretty(approval.current_args)) <= MAX_TEXT_CHARACTERS


def plain(text: str, most: int = MAX_PLAIN) -> JsonObject:
    """A text that Slack shows as it is."""
    return {"type": "plain_text", "text": clipped(text, most) or "–", "emoji": False}


def escaped(text: str) -> str:
    """The text where Slack would read markup: it has no link and no mention."""
    return escape(visible(text), quote=False)


def _message(text: str) -> JsonObject:
    # Slack would fetch the pages that a text names, and tell their hosts what a model wrote.
    return {
        "text": escaped(text),
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _facts(approval: Approval) -> Iterator[str]:
    """At most ten, as Slack takes no more."""
    yield f"Agent: {_line(approval.agent)}"
    yield f"Asked by: {_line(approval.requested_by or (approval.owner,))}"
    if approval.risk != Risk.LOW:
        yield f"Risk: {approval.risk}"
    if approval.is_pending:
        who = [
            *approval.names,
            *approval.assignees,
            *(f"the role {role}" for role in approval.roles),
        ]
        yield f"For: {_line(who) or 'everybody who may decide'}"
        quorum = approval.policy.quorum
        if quorum > 1 or approval.agreeing:
            agreed = [vote.by for vote in approval.agreeing]
            yield f"Agreed: {len(agreed)} of {quorum}{_of(agreed)}"
    if approval.expires_at is not None:
        yield f"Until: {time_text(approval.expires_at)[:19]} UTC"
    if approval.edit is not None:
        yield f"Edited by: {_line(approval.edit.by)}"
    if approval.decision is not None:
        yield f"Decision: {decision_type(approval.decision)}"
    if approval.decided_by:
        yield f"By: {_line(approval.decided_by)}"


def _of(names: Iterable[str]) -> str:
    listed = _line(tuple(names))
    return f" ({listed})" if listed else ""


def _content(approval: Approval) -> Iterator[JsonObject]:
    args = approval.current_args
    if approval.preview is not None and approval.is_pending:
        is_node = approval.kind is ApprovalKind.NODE
        what = (
            "The state that it is about to see (from the graph)"
            if is_node
            else "What it would do (from the tool)"
        )
        yield _quoted(what, approval.preview, MAX_PREVIEW_CHARACTERS)
    if args is not None:
        yield _quoted("Arguments (written by the model)", args, MAX_TEXT_CHARACTERS)
    for warning in _warnings(approval):
        yield {"type": "section", "text": plain(f"Careful: {warning}")}


def _warnings(approval: Approval) -> list[str]:
    args = approval.current_args
    found = []
    if hidden := unseen(args):
        found.append(f"{hidden} hidden character(s) in them are shown as \\u….")
    if note := approval.conversation.get("warning"):
        found.append(note)
    if like := look_alike_warnings(args, "args"):
        found.append("\n".join(like))
    return found


def _quoted(title: str, value: Json, most: int) -> JsonObject:
    """The value as JSON, in a block in which Slack reads no markup."""
    text = pretty(value)
    if len(text) > most:
        text = shortened(text, most)
    return {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_section", "elements": [{"type": "text", "text": f"{title}:"}]},
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": text}]},
        ],
    }


def _asking(approval: Approval) -> Iterator[JsonObject]:
    if approval.tenant is not None:
        text = "It is of a tenant, whose people decide it with a key: nobody in Slack is one."
        yield {"type": "section", "text": plain(text)}
    elif not shows_whole(approval):
        text = "It is too long to be shown here whole, so it is decided with a key."
        yield {"type": "section", "text": plain(text)}
    value = msgspec.json.encode(Shown(approval.approval_id, approval.current_digest)).decode()
    buttons = []
    for kind in offered(approval):
        button: JsonObject = {
            "type": "button",
            "action_id": f"{ACTION}{kind}",
            "text": plain(_label(approval, kind)),
            "value": value,
        }
        if kind in _STYLES:
            button["style"] = _STYLES[kind]
        buttons.append(button)
    if buttons:
        yield {"type": "actions", "elements": buttons}


def _label(approval: Approval, kind: str) -> str:
    """The text of a button: those that open a dialog end in an ellipsis."""
    if kind == "respond" and approval.kind is not ApprovalKind.INPUT:
        return "Answer instead…"
    return {"approve": "Approve", "edit": "Edit…", "reject": "Reject…", "respond": "Answer…"}[kind]


def _line(value: str | Iterable[str]) -> str:
    text = value if isinstance(value, str) else ", ".join(value)
    return visible(text[:MAX_FIELD], keep="")
