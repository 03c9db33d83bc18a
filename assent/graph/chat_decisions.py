"""Decide by a chat message: the words that approve, for agents with `chat_decisions=True`."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import HumanMessage

from assent.core.decisions import Approve, Decision, Reject

CONSENT = frozenset(
    {
        "yes",
        "y",
        "ok",
        "okay",
        "approve",
        "approved",
        "confirm",
        "confirmed",
        "accept",
        "accepted",
        "go ahead",
        "proceed",
        "do it",
    }
)
"""A message approves only if the whole of it is one of these."""


def decision_from_message(text: str) -> Decision:
    """Approve if the whole message is a word of consent; otherwise reject, with the message as the
    reason.

    Case, surrounding space and closing `.` or `!` do not matter; anything else does: "not approved"
    and "I approved of the old one" reject.
    """
    whole = " ".join(text.casefold().split()).rstrip(".!")
    return Approve() if whole in CONSENT else Reject(text.strip())


def decision_from_messages(messages: Sequence[HumanMessage]) -> Decision:
    """The decision in all that a person wrote since the question. A word of consent that comes with
    a picture or a file rejects."""
    decision = decision_from_message("\n".join(message.text for message in messages))
    if isinstance(decision, Approve) and any(map(_has_attachment, messages)):
        return Reject(
            "The answer came with an attachment, and only a word of consent by itself approves."
        )
    return decision


def _has_attachment(message: HumanMessage) -> bool:
    return any(block["type"] != "text" for block in message.content_blocks)
