"""The page behind a link: nothing in it that somebody else wrote is HTML, is unseen, or poses as
something else."""

from __future__ import annotations

import re
from html import unescape

import pytest

from assent.api.link_page import asking_page
from assent.core.approval import ApprovalKind, Edited, Vote
from assent.core.decisions import Approve
from assent.core.policy import Policy
from assent.core.text import is_unseen
from tests.support.notifications import NOW, PENDING, UNUSED_LINK
from tests.support.rows import replace

ATTACK = "</pre><script>alert(1)</script>\"'><img src=x onerror=y>&lt;"
LINK = replace(UNUSED_LINK, decisions=("approve", "reject"))


def page(**changes: object) -> str:
    return bytes(asking_page(replace(PENDING, **changes), LINK).body).decode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field", ["tool", "agent", "thread_id", "requested_by", "args", "preview", "conversation"]
)
def test_nothing_that_was_written_is_html(field: str) -> None:
    values: dict[str, object] = {
        "conversation": {"asked": ATTACK, "model_wrote": ATTACK},
        "requested_by": ("ann", ATTACK),
    }
    said = page(**{field: values.get(field, ATTACK)})
    assert "<script>" not in said
    assert "<img" not in said
    assert "</pre>&lt;script" not in said
    assert "<script>alert(1)</script>" in unescape(said)


@pytest.mark.parametrize(
    "char", ["\u202e", "\u2066", "\u200b", "\ufeff", "\x1b", "\x00", "\x9b", "\u3164"], ids=ascii
)
def test_what_would_not_be_seen_is_shown_and_flagged(char: str) -> None:
    said = page(
        args={"to": f"alice{char}bob", f"k{char}": 1},
        preview=[char],
        conversation={"model_wrote": char},
    )
    assert not any(is_unseen(each) for each in said.replace("\n", ""))
    assert f"<mark>\\u{ord(char):04x}</mark>" in said
    assert "Careful: 4 character(s)" in said


def test_what_somebody_wrote_to_look_like_that_is_not_marked() -> None:
    said = page(args={"to": "C:\\u202e"})
    assert "\\\\u202e" in said
    assert "<mark>" not in said
    assert "Careful" not in said


def test_what_the_model_wrote_is_marked_as_such() -> None:
    said = page(conversation={"asked": "Pay Bob.", "model_wrote": "I shall pay Bob."})
    parts = dict(re.findall(r"<h2>([^<]+) <span class=\"who\">\(([^)]+)\)</span>", said))
    assert parts == {
        "Arguments": "written by the model; exactly these will run",
        "Preview": "from the tool",
        "What was asked of the agent": "written by a person",
        "What the agent wrote": "written by the model",
    }


def test_letters_that_look_like_others_are_pointed_out() -> None:
    said = unescape(page(args={"to": "p\u0430ypal"}, conversation={"model_wrote": "Оплатить"}))
    warned = re.findall(r'class="careful">([^<]*)<', said)
    assert warned == [
        "Careful: approval.arguments.to has letters that are not what they look like: "
        "U+0430 CYRILLIC SMALL LETTER A like 'a'."
    ]


def test_the_page_says_how_many_have_agreed() -> None:
    assert "Agreed so far" not in page()
    policy = Policy(roles=("lead",), quorum=2)
    assert "<dt>Agreed so far</dt><dd>0 of 2</dd>" in page(policy=policy)
    vote = Vote(by="cy", decision=Approve(), digest=PENDING.digest, at=NOW, voting_right="cy")
    before_the_edit = replace(vote, by="dee", digest="1" * 64)
    said = page(policy=policy, votes=(before_the_edit, vote))
    assert "<dt>Agreed so far</dt><dd>1 of 2 (cy)</dd>" in said


def test_what_a_step_is_about_to_see_is_marked_as_the_graphs() -> None:
    said = page(kind=ApprovalKind.NODE, tool="", preview={"state": {"notes": "The news."}})
    assert 'What it is about to see <span class="who">(from the graph)</span>' in said
    assert "The news." in said
    assert "Reason, if you reject</label>" in said


def test_after_an_edit_the_page_shows_what_runs_now() -> None:
    edited = Edited(args={"amount": 1}, digest="1" * 64, by="ann", at=NOW)
    said = unescape(page(edit=edited))
    assert '"amount": 1\n' in said.replace("}", "\n")
    assert "12.5" not in said
    assert "1" * 64 in said
    assert "changed by ann" in said
