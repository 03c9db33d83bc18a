"""`assent approvals`: look at approvals and decide them from a terminal, over HTTP.

What a model or a person wrote reaches the terminal only as `visible` text. A decision carries the
digest of what was shown, and a key, so that it is taken once even if it had to be sent twice.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from assent.cli.client import PAUSES, ApiKey, Client, Unreachable, connected
from assent.cli.screen import Screen
from assent.cli.terminal import console, errors_as_sentences
from assent.cli.wording import Approval, local_time, news_of, subject_of
from assent.core.clock import Clock, uuid7
from assent.core.errors import InvalidRequest
from assent.core.json import Json, JsonObject, read_typed
from assent.core.text import pretty, visible

TRIES = 3
"""Times that a decision is sent if the connection drops before the answer."""

PAGE = 1000
"""Events on one page of the feed."""

commands = typer.Typer(help="See what waits for people, and decide it.", no_args_is_help=True)

Url = Annotated[str, typer.Option(envvar="ASSENT_URL", help="The server.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The approval's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")]

HERE = "http://127.0.0.1:8000"


# ── the commands ──────────────────────────────────────────────────────────────────────────────────


@commands.command("list")
def list_approvals(
    url: Url = HERE,
    api_key: ApiKey = None,
    status: Annotated[
        str, typer.Option(help="pending, approved, rejected, …, or all.")
    ] = "pending",
    role: Annotated[
        str | None, typer.Option(help="Only those that people of this role may decide.")
    ] = None,
    assignee: Annotated[
        str | None, typer.Option(help="Only those that this person may decide.")
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only those of this agent.")] = None,
    thread: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those of this thread.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only older ones, such as 2h.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the approvals that wait for people, oldest first."""
    wanted = {
        "status": None if status == "all" else status,
        "role": role,
        "assignee": assignee,
        "tool": tool,
        "agent": agent,
        "thread_id": thread,
        "older_than": older_than,
    }
    with _session(url, api_key) as session:
        found = session.approvals(wanted)
        if as_json:
            session.write(found)
        else:
            session.table(found)


@commands.command()
def show(id: Id, url: Url = HERE, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show all of an approval, and what people have said about it."""
    with _session(url, api_key) as session:
        approval = session.approval(id)
        if as_json:
            session.write(approval)
        else:
            session.show(approval)


@commands.command()
def approve(id: Id, url: Url = HERE, api_key: ApiKey = None, yes: Yes = False) -> None:
    """Let the call run with exactly the arguments that are shown."""
    with _session(url, api_key) as session:
        session.decide(id, {"type": "approve"}, "Approve this?", sure=yes)


@commands.command()
def edit(
    id: Id,
    args: Annotated[
        str,
        typer.Argument(
            metavar="JSON", help="The complete arguments, as a JSON object; - reads standard input."
        ),
    ],
    url: Url = HERE,
    api_key: ApiKey = None,
    yes: Yes = False,
) -> None:
    """Let the call run with other arguments, which those who must agree are asked about."""
    with _session(url, api_key) as session:
        decision = {"type": "edit", "args": _json_from(args)}
        session.decide(id, decision, "Put these arguments in their place?", sure=yes)


@commands.command()
def reject(
    id: Id,
    message: Annotated[str, typer.Argument(help="The reason, which the model reads.")] = "",
    url: Url = HERE,
    api_key: ApiKey = None,
    yes: Yes = False,
) -> None:
    """Do not let it run."""
    with _session(url, api_key) as session:
        session.decide(id, {"type": "reject", "message": message}, "Reject this?", sure=yes)


@commands.command()
def respond(
    id: Id,
    answer: Annotated[
        str, typer.Argument(help="The call's result in its place, or the answer to the question.")
    ],
    url: Url = HERE,
    api_key: ApiKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer is JSON, not text.")] = False,
    yes: Yes = False,
) -> None:
    """Answer in the call's place, or answer a question."""
    with _session(url, api_key) as session:
        message = _json_from(answer) if as_json else answer
        session.decide(id, {"type": "respond", "message": message}, "Answer this?", sure=yes)


@commands.command()
def watch(url: Url = HERE, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Follow what happens to approvals on all threads."""
    with _session(url, api_key) as session, suppress(KeyboardInterrupt):
        session.watch(as_json=as_json)


# ── what they do ──────────────────────────────────────────────────────────────────────────────────


class Session:
    """One command of a person at a terminal, and the server that it is for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._console = console()

    def approvals(self, wanted: Mapping[str, str | None]) -> list[JsonObject]:
        """All approvals that fit, over all pages."""
        params = {name: value for name, value in wanted.items() if value is not None}
        found: list[JsonObject] = []
        while True:
            page = self._client.get("/approvals", params)
            found += page["approvals"]
            if page["next"] is None:
                return found
            params["cursor"] = page["next"]

    def approval(self, id: str) -> JsonObject:
        """One approval."""
        approval: JsonObject = self._client.get(f"/approvals/{id}")
        return approval

    def write(self, value: Json) -> None:
        """Write JSON, for programs."""
        self._console.out(json.dumps(value, indent=2))

    def table(self, approvals: list[JsonObject]) -> None:
        """Show a line for each."""
        if not approvals:
            self._console.print(Text("Nothing waits.", style="dim"))
            return

        # If statuses differ, the last column has each approval's own. If not, it has the people who
        # may decide, which is of no interest once an approval is decided.
        has_statuses = len({each["status"] for each in approvals}) > 1
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for name in ("id", "age", "tool"):
            table.add_column(name, overflow="fold", no_wrap=True)
        for name in ("by", "risk"):
            table.add_column(name, overflow="fold")
        if has_statuses:
            table.add_column("status", no_wrap=True)
        else:
            table.add_column("for", overflow="fold")

        for each in approvals:
            cells = (
                each["approval_id"],
                _age(each["requested_at"]),
                each["tool"] or each["node"],
                ", ".join(each["requested_by"]),
                each["risk"],
                each["status"] if has_statuses else _deciders(each),
            )
            table.add_row(*(Text(visible(str(cell), keep="")) for cell in cells))
        self._console.print(table)

    def show(self, approval: Approval) -> None:
        """Show all of one."""
        screen = Screen(self._console)
        for warning in approval["warnings"]:
            screen.line(f"! {warning}", "bold red")
        if shortage := approval["shortage"]:
            screen.line(f"! {shortage}", "bold red")
        conversation = approval["conversation"]
        if asked := conversation.get("asked"):
            screen.line(f"asked: {asked}", "dim")
        if wrote := conversation.get("model_wrote"):
            screen.line(f"the model wrote, and it may mislead: {wrote}", "dim")
        for name in ("context", "configurable"):
            if given := conversation.get(name):
                screen.line(f"runs with the {name}: {given}", "dim")

        screen.approval({**approval, **_SHOWN_BELOW})
        if edit := approval["edit"]:
            first = pretty(approval["asked_first"]["args"])
            screen.line(f"{edit['by']} has edited it. First was asked: {first}", "yellow")

        expires_at = approval["expires_at"]
        facts = [
            ("status", approval["status"]),
            ("asked by", ", ".join(approval["requested_by"])),
            ("decided by", approval["decided_by"]),
            ("risk", approval["risk"]),
            ("for", _deciders(approval)),
            ("needs", _needed(approval)),
            ("until", expires_at and local_time(expires_at)),
            ("digest", approval["digest"]),
        ]
        for vote in approval["votes"]:
            facts.append(("vote", f"{vote['by']}: {vote['decision']['type']}"))
        for comment in approval["comments"]:
            facts.append(("comment", f"{comment['by']}: {comment['text']}"))
        for name, value in facts:
            if value:
                screen.line(f"{name:10} {value}")

    def decide(self, id: str, decision: JsonObject, question: str, *, sure: bool) -> None:
        """Show the approval, ask if the decision is meant, and decide exactly what was shown."""
        approval = self.approval(id)
        if not sure and sys.stdin.isatty():
            self.show(approval)
            if decision["type"] == "edit":
                self._console.print(Text(f"instead:\n{pretty(decision['args'])}", style="bold"))
            typer.confirm(question, abort=True)

        body = {**decision, "digest": approval["digest"]}
        answer = self._post_once(f"/approvals/{id}/decide", body)
        (after,) = answer["decisions"].values()
        if after["status"] == "pending":
            sentence = "It waits for others to agree."
        else:
            sentence = f"It is {after['status']}."
        if answer["run_id"]:
            sentence += " The run goes on."
        self._console.print(Text(visible(sentence)))

    def _post_once(self, path: str, body: JsonObject) -> Json:
        """The server's answer. A request that is sent again has the same idempotency key."""
        headers = {"Idempotency-Key": uuid7()}
        for _ in range(TRIES - 1):
            try:
                return self._client.post(path, body, headers=headers)
            except Unreachable:
                time.sleep(PAUSES[0])
        return self._client.post(path, body, headers=headers)

    def watch(self, *, as_json: bool) -> None:
        """Follow the feed from now on, over dropped connections."""
        last = 0
        while page := self._feed(after=last):
            last = page[-1]["seq"]

        for received in self._client.events("/approvals/stream", after=last):
            if as_json:
                self._console.out(received.body)
            else:
                self._show_news(received.event)

    def _feed(self, *, after: int) -> list[JsonObject]:
        page = self._client.get("/approvals/stream", {"after": after, "limit": PAGE})
        events: list[JsonObject] = page["events"]
        return events

    def _show_news(self, event: JsonObject) -> None:
        news = news_of(event)
        words = news[0] if news else str(event["type"])
        line = f"{local_time(event['ts'])}  {event['approval_id']}  {subject_of(event)}: {words}"
        self._console.print(Text(visible(line, keep="")), soft_wrap=True)


_SHOWN_BELOW: Mapping[str, Json] = {
    "edit": None,
    "votes": (),
    "comments": (),
    "quorum": 1,
    "expires_at": None,
    "conversation": {},
}
"""Left out of the frame around what is asked."""


def _deciders(approval: Approval) -> str:
    roles = [f"role {role}" for role in approval["roles"]]
    people = [*approval["names"], *roles, *approval["assignees"]]
    return ", ".join(people) or "anyone"


def _needed(approval: Approval) -> str:
    quorum = approval["quorum"]
    people = "1 person" if quorum == 1 else f"{quorum} people"
    return f"{people}, but not who asked" if approval["four_eyes"] else people


def _age(moment: str) -> str:
    passed = Clock().now() - datetime.fromisoformat(moment)
    seconds = max(0, int(passed.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _json_from(text: str) -> Json:
    """The JSON of an argument; of standard input if it is "-"."""
    try:
        return read_typed(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise InvalidRequest(f"This is not JSON: {error}.") from error


@contextmanager
def _session(url: str, api_key: str | None) -> Iterator[Session]:
    with errors_as_sentences(), connected(url, api_key) as client:
        yield Session(client)
