"""`assent approvals`: what waits for people, looked at and decided from a terminal, over HTTP.

What a model or a person wrote reaches the terminal only as `visible` text. A decision carries the
digest of what was shown, and a key, so that it is taken once even if it had to be sent twice.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import httpx
import typer
from httpx_sse import connect_sse
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assent.cli.chat import PAUSES, Screen, check_response
from assent.cli.wording import as_asked_now
from assent.core.clock import Clock, uuid7
from assent.core.errors import AssentError, InvalidRequest
from assent.core.text import pretty, visible

Json = Any
"""Any JSON value."""

TRIES = 3
"""How often a decision is sent, if the connection drops before its answer."""

commands = typer.Typer(help="See what waits for people, and decide it.", no_args_is_help=True)

Url = Annotated[str, typer.Option(envvar="ASSENT_URL", help="The server.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="ASSENT_API_KEY", help="The secret of a key of the server's.")
]
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
    role: Annotated[str | None, typer.Option(help="Those that this role may decide.")] = None,
    assignee: Annotated[str | None, typer.Option(help="Those that this person may decide.")] = None,
    tool: Annotated[str | None, typer.Option()] = None,
    agent: Annotated[str | None, typer.Option()] = None,
    thread: Annotated[str | None, typer.Option(metavar="ID")] = None,
    older_than: Annotated[str | None, typer.Option(metavar="DURATION", help="Such as 2h.")] = None,
    as_json: AsJson = False,
) -> None:
    """What waits for people, the oldest first."""
    wanted = {
        "role": role,
        "assignee": assignee,
        "tool": tool,
        "agent": agent,
        "thread_id": thread,
        "older_than": older_than,
    }
    with _desk(url, api_key) as desk:
        found = desk.approvals({**wanted, "status": None if status == "all" else status})
        desk.table(found) if not as_json else desk.json(found)


@commands.command()
def show(id: Id, url: Url = HERE, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """All of what is asked, and what people have said to it."""
    with _desk(url, api_key) as desk:
        approval = desk.approval(id)
        desk.show(approval) if not as_json else desk.json(approval)


@commands.command()
def approve(id: Id, url: Url = HERE, api_key: ApiKey = None, yes: Yes = False) -> None:
    """Let the call run with exactly the arguments that are shown."""
    with _desk(url, api_key) as desk:
        desk.decide(id, {"type": "approve"}, "Approve this?", sure=yes)


@commands.command()
def edit(
    id: Id,
    args: Annotated[
        str,
        typer.Argument(
            metavar="JSON", help="The complete arguments, as a JSON object; - reads them."
        ),
    ],
    url: Url = HERE,
    api_key: ApiKey = None,
    yes: Yes = False,
) -> None:
    """Let the call run with other arguments; where others must agree, ask them."""
    with _desk(url, api_key) as desk:
        desk.decide(
            id,
            {"type": "edit", "args": _parsed(args)},
            "Put these arguments in their place?",
            sure=yes,
        )


@commands.command()
def reject(
    id: Id,
    message: Annotated[str, typer.Argument(help="Why. The model is told.")] = "",
    url: Url = HERE,
    api_key: ApiKey = None,
    yes: Yes = False,
) -> None:
    """Do not let it run."""
    with _desk(url, api_key) as desk:
        desk.decide(id, {"type": "reject", "message": message}, "Reject this?", sure=yes)


@commands.command()
def respond(
    id: Id,
    answer: Annotated[
        str, typer.Argument(help="What stands for the call's result, or answers the question.")
    ],
    url: Url = HERE,
    api_key: ApiKey = None,
    parse: Annotated[
        bool, typer.Option("--json", help="The answer is JSON, and not a text.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Answer in the call's place, or answer a question."""
    with _desk(url, api_key) as desk:
        desk.decide(
            id,
            {"type": "respond", "message": _parsed(answer) if parse else answer},
            "Answer this?",
            sure=yes,
        )


@commands.command()
def watch(url: Url = HERE, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """What happens to approvals on all threads, as it happens."""
    with _desk(url, api_key) as desk:
        desk.watch(as_json=as_json)


# ── what they do ──────────────────────────────────────────────────────────────────────────────────


class Desk:
    """Somebody at a terminal, and a server."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._console = Console(markup=False, highlight=False, emoji=False)

    def approvals(self, wanted: Mapping[str, str | None]) -> list[Json]:
        """All that are found, over all pages."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            given = {
                name: value
                for name, value in {**wanted, "cursor": cursor}.items()
                if value is not None
            }
            page = self._asked("GET", "/approvals", params=given)
            found += page["approvals"]
            cursor = page["next"]
            if cursor is None:
                return found

    def approval(self, id: str) -> Json:
        """One of them."""
        return self._asked("GET", f"/approvals/{id}")

    def table(self, approvals: list[Json]) -> None:
        """A line for each."""
        if not approvals:
            self._console.print(Text("Nothing waits.", style="dim"))
            return
        table = Table(box=None, pad_edge=False)
        # Where all are of one status, as when it was asked for, none need say it. Whom what is
        # decided was for nobody asks.
        with_status = len({each["status"] for each in approvals}) > 1
        for name in ("id", "age", "tool", "by", "risk", "for", "status" if with_status else "for"):
            table.add_column(name, overflow="fold", no_wrap=name in ("id", "age", "tool"))
        for each in approvals:
            said = (
                _age(each["requested_at"]),
                each["tool"] or each["node"],
                each["requested_by"] or "",
                each["risk"],
            )
            cells = (each["approval_id"], *said, each["status"] if with_status else _for_whom(each))
            table.add_row(*(Text(visible(str(cell), keep="")) for cell in cells))
        self._console.print(table)

    def show(self, approval: Json) -> None:
        """All of one."""
        screen = Screen(self._console)
        now_asked = as_asked_now(approval)
        for warning in approval["warnings"]:
            screen.line(f"! {warning}", "bold red")
        conversation = approval["conversation"]
        if conversation.get("asked"):
            screen.line(f"asked: {conversation['asked']}", "dim")
        if conversation.get("model_wrote"):
            screen.line(
                f"the model wrote, and it may mislead: {conversation['model_wrote']}", "dim"
            )
        # What people have said, and until when they may, is told below.
        screen.approval({**now_asked, **_TOLD_BELOW}, "")
        if approval["edit"]:
            screen.line(
                f"{approval['edit']['by']} has edited it. First was asked: {pretty(approval['args'])}",
                "yellow",
            )
        facts = {
            "status": approval["status"],
            "asked by": approval["requested_by"],
            "decided by": approval["decided_by"],
            "risk": approval["risk"],
            "for": _for_whom(approval),
            "needs": _needs(approval),
            "until": approval["expires_at"],
            "digest": now_asked["digest"],
        }
        for name, value in facts.items():
            if value:
                screen.line(f"{name:10} {value}")
        for vote in approval["votes"]:
            screen.line(f"{'vote':10} {vote['by']}: {vote['decision']['type']}")
        for comment in approval["comments"]:
            screen.line(f"{'comment':10} {comment['by']}: {comment['text']}")

    def json(self, value: Json) -> None:
        """The value, for programs."""
        self._console.out(json.dumps(value, indent=2))

    def decide(self, id: str, decision: Json, question: str, *, sure: bool) -> None:
        """Show it, ask whether it is meant, and decide exactly what was shown."""
        approval = self.approval(id)
        if not sure and sys.stdin.isatty():
            self.show(approval)
            if decision["type"] == "edit":
                self._console.print(Text(f"instead:\n{pretty(decision['args'])}", style="bold"))
            typer.confirm(question, abort=True)
        digest = (approval["edit"] or approval)["digest"]
        answer = self._sent(f"/approvals/{id}/decide", {**decision, "digest": digest})
        (after,) = answer["decisions"].values()
        left = (
            "It waits for others to agree."
            if after["status"] == "pending"
            else f"It is {after['status']}."
        )
        going = " The run goes on." if answer["run_id"] else ""
        self._console.print(Text(visible(f"{left}{going}")))

    def watch(self, *, as_json: bool) -> None:
        """Follow the feed from here on, over dropped connections."""
        last = self._asked("GET", "/approvals/stream", params={"after": 0, "limit": 1000})["next"]
        while newer := self._asked(
            "GET", "/approvals/stream", params={"after": last, "limit": 1000}
        )["events"]:
            last = newer[-1]["seq"]
        pauses = iter(PAUSES)
        while True:
            try:
                with connect_sse(
                    self._http, "GET", "/approvals/stream", params={"after": last}, timeout=None
                ) as source:
                    if source.response.is_error:
                        source.response.read()
                    check_response(source.response)
                    for received in source.iter_sse():
                        if received.data:
                            pauses, event = iter(PAUSES), json.loads(received.data)
                            last = event["seq"]
                            self._console.out(received.data) if as_json else self._told(event)
            except httpx.TransportError:
                pass
            pause = next(pauses, None)
            if pause is None:
                raise InvalidRequest(
                    f"The server at {self._http.base_url} does not answer. Is it running?"
                )
            time.sleep(pause)

    def _told(self, event: Json) -> None:
        line = f"{str(event['ts'])[:19].replace('T', ' ')}  {event['approval_id']}  {event.get('tool') or 'a question'}: {happened(event)}"
        self._console.print(Text(visible(line, keep="")), soft_wrap=True)

    def _sent(self, path: str, body: Json) -> Json:
        """What the server answers. Sent again under the same key, so that it is done once however
        often it arrives."""
        key = uuid7()
        for _ in range(TRIES - 1):
            try:
                return self._asked("POST", path, json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                time.sleep(PAUSES[0])
        return self._asked("POST", path, json=body, headers={"Idempotency-Key": key})

    def _asked(self, method: str, path: str, **given: Any) -> Json:
        headers = {"Accept": "application/json", **given.pop("headers", {})}
        response = self._http.request(method, path, headers=headers, **given)
        check_response(response)
        return response.json()


def _for_whom(approval: Json) -> str:
    people = [
        *approval["names"],
        *(f"role {role}" for role in approval["roles"]),
        *approval["assignees"],
    ]
    return ", ".join(people) or "everybody"


_TOLD_BELOW = {"edit": None, "votes": (), "comments": (), "quorum": 1, "expires_at": None}


def _needs(approval: Json) -> str:
    people = "1 person" if approval["quorum"] == 1 else f"{approval['quorum']} people"
    return f"{people}, and not who asked" if approval["four_eyes"] else people


def happened(event: Json) -> str:
    """What an event tells, in words."""
    by, to = event.get("by") or "Assent", event.get("to") or f"the role {event.get('role')}"
    match str(event["type"]).removeprefix("approval_"):
        case "required":
            return "waits for a decision"
        case "voted":
            return f"{by} votes '{event['decision']}' ({event['votes']} of {event['quorum']})"
        case "decided":
            return f"{by} decides '{event['decision']}'"
        case "edited":
            return f"{by} puts other arguments in place"
        case "withdrawn":
            return f"{by} takes a vote back"
        case "delegated" if to == by:
            return f"{by} takes a say back"
        case "delegated":
            return f"{by} hands a say to {to}"
        case "commented":
            return f"{by} comments"
        case "reminder":
            return "still waits for a decision"
        case "escalated":
            return f"nobody decided in time, so {', '.join(event['to'])} may as well"
        case "expired":
            return "nobody decided in time"
        case "superseded":
            return "is not asked any more"
        case other:
            return other.replace("_", " ")


def _age(moment: str) -> str:
    """How long ago that was."""
    seconds = max(0, int((Clock().now() - datetime.fromisoformat(moment)).total_seconds()))
    unit, size = next(
        (each for each in (("d", 86_400), ("h", 3_600), ("m", 60)) if seconds >= each[1]), ("s", 1)
    )
    return f"{seconds // size}{unit}"


def _parsed(text: str) -> Json:
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise InvalidRequest(f"This is no JSON: {error}.") from error


@contextmanager
def _desk(url: str, api_key: str | None) -> Iterator[Desk]:
    """What was foreseen to go wrong ends the program with one sentence."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with httpx.Client(
            base_url=url, headers=headers, timeout=httpx.Timeout(60, connect=10)
        ) as http:
            yield Desk(http)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except AssentError as error:
        _fail(
            f"{error.message}{' Set ASSENT_API_KEY, or give --api-key.' if error.details.get('status') == 401 else ''}"
        )
    except httpx.InvalidURL as error:
        _fail(f"The --url is none: {error}. Write it like {HERE}.")
    except httpx.TransportError as error:
        _fail(f"The server at {url} does not answer: {error}. Is it running?")


def _fail(sentence: str) -> None:
    Console(stderr=True, highlight=False, markup=False, emoji=False).print(
        Text(visible(sentence), style="red"), soft_wrap=True
    )
    raise typer.Exit(1)
