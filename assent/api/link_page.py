"""The page behind a link: what is asked, exactly, and a button. Plain HTML, which runs nothing,
loads nothing and can be put into no frame.

Whatever somebody else wrote is escaped twice: for HTML, and so that no character is there that is
not seen.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from fastapi.responses import HTMLResponse

from assent.approvals.rows import question_of
from assent.core.rows import Approval, ApprovalStatus, Link
from assent.core.text import pretty, unseen, visible

Json = Any
"""Any JSON value."""

MAX_REASON_CHARACTERS = 4_000

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; margin: 1.5rem 0 .3rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 }
dt { color: #555 } dd { margin: 0; overflow-wrap: anywhere }
pre { background: #f4f4f4; border-left: 4px solid #999; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
pre.model { border-color: #a60 } .who { color: #a60; font-weight: normal } mark { background: #ffd24d; color: #000 }
.careful { background: #fff3cd; border: 1px solid #a60; padding: .6rem .8rem }
textarea { width: 100%; box-sizing: border-box; font: inherit }
button { font: inherit; padding: .6rem 1.4rem; margin: 1rem 1rem 0 0; cursor: pointer }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
    # No other site learns the link. 'no-referrer' would have browsers hide from the server, too,
    # that its own form is posted.
    "Referrer-Policy": "same-origin",
}

_LABELS = {"approve": "Approve", "reject": "Reject"}

_DONE = {
    ApprovalStatus.APPROVED: "It is approved, and goes on.",
    ApprovalStatus.REJECTED: "It is rejected, and will not run.",
    ApprovalStatus.PENDING: "Your vote is counted. Others still have to agree.",
}


def asking_page(approval: Approval, link: Link) -> HTMLResponse:
    """What is asked, and the buttons."""
    tool = visible(approval.tool or approval.node or "a question", keep="")
    return _page(
        f"Approval needed: {tool}",
        "".join([_facts(approval, link), *_content(approval), _form(link)]),
        200,
    )


def decided_page(approval: Approval, decision: str) -> HTMLResponse:
    """What came of it."""
    said = _DONE.get(approval.status, f"The approval is '{approval.status}'.")
    return _page(
        "Thank you",
        f"<p>You decided: {escape(decision)}. {escape(said)} You can close this page.</p>",
        200,
    )


def refusing_page(title: str, sentence: str, status: int) -> HTMLResponse:
    """Why nothing was decided."""
    return _page(title, f"<p>{escape(sentence)}</p>", status)


def _page(title: str, body: str, status: int) -> HTMLResponse:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def _facts(approval: Approval, link: Link) -> str:
    question = question_of(approval)
    facts = [
        ("Tool", approval.tool),
        ("Agent", approval.agent),
        ("Step", approval.node if not approval.tool else ""),
        ("Asked for", approval.requested_by or approval.owner),
        ("Asked at", _time(approval.requested_at)),
        ("Decide until", _time(min(link.expires_at, approval.expires_at or link.expires_at))),
        ("Risk", approval.risk),
        ("Changed by", question.edit.by if question.edit else ""),
        ("Thread", approval.thread_id),
        ("SHA-256", question.asked_digest),
        ("You are", link.recipient),
    ]
    rows = (
        f"<dt>{label}</dt><dd>{_marked(visible(value, keep=''))}</dd>"
        for label, value in facts
        if value
    )
    return f"<dl>{''.join(rows)}</dl>"


def _content(approval: Approval) -> Sequence[str]:
    question = question_of(approval)
    written_by = (
        "written by the model"
        if question.edit is None
        else f"changed by {visible(question.edit.by, keep='')}"
    )
    shown = approval.shown
    parts = [_part("Arguments", question.asked_args, f"{written_by}; exactly these will run")]
    if approval.preview is not None:
        parts.append(_part("Preview", approval.preview, "from the tool"))
    if shown.get("asked"):
        parts.append(_part("What was asked of the agent", shown["asked"], "written by a person"))
    if shown.get("model_wrote"):
        parts.append(_part("What the agent wrote", shown["model_wrote"], "written by the model"))
    hidden = sum(
        map(unseen, (question.asked_args, approval.preview, *shown.values(), approval.tool))
    )
    if hidden:
        parts.insert(
            0,
            f'<p class="careful">Careful: {hidden} character(s) in this would not be seen, or would change how the rest is seen. They are '
            "shown as <mark>\\u….</mark></p>",
        )
    return parts


def _part(title: str, value: Json, who: str) -> str:
    text = visible(value.replace("\r\n", "\n")) if isinstance(value, str) else pretty(value)
    kind = ' class="model"' if "model" in who else ""
    return f'<h2>{escape(title)} <span class="who">({escape(who)})</span></h2><pre{kind}>{_marked(text)}</pre>'


_ESCAPE = re.compile(r"(\\\\|\\u[0-9a-f]{4})")


def _marked(text: str) -> str:
    """The text as HTML, with what is shown by its number marked. Two backslashes are one that
    somebody wrote."""
    return "".join(
        f"<mark>{part}</mark>" if part.startswith("\\u") and len(part) == 6 else escape(part)
        for part in _ESCAPE.split(text)
    )


def _form(link: Link) -> str:
    reason = (
        f'<h2><label for="message">Why, if you reject (the model is told)</label></h2>'
        f'<textarea id="message" name="message" rows="3" maxlength="{MAX_REASON_CHARACTERS}"></textarea>'
        if "reject" in link.decisions
        else ""
    )
    buttons = "".join(
        f'<button name="decision" value="{escape(each)}">{_LABELS[each]}</button>'
        for each in link.decisions
    )
    return f'<form method="post">{reason}<div>{buttons}</div></form>'


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
