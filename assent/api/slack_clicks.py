"""The clicks and dialogs of people in Slack, as Slack sends them, and the dialogs that it is asked
to open."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

import msgspec
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from assent.api import link_answers
from assent.api.json_body import read_json_text
from assent.api.schemas import storable
from assent.core.approval import Approval, ApprovalKind
from assent.core.decisions import Approve, Decision, Edit, Reject, Respond
from assent.core.errors import InvalidDecision, InvalidRequest
from assent.core.json import Json, JsonObject
from assent.core.question_text import NotUnderstood
from assent.core.text import clipped, pretty
from assent.notify.slack_cards import ACTION, Shown, plain

MAX_TITLE = 24
MAX_LABEL = 2_000
MAX_TYPED = 3_000
"""What Slack takes of a dialog's title, of a label, and of what is typed into an input."""

MAX_SAID = 1_000
"""The most characters of a sentence that is shown in a dialog."""

MAX_INPUTS = 90
"""The most inputs of a dialog: it takes a hundred blocks."""

TYPED = "typed"
"""The name of the only input of a dialog, and of what was typed into each."""

CLICK = "block_actions"
DIALOG = "view_submission"


class User(msgspec.Struct, frozen=True):
    """Whoever clicked; the `team_id` is that of their own workspace."""

    id: str
    team_id: str = ""


class _Team(msgspec.Struct, frozen=True):
    id: str = ""


class _Action(msgspec.Struct, frozen=True):
    action_id: str
    value: str = ""


class Place(msgspec.Struct, frozen=True):
    """The message in which somebody clicked."""

    channel_id: str = ""
    message_ts: str = ""


class _State(msgspec.Struct, frozen=True):
    values: dict[str, dict[str, JsonObject]] = {}


class _View(msgspec.Struct, frozen=True):
    callback_id: str = ""
    private_metadata: str = ""
    state: _State = _State()


class Interaction(msgspec.Struct, frozen=True):
    """What somebody did in Slack. Of what Slack says, this is what counts here."""

    type: str
    user: User
    team: _Team | None = None
    trigger_id: str = ""
    response_url: str = ""
    actions: tuple[_Action, ...] = ()
    container: Place = Place()
    view: _View = _View()

    @property
    def team_id(self) -> str:
        """The workspace of whoever clicked, which in a shared channel is not always the app's."""
        return self.user.team_id or (self.team.id if self.team is not None else "")

    @property
    def kind(self) -> str:
        """The type of decision that the button, or the dialog, is for; "" if it is none of ours."""
        id = self.view.callback_id if self.type == DIALOG else self._button.action_id
        return id.removeprefix(ACTION) if id.startswith(ACTION) else ""

    @property
    def shown(self) -> Shown:
        """What was shown. Raises `InvalidRequest`."""
        value = self.view.private_metadata if self.type == DIALOG else self._button.value
        try:
            return msgspec.json.decode(value, type=Shown)
        except msgspec.DecodeError:
            raise InvalidRequest(
                "The button's value is not one that this server gave it."
            ) from None

    @property
    def typed(self) -> dict[str, str]:
        """What was typed into each input of a dialog."""
        return {
            name: str(inputs.get(TYPED, {}).get("value") or "")
            for name, inputs in self.view.state.values.items()
        }

    @property
    def _button(self) -> _Action:
        return self.actions[0] if self.actions else _Action("")


def interaction_in(body: bytes) -> Interaction:
    """What the body of a signed request says. Raises `InvalidRequest`."""
    try:
        (payload,) = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)["payload"]
        return msgspec.json.decode(payload, type=Interaction)
    except (ValueError, KeyError, msgspec.DecodeError):
        raise InvalidRequest("The body is no interaction as Slack sends them.") from None


# ── dialogs ───────────────────────────────────────────────────────────────────────────────────────


def dialog(approval: Approval, kind: str) -> JsonObject:
    """The dialog for this type of decision on what the approval asks now."""
    titles = {"edit": "Edit and approve", "reject": "Reject", "respond": "Answer"}
    shown = Shown(approval.approval_id, approval.current_digest)
    about = approval.tool or approval.node or "A question"
    return {
        "type": "modal",
        "callback_id": f"{ACTION}{kind}",
        "private_metadata": msgspec.json.encode(shown).decode(),
        "title": plain(titles[kind], MAX_TITLE),
        "submit": plain(titles[kind], MAX_TITLE),
        "close": plain("Close"),
        "blocks": [{"type": "section", "text": plain(about)}, *_inputs(approval, kind)],
    }


def sentence(text: str) -> JsonObject:
    """A dialog that only says something."""
    return {
        "type": "modal",
        "title": plain("Assent"),
        "close": plain("Close"),
        "blocks": [{"type": "section", "text": plain(clipped(text, MAX_SAID))}],
    }


def first_input(approval: Approval, kind: str) -> str:
    """The name of the dialog's first input, below which Slack shows what is wrong."""
    is_form = kind == "respond" and approval.kind is ApprovalKind.INPUT
    return link_answers.inputs_in_words(approval)[0].name if is_form else TYPED


def _inputs(approval: Approval, kind: str) -> list[JsonObject]:
    if kind == "edit":
        return [_input(TYPED, "The complete arguments, as JSON", pretty(approval.current_args))]
    if kind == "reject":
        return [_input(TYPED, "The reason, which the model reads", needed=False)]
    if approval.kind is not ApprovalKind.INPUT:
        return [_input(TYPED, "The result, in place of the tool's")]
    asked = link_answers.inputs_in_words(approval)
    if len(asked) > MAX_INPUTS:
        raise InvalidRequest("The question has too many fields for a dialog. Answer with a key.")
    return [_input(each.name, each.label, needed=each.needed) for each in asked]


def _input(name: str, label: str, typed: str = "", *, needed: bool = True) -> JsonObject:
    written = {"initial_value": typed} if typed else {}
    return {
        "type": "input",
        "block_id": name,
        "optional": not needed,
        "label": plain(label, MAX_LABEL),
        "element": {
            "type": "plain_text_input",
            "action_id": TYPED,
            "multiline": True,
            "max_length": MAX_TYPED,
            **written,
        },
    }


def decision_of(kind: str, approval: Approval, typed: Mapping[str, str]) -> Decision:
    """The decision that was clicked, or typed into a dialog. Raises `InvalidRequest`."""
    if kind == "approve":
        return Approve()
    if kind == "edit":
        return Edit(args=_args(typed.get(TYPED, "")))
    if kind == "reject":
        return Reject(message=typed.get(TYPED, ""))
    if kind != "respond":
        raise InvalidRequest("There is no such button here.")
    if approval.kind is not ApprovalKind.INPUT:
        return Respond(message=typed.get(TYPED, ""))
    try:
        return Respond(message=link_answers.read(approval, typed))
    except NotUnderstood as problem:
        raise InvalidDecision(str(problem)) from None


def _args(text: str) -> dict[str, Json]:
    try:
        args = storable(read_json_text(text, "text"))
    except HTTPException as error:
        raise InvalidDecision(str(error.detail)) from None
    except (ValueError, ValidationError) as error:
        raise InvalidDecision(f"The text cannot be taken: {error}.") from None
    if not isinstance(args, dict):
        raise InvalidDecision('The arguments are a JSON object, as in {"amount": 1}.')
    return args
