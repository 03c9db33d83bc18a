"""The page behind a link: exactly what is asked, and a button for each decision.

It is plain HTML that runs no script, loads nothing but its styles and cannot be framed. Texts that
others wrote are escaped twice: as HTML, and so that no invisible character is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape

from fastapi.responses import HTMLResponse

from assent.api import link_answers
from assent.api.access.headers import PAGE
from assent.core.approval import Approval, ApprovalKind, ApprovalStatus
from assent.core.json import Json
from assent.core.question_text import read_question
from assent.core.rows import Link
from assent.core.run_input import GIVEN_EXCERPTS
from assent.core.text import look_alike_warnings, pretty, unseen, visible

MAX_REASON_CHARACTERS = 4_000

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin: 1.5rem 0 .3rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 }
dt { color: #555 }
dd { margin: 0; overflow-wrap: anywhere }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: .8rem;
      background: #f4f4f4; border-left: 4px solid #999 }
pre.text { font: inherit }
pre.model { border-color: #a60 }
.who { color: #a60; font-weight: normal }
mark { background: #ffd24d; color: #000 }
.careful { background: #fff3cd; border: 1px solid #a60; padding: .6rem .8rem }
textarea, input, select { width: 100%; box-sizing: border-box; font: inherit }
form div { display: flex; gap: 1rem; margin: 1rem 0 2rem }
button { font: inherit; font-weight: 600; padding: .7rem; min-width: 9rem; cursor: pointer;
         background: #fff; border: 2px solid; border-radius: .4rem }
button[value=approve], button[value=respond] { color: #176b2c }
button[value=reject] { color: #a3211b }
.details { font-size: .85rem; border-top: 1px solid #ccc; padding-top: 1rem }
@media (max-width: 30rem) { button { flex: 1; min-width: 0 } }
"""

STYLE_FILE = "page.css"
"""The name of its file, beside the links."""

HEADERS = {
    "Content-Security-Policy": PAGE,
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
    # No other site learns the link. 'no-referrer' would also hide from this server that its own
    # form was posted.
    "Referrer-Policy": "same-origin",
}

_OUTCOMES = {
    ApprovalStatus.APPROVED: "It is approved, and the agent continues.",
    ApprovalStatus.REJECTED: "It is rejected, and will not run.",
    ApprovalStatus.RESPONDED: "The agent gets your answer, and continues.",
    ApprovalStatus.PENDING: "Your vote is counted. Others still have to agree.",
}

_BUTTONS = {"approve": "Approve", "reject": "Reject", "respond": "Answer"}


def asking_page(
    approval: Approval, link: Link, *, given: Mapping[str, str] | None = None, problem: str = ""
) -> HTMLResponse:
    """The question, and a button for each decision. If what was `given` is not understood, the
    `problem` says why, and it can be corrected."""
    is_question = approval.kind is ApprovalKind.INPUT
    title = f"Approval needed: {visible(approval.tool or approval.node, keep='')}"
    if is_question:
        title = "A question for you"
    expires_at = min(link.expires_at, approval.expires_at or link.expires_at)
    facts = {
        "You are": link.recipient,
        "Agent": approval.agent,
        "Requested by": ", ".join(approval.requested_by) or approval.owner,
        "Risk": approval.risk,
        "Agreed so far": _agreed(approval),
        "Decide until": _time(expires_at),
    }
    details = {
        "Requested at": _time(approval.requested_at),
        "Thread": approval.thread_id,
        "SHA-256": approval.current_digest,
    }
    form = _form(approval, link, given or {}, problem)
    body = f"{_list(facts)}{_content(approval)}{form}{_list(details, 'details')}"
    return _page(title, body, 422 if problem else 200)


def decided_page(approval: Approval, decision: str) -> HTMLResponse:
    """The outcome of the decision."""
    outcome = _OUTCOMES.get(approval.status, f"The approval is '{approval.status}'.")
    if approval.is_pending:
        outcome += f" So far: {_agreed(approval)}."
    chosen = _BUTTONS[decision].lower()
    sentences = f"You chose: {chosen}. {outcome} You can close this page."
    return _page("Thank you", f"<p>{escape(sentences)}</p>", 200)


def refusing_page(title: str, sentence: str, status: int) -> HTMLResponse:
    """The reason why nothing was decided."""
    return _page(title, f"<p>{escape(sentence)}</p>", status)


def _page(title: str, body: str, status: int) -> HTMLResponse:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="{STYLE_FILE}"></head>'
        f"<body><h1>{_marked(title)}</h1>{body}</body></html>"
    )
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def _list(facts: dict[str, str], kind: str = "") -> str:
    rows = ""
    for label, value in facts.items():
        if value:
            rows += f"<dt>{label}</dt><dd>{_marked(visible(value, keep=''))}</dd>"
    return f'<dl class="{kind}">{rows}</dl>'


def _content(approval: Approval) -> str:
    author = "written by the model"
    if approval.edit is not None:
        author = f"changed by {visible(approval.edit.by, keep='')}"
    shown = approval.conversation

    if approval.kind is ApprovalKind.INPUT:
        parts = _question(approval)
    else:
        parts = _part("Arguments", approval.current_args, f"{author}; exactly these will run")
    if approval.preview is not None:
        is_node = approval.kind is ApprovalKind.NODE
        title = "What it is about to see" if is_node else "Preview"
        parts += _part(title, approval.preview, "from the graph" if is_node else "from the tool")
    if shown.get("asked"):
        parts += _part("What was asked of the agent", shown["asked"], "written by a person")
    if shown.get("model_wrote"):
        parts += _part("What the agent wrote", shown["model_wrote"], "written by the model")
    for name in GIVEN_EXCERPTS:
        if shown.get(name):
            parts += _part(f"The {name} that it runs with", shown[name], "given with the message")

    texts = (approval.current_args, approval.preview, *shown.values(), approval.tool)
    careful = ""
    if hidden := sum(map(unseen, texts)):
        careful = (
            f'<p class="careful">Careful: {hidden} character(s) here are invisible, or change how '
            "others look. They are shown as <mark>\\u….</mark></p>"
        )
    named = {"arguments": approval.current_args, "preview": approval.preview, **shown}
    notes = [shown["warning"]] if "warning" in shown else []
    look_alikes = look_alike_warnings({**named, "tool": approval.tool}, "approval")
    for sentence in [*notes, *look_alikes]:
        careful += f'<p class="careful">Careful: {_marked(sentence)}</p>'
    return f"{careful}{parts}"


def _question(approval: Approval) -> str:
    """What a graph asks. Its words may be the model's."""
    question = read_question(approval.current_args, approval.schema)
    parts = "".join(_part("Question", words, "from the agent") for words in question.words)
    parts += "".join(f"<p>{_marked(visible(note))}</p>" for note in question.notes)
    if question.value is not None:
        parts += _part("More" if question.words else "Question", question.value, "from the agent")
    return parts


def _agreed(approval: Approval) -> str:
    """How many have agreed, and who; "" where one person decides."""
    if approval.policy.quorum == 1:
        return ""
    names = ", ".join(vote.by for vote in approval.agreeing)
    count = f"{len(approval.agreeing)} of {approval.policy.quorum}"
    return f"{count} ({names})" if names else count


def _part(title: str, value: Json, author: str) -> str:
    kinds = []
    if "model" in author or "agent" in author:
        kinds.append("model")
    if isinstance(value, str):
        kinds.append("text")
        text = visible(value.replace("\r\n", "\n"))
    else:
        text = pretty(value)
    return (
        f'<h2>{escape(title)} <span class="who">({escape(author)})</span></h2>'
        f'<pre class="{" ".join(kinds)}">{_marked(text)}</pre>'
    )


_ESCAPE = re.compile(r"(\\\\|\\u[0-9a-f]{4})")


def _marked(text: str) -> str:
    """The text as HTML, with escaped characters marked. Two backslashes are one that somebody
    wrote."""
    html = ""
    for part in _ESCAPE.split(text):
        is_escape = part.startswith("\\u") and len(part) == 6
        html += f"<mark>{part}</mark>" if is_escape else escape(part)
    return html


def _form(approval: Approval, link: Link, given: Mapping[str, str], problem: str) -> str:
    answer = reason = buttons = ""
    if "respond" in link.decisions:
        answer = link_answers.inputs(approval, given)
    if problem:
        answer = f'<p class="careful">{_marked(visible(problem))}</p>{answer}'
    if "reject" in link.decisions:
        # A graph that keeps no messages has no place for a reason.
        reader = "" if approval.kind is ApprovalKind.NODE else " (the agent reads it)"
        reason = (
            f'<h2><label for="message">Reason, if you reject{reader}</label></h2>'
            '<textarea id="message" name="message" rows="3" '
            f'maxlength="{MAX_REASON_CHARACTERS}">{escape(given.get("message", ""))}</textarea>'
        )
    for each in link.decisions:
        buttons += f'<button name="decision" value="{escape(each)}">{_BUTTONS[each]}</button>'
    return f'<form method="post">{answer}{reason}<div>{buttons}</div></form>'


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
