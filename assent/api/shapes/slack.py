"""What Slack is answered."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class SlackAnswer(TypedDict):
    """What becomes of the dialog that somebody has sent: Slack shows what is wrong below its
    inputs, or another view. Without a body, it is closed."""

    response_action: Literal["errors", "update"]
    errors: NotRequired[dict[str, str]]
    view: NotRequired[dict[str, Any]]
