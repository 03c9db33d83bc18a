"""`assent approvals`: look at approvals and decide them from a terminal, over HTTP.

What a model or a person wrote reaches the terminal only as `visible` text. A decision carries the
digest of what was shown, and a key, so that it is taken once even if it had to be sent twice.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assent.cli.brief import age, arguments
from assent.cli.connecting import ApiKey, connected
from assent.cli.screen import Screen
from assent.cli.terminal import console, errors_as_sentences, note
from assent.cli.wording import Approval, answers, local_time, news_of, subject_of
from assent.client import SyncClient
from assent.core.decisions import Approve, Decision, Edit, Reject, Respond
from assent.core.errors import InvalidRequest
from assent.core.json import Json, JsonObject, read_typed
from assent.core.run_input import GIVEN_EXCERPTS
from assent.core.text import pretty, visible

ARGS_WIDTH = 20
"""The narrowest column of arguments in a list."""

CALL_WIDTH = 12
"""The narrowest column of tools with their arguments below them."""

LONGEST_ARGS = 400
"""Characters of arguments in a list, however wide the terminal is."""

PAGE = 1000
"""Events on one page of the feed."""

commands = typer.Typer(
    help="See what waits for people, and decide it. Exits with 0 if it is done, 1 if the server "
    "refused it or is gone, 2 if the options make no sense.",
    no_args_is_help=True,
)

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
    with _session(url, api_key) as session:
        listed = session.client.approvals.list(
            status=None if status == "all" else status,
            role=role,
            assignee=assignee,
            tool=tool,
            agent=agent,
            thread_id=thread,
            older_than=older_than,
        )
        found = [approval.fields for approval in listed]
        if as_json:
            session.write(found)
        else:
            session.table(found)


@commands.command()
def show(id: Id, url: Url = HERE, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show all of an approval, and what people have said about it."""
    with _session(url, api_key) as session:
        approval = session.client.approvals.get(id).fields
        if as_json:
            session.write(approval)
        else:
            session.show(approval)


@commands.command()
def approve(id: Id, url: Url = HERE, api_key: ApiKey = None, yes: Yes = False) -> None:
    """Let the call run with exactly the arguments that are shown."""
    with _session(url, api_key) as session:
        session.decide(id, Approve(), "Approve this?", sure=yes)


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
        session.decide(
            id, Edit(_arguments_from(args)), "Put these arguments in their place?", sure=yes
        )


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
        session.decide(id, Reject(message), "Reject this?", sure=yes)


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
        session.decide(id, Respond(message), "Answer this?", sure=yes)


@commands.command()
def withdraw(id: Id, url: Url = HERE, api_key: ApiKey = None) -> None:
    """Withdraw your vote, while others have still to agree."""
    with _session(url, api_key) as session:
        session.client.approvals.withdraw(id)
        session.tell("Your vote is withdrawn.")


@commands.command()
def delegate(
    id: Id,
    to: Annotated[str | None, typer.Option(metavar="NAME", help="To this person.")] = None,
    role: Annotated[str | None, typer.Option(help="To the people of this role.")] = None,
    url: Url = HERE,
    api_key: ApiKey = None,
) -> None:
    """Let others decide in your place; to yourself takes it back."""
    with _session(url, api_key) as session:
        session.client.approvals.delegate(id, to=to, role=role)
        session.tell(f"It is delegated to {to or f'the role {role}'}.")


@commands.command()
def comment(
    id: Id,
    text: Annotated[str, typer.Argument(help="What all who decide may read.")],
    url: Url = HERE,
    api_key: ApiKey = None,
) -> None:
    """Comment on it, and decide nothing."""
    with _session(url, api_key) as session:
        session.client.approvals.comment(id, text)
        session.tell("Your comment is added.")


@commands.command()
def watch(url: Url = HERE, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Follow what happens to approvals on all threads."""
    with _session(url, api_key) as session, suppress(KeyboardInterrupt):
        session.watch(as_json=as_json)


# ── what they do ──────────────────────────────────────────────────────────────────────────────────


class Session:
    """One command of a person at a terminal, and the server that it is for."""

    def __init__(self, client: SyncClient) -> None:
        self.client = client
        self._console = console()

    def tell(self, sentence: str) -> None:
        """Say what was done."""
        self._console.print(Text(visible(sentence)))

    def write(self, value: Json) -> None:
        """Write JSON, for programs."""
        self._console.out(json.dumps(value, indent=2))

    def table(self, approvals: list[JsonObject]) -> None:
        """Show a line for each."""
        if not approvals:
            self._console.print(Text("Nothing waits.", style="dim"))
            return

        self._console.print(approvals_table(approvals, self._console.width))

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
        for name in GIVEN_EXCERPTS:
            if given := conversation.get(name):
                screen.line(f"runs with the {name}: {given}", "dim")

        screen.approval({**approval, **_SHOWN_BELOW})
        if edit := approval["edit"]:
            first = pretty(approval["asked_first"]["args"])
            screen.line(f"{edit['by']} has edited it. First was asked: {first}", "yellow")

        is_pending = approval["status"] == "pending"
        for line in answers(approval) if is_pending else ():
            screen.line(line)
        expires_at = approval["expires_at"]
        choices = ", ".join(approval["allowed"])
        facts = [
            ("status", approval["status"]),
            ("asked by", ", ".join(approval["requested_by"])),
            ("decided by", approval["decided_by"]),
            ("risk", approval["risk"]),
            ("for", _deciders(approval)),
            ("needs", _needed(approval)),
            ("choices", is_pending and choices),
            ("until", expires_at and local_time(expires_at)),
            ("digest", approval["digest"]),
        ]
        for vote in approval["votes"]:
            facts.append(("vote", f"{vote['by']}: {vote['decision']['type']}"))
        for comment in approval["comments"]:
            facts.append(("comment", f"{comment['by']}: {comment['text']}"))
        screen.facts([(name, value) for name, value in facts if value])

    def decide(self, id: str, decision: Decision, question: str, *, sure: bool) -> None:
        """Show the approval, ask if the decision is meant, and decide exactly what was shown."""
        approval = self.client.approvals.get(id)
        if not sure and sys.stdin.isatty():
            self.show(approval.fields)
            if isinstance(decision, Edit):
                self._console.print(Text(f"instead:\n{pretty(decision.args)}", style="bold"))
            typer.confirm(question, abort=True)

        outcome = self.client.approvals.decide(approval, decision)
        (after,) = outcome.decisions.values()
        waits = after.is_pending
        sentence = "It waits for others to agree." if waits else f"It is {after.status}."
        if outcome.run_id:
            sentence += " The run goes on."
        self.tell(sentence)

    def watch(self, *, as_json: bool) -> None:
        """Follow the feed from now on, over dropped connections."""
        last = 0
        while (page := self.client.feeds.events(approvals=True, after=last, limit=PAGE)).events:
            last = page.next

        for heard in self.client.watch(approvals=True, after=last):
            if as_json:
                self._console.out(heard.body.decode())
            else:
                self._show_news(heard.fields)

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


def approvals_table(approvals: Sequence[Approval], width: int) -> RenderableType:
    """A row for each of them, if there are any; lines for each where no row has room."""
    rows = [_Row.of(each) for each in approvals]
    # If statuses differ, the last column has each approval's own. If not, it has the people who
    # may decide, which is of no interest once an approval is decided.
    has_statuses = len({row.status for row in rows}) > 1
    last = "status" if has_statuses else "for"
    names = ("id", "age", "tool", "by", "risk", last)
    widths = {name: _width_of(name, rows) for name in names}
    room = width - sum(widths.values())
    if room + widths["tool"] < CALL_WIDTH:
        return Group(*(line for row in rows for line in row.lines(last)))
    # Where there is no room for a column, they stand below the tool's name.
    return _table(rows, last, has_args=room >= ARGS_WIDTH)


def _width_of(name: str, rows: Sequence[_Row]) -> int:
    """The width of a column, with the space behind it."""
    return 1 + max(len(name), *(cell_len(row.cells[name]) for row in rows))


def _table(rows: Sequence[_Row], last: str, *, has_args: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("id", no_wrap=True)
    table.add_column("age", no_wrap=True)
    beside = "tool" if has_args else "tool, args"
    ratio = None if has_args else 1
    table.add_column(beside, no_wrap=True, overflow="ellipsis", ratio=ratio)
    if has_args:
        table.add_column("args", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("by", overflow="fold")
    table.add_column("risk", no_wrap=True)
    table.add_column(last, overflow="fold", no_wrap=last == "status")
    for row in rows:
        cells = [row.cells[name] for name in ("id", "age", "tool", "args", "by", "risk", last)]
        if not has_args:
            cells[2:4] = [f"{cells[2]}\n{cells[3]}".rstrip()]
        table.add_row(*map(Text, cells))
    return table


@dataclass(frozen=True, slots=True)
class _Row:
    """An approval in a list: its cells, by the names of their columns."""

    status: str
    cells: Mapping[str, str]

    @classmethod
    def of(cls, approval: Approval) -> _Row:
        cells = {
            "id": approval["approval_id"],
            "age": age(approval["requested_at"]),
            "tool": approval["tool"] or approval["node"],
            "args": arguments(approval["args"], LONGEST_ARGS),
            "by": ", ".join(approval["requested_by"]),
            "risk": approval["risk"],
            "for": _deciders(approval),
            "status": approval["status"],
        }
        safe = {name: visible(str(cell), keep="") for name, cell in cells.items()}
        return cls(approval["status"], safe)

    def lines(self, last: str) -> Iterator[Text]:
        """The cells on three lines, for a narrow terminal."""
        cells = self.cells
        yield Text(cells["id"], overflow="fold")
        call = f"  {cells['tool']} {cells['args']}"
        yield Text(call.rstrip(), no_wrap=True, overflow="ellipsis")
        about = [cells["age"], f"by {cells['by']}", cells["risk"]]
        about.append(f"for {cells['for']}" if last == "for" else cells[last])
        yield Text(f"  {' · '.join(about)}", style="dim")


def _deciders(approval: Approval) -> str:
    roles = [f"role {role}" for role in approval["roles"]]
    people = [*approval["names"], *roles, *approval["assignees"]]
    return ", ".join(people) or "anyone"


def _needed(approval: Approval) -> str:
    quorum = approval["quorum"]
    people = "1 person" if quorum == 1 else f"{quorum} people"
    return f"{people}, but not who asked" if approval["four_eyes"] else people


def _json_from(text: str) -> Json:
    """The JSON of an argument; of standard input if it is "-"."""
    try:
        return read_typed(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise InvalidRequest(f"This is not JSON: {error}.") from error


def _arguments_from(text: str) -> JsonObject:
    args = _json_from(text)
    if not isinstance(args, dict):
        raise InvalidRequest("The arguments must be a JSON object.")
    return args


@contextmanager
def _session(url: str, api_key: str | None) -> Iterator[Session]:
    with errors_as_sentences(), connected(url, api_key, tell=note) as client:
        yield Session(client)
