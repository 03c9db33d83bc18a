"""Slack: approvals as messages with buttons, which always show how things stand.

A message is made from the approval as it is when it is delivered, and not as it was when its event
was committed. So it does not matter if a delivery is repeated or comes late: the message is brought
up to date. Where it is in Slack is kept with the notification that posted it, for as long as its
approval is pending.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import orjson

from assent.core.approval import Approval
from assent.core.clock import Clock
from assent.core.environment import value_of
from assent.core.errors import ConfigurationError, Tampered
from assent.core.json import Json, JsonObject, encode_json
from assent.core.rows import Notification
from assent.notify.audit_head import AUDIT_HEAD
from assent.notify.endpoints import Endpoint
from assent.notify.notifier import Message, NotDelivered, Receipt
from assent.notify.outbox import ASKING_EVENTS, RECEIPT
from assent.notify.reaching import Answer, Destination, NotReached, Reach
from assent.notify.slack_cards import card, escaped, notice
from assent.storage.base import Storage, all_rows

if TYPE_CHECKING:
    from slack_sdk.signature import SignatureVerifier

API = "https://slack.com/api/"

MAX_ANSWER_BYTES = 256 * 1024
"""Slack repeats what was posted in its answer."""

GONE = frozenset(
    {"message_not_found", "channel_not_found", "cant_update_message", "edit_window_closed"}
)
"""Slack's errors for a message that is there no more, or that nobody can bring up to date: a
workspace may say for how long messages can be edited."""

_USER = re.compile(r"[UW][A-Z0-9]+")
_TEAM = re.compile(r"T[A-Z0-9]+")


class SlackRefused(NotDelivered):
    """Slack has answered with this `error`."""

    def __init__(self, error: str) -> None:
        super().__init__(f"Slack refused it: {error[:100]}.")
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackApp:
    """A Slack app as the operator writes it: its token, the secret that signs what Slack sends, and
    the `people` behind users, each `<team>:<user>`."""

    token: str = field(repr=False)
    signing_secret: str = field(repr=False)
    people: Mapping[str, str]
    url: str = API
    allow_http: bool = False

    def person(self, team: str, user: str) -> str | None:
        """The name of the person behind a user of a workspace; None if nobody has said."""
        return self.people.get(f"{team}:{user}")


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section as the operator writes it."""

    token: str
    signing_secret: str
    team: str
    people: dict[str, str]
    url: str = API
    allow_http: bool = False


def slack_from_json(value: Json, environment: Mapping[str, str]) -> SlackApp:
    """Read the section 'slack'. Raises `ConfigurationError`, which repeats no secret."""
    try:
        written = msgspec.convert(value, _Written)
    except msgspec.ValidationError as error:
        fields = ", ".join(_Written.__struct_fields__)
        raise ConfigurationError(f"{error}. Its fields are: {fields}.") from None
    if not _TEAM.fullmatch(written.team):
        raise ConfigurationError(
            "Its 'team' is no workspace. Write the id of yours, as in T012AB3CD."
        )
    people: dict[str, str] = {}
    for user, name in written.people.items():
        team, _, id = user.rpartition(":")
        if not _USER.fullmatch(id) or not _TEAM.fullmatch(team or written.team):
            raise ConfigurationError(
                f"There is no Slack user '{user}'. Write the id of the member, as in U012AB3CD; of "
                "another workspace with its id, as in T0456EFGH:U012AB3CD."
            )
        people[f"{team or written.team}:{id}"] = name
    app = SlackApp(
        token=value_of(written.token, environment),
        signing_secret=value_of(written.signing_secret, environment),
        people=people,
        url=f"{written.url.rstrip('/')}/",
        allow_http=written.allow_http,
    )
    if not (app.token.isascii() and app.token.isprintable() and app.token.strip()):
        raise ConfigurationError("Its 'token' is none. Write that of the app's bot, xoxb-….")
    if not app.signing_secret.strip():
        raise ConfigurationError("Its 'signing_secret' is empty, so nobody could tell who calls.")
    Destination(url=app.url, allow_http=app.allow_http)
    return app


def _verifier(secret: str, clock: Clock) -> SignatureVerifier:
    # Importing it takes a while, and most servers have no Slack.
    from slack_sdk import signature

    class Seconds(signature.Clock):
        def now(self) -> float:
            return clock.now().timestamp()

    return signature.SignatureVerifier(secret, Seconds())


class Slack:
    """The Slack app of a server: calls Slack's methods, shows there how approvals of the `storage`
    stand, and knows what Slack has signed."""

    def __init__(self, app: SlackApp, reach: Reach, clock: Clock, storage: Storage) -> None:
        self.app = app
        self._reach = reach
        self._storage = storage
        self._verifier = _verifier(app.signing_secret, clock)

    def notifier(self, endpoint: Endpoint) -> SlackNotifier:
        """The notifier for an endpoint that is a channel."""
        return SlackNotifier(self, endpoint, self._storage)

    def is_signed(self, body: bytes, timestamp: str, signature: str) -> bool:
        """True if Slack has signed the body for this app, at most five minutes ago."""
        if not (timestamp.isdecimal() and timestamp.isascii() and len(timestamp) < 16):
            return False
        try:
            return self._verifier.is_valid(body, timestamp, signature)
        except (UnicodeDecodeError, TypeError):
            # A body that is no text, or a signature that is not ASCII: none of Slack's.
            return False

    async def call(self, method: str, arguments: JsonObject) -> JsonObject:
        """What Slack answers. Raises `NotDelivered`."""
        headers = {"Authorization": f"Bearer {self.app.token}"}
        answer = await self._post(f"{self.app.url}{method}", arguments, headers)
        if answer.status == 429:
            raise NotDelivered("Slack takes no more at the moment.")
        found = _object(answer)
        if found.get("ok") is not True:
            raise SlackRefused(str(found.get("error", f"status {answer.status}")))
        return found

    async def bring_up_to_date(self, place: Mapping[str, str], approval_id: str) -> None:
        """Show in the message at this place how the approval stands, also if it changes while Slack
        is asked: what was told before that may have arrived after what was told since. Raises
        `NotDelivered`."""
        shown: Approval | None = None
        try:
            while (approval := await self._storage.approval(approval_id)) not in (None, shown):
                assert approval is not None
                await self.call("chat.update", {**place, **card(approval)})
                shown = approval
        except Tampered as error:
            raise NotDelivered(error.message) from None

    async def tell(self, response_url: str, text: str) -> None:
        """Tell whoever has clicked, and nobody else. Raises `NotDelivered`."""
        arguments = {
            "response_type": "ephemeral",
            "replace_original": False,
            "text": escaped(text),
        }
        answer = await self._post(response_url, arguments, {})
        if not answer.is_success:
            raise NotDelivered(f"Slack answered with status {answer.status}.")

    async def _post(self, url: str, arguments: JsonObject, headers: Mapping[str, str]) -> Answer:
        try:
            to = Destination(url=url, allow_http=self.app.allow_http)
            return await self._reach.request(
                "POST",
                to,
                headers={"Content-Type": "application/json; charset=utf-8", **headers},
                body=encode_json(arguments),
                most=MAX_ANSWER_BYTES,
            )
        except NotReached as error:
            raise NotDelivered(str(error)) from None
        except ConfigurationError as error:
            raise NotDelivered(error.message) from None


def _object(answer: Answer) -> JsonObject:
    try:
        found = orjson.loads(answer.body) if answer.is_whole else None
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise NotDelivered(f"Slack answered with status {answer.status}, and with no JSON object.")
    return found


@dataclass(frozen=True, slots=True)
class SlackNotifier:
    """Posts approvals to a channel, and keeps its messages up to date."""

    slack: Slack
    endpoint: Endpoint
    storage: Storage

    async def notify(self, message: Message) -> Receipt | None:
        if message.type == AUDIT_HEAD:
            await self._post(notice(message))
            return None
        try:
            return await self._show(message)
        except Tampered as error:
            raise NotDelivered(error.message) from None

    async def _show(self, message: Message) -> Receipt | None:
        """Show how the approval stands now. A message that asks is posted once; after that, people
        are told below it that they still are asked."""
        approval = await self.storage.approval(message.approval_id)
        if approval is None:
            return None
        asks = approval.is_pending and self.endpoint.asks(message.type, approval)
        shown = card(approval)
        is_posted = False
        for place in await self._places(message.approval_id):
            if not await self._update(place, shown):
                continue
            is_posted = True
            if asks and message.type in ASKING_EVENTS - {"approval_required"}:
                below = {"thread_ts": place["ts"], "reply_broadcast": True}
                await self._post({**notice(message), **below})
        if is_posted or not asks:
            return None
        return Receipt(await self._post(shown))

    async def _places(self, approval_id: str) -> list[dict[str, str]]:
        """Where this endpoint has posted the approval."""
        rows: list[Notification] = await all_rows(
            self.storage.notifications, approval_id=approval_id, endpoint=self.endpoint.name
        )
        return [row.payload[RECEIPT] for row in rows if RECEIPT in row.payload]

    async def _post(self, shown: JsonObject) -> JsonObject:
        arguments = {"channel": self.endpoint.slack, **shown}
        posted = await self.slack.call("chat.postMessage", arguments)
        return {"channel": str(posted.get("channel", "")), "ts": str(posted.get("ts", ""))}

    async def _update(self, place: Mapping[str, str], shown: JsonObject) -> bool:
        """Bring a message up to date. False if it is there no more."""
        try:
            await self.slack.call("chat.update", {**place, **shown})
        except SlackRefused as error:
            if error.error in GONE:
                return False
            raise
        return True
