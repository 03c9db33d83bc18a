"""Every route, asked by everybody, about everybody's things.

The walk is made of the routes themselves: whoever adds one with a kind of thing, or a body, that is
not known here has to say what a right request for it is. The table of rights is written down once
more, so that a slip in the program's own is seen.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from fastapi import FastAPI
from starlette.routing import WebSocketRoute

from assent import Assent, build_hitl_agent
from assent.api.access.rules import Rule, Thing, may
from assent.api.app import ROUTES, make_app
from assent.api.routes import docs
from assent.api.routes.dialects import DIALECT_ROUTES
from assent.api.routing import JsonRoute, router_of
from assent.core.access import Owner, Right
from assent.core.audit import LOCAL, Actor, Authentication
from assent.core.clock import utc_now
from assent.core.rows import Notification, NotificationStatus
from assent.storage.base import Change
from tests.support.handshakes import handshake
from tests.support.models import ScriptedModel, call, say
from tests.support.waiting import PATIENCE

# ── the table ─────────────────────────────────────────────────────────────────────────────────────

ROLES = {
    "viewer": ("viewer",),
    "operator": ("operator",),
    "approver": ("approver",),
    "approver-tool": ("approver:tool:pay",),
    "approver-other-tool": ("approver:tool:sell",),
    "approver-role": ("approver:role:lead",),
    "auditor": ("auditor",),
    "admin": ("admin",),
}

OWN = {
    "viewer": "self read see",
    "operator": "self read run stop see say",
    "approver": "self read see decide say",
    "auditor": "self read see watch audit",
    "admin": "self read stop see say watch admin",
}
TENANT = {
    "auditor": "read see watch audit",
    "admin": "read stop see say watch admin",
}
"""Of which rights a role has which, and which of these reach all of the tenant."""

OF_APPROVALS = frozenset({Right.SEE, Right.DECIDE, Right.SAY})

PAT, OLGA, RITA = "pat", "olga", "rita"
TENANTS = {PAT: "acme", OLGA: "acme", RITA: "rival"}
"""Pat asks. Olga is of pat's tenant, and rita of another."""


def kind_of(role: str) -> str:
    return "approver" if role.startswith("approver") else role


def has(role: str, right: Right) -> bool:
    return right in OWN[kind_of(role)].split()


def sees(role: str, right: Right, thing: Thing, owner: str) -> bool:
    """Whether a request of pat's, with this role, finds the owner's thing."""
    if TENANTS[owner] != TENANTS[PAT]:
        return False
    if right in TENANT.get(kind_of(role), "").split():
        return True
    if thing is Thing.NOTIFICATION:
        return False
    if thing in (Thing.APPROVAL, Thing.THREAD) and right in (Right.SEE, Right.DECIDE, Right.SAY):
        # They decide what their word counts for.
        return owner == PAT or role in ("approver", "approver-tool")
    if thing is Thing.GRANT and kind_of(role) == "approver":
        return True
    return owner == PAT


# ── requests ──────────────────────────────────────────────────────────────────────────────────────


class Answer(NamedTuple):
    status: int
    body: bytes


async def ask(
    app: Any, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> Answer:
    """The response, of a stream as far as what it has now."""
    given = asyncio.Event()
    sent: list[bytes] = []
    status = 0
    is_stream = False
    has_body = [True]

    async def receive() -> Any:
        if has_body:
            has_body.clear()
            return {"type": "http.request", "body": body, "more_body": False}
        await given.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, is_stream
        if message["type"] == "http.response.start":
            status = message["status"]
            kinds = [value for name, value in message["headers"] if name == b"content-type"]
            is_stream = b"text/event-stream" in b"".join(kinds)
        else:
            sent.append(bytes(message.get("body", b"")))
            if is_stream:
                # What there is comes at once.
                asyncio.get_running_loop().call_later(0.02, given.set)

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "headers": [
            (b"host", b"localhost"),
            (b"content-length", b"%d" % len(body)),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ],
    }
    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    return Answer(status, b"".join(sent))


# ── everybody's things ────────────────────────────────────────────────────────────────────────────


@dataclass
class Things:
    """What a person has, with a canary in each text."""

    owner: str
    canary: str
    thread: str = ""
    run: str = ""
    checkpoint: str = ""
    approval: str = ""
    file: str = ""
    schedule: str = ""
    assistant: str = ""
    grant: str = ""
    task: str = ""
    notification: str = ""
    key: str = ""

    def path(self, path: str, thing: Thing) -> str:
        """The path, with the ids of what it is about."""
        ids = {
            Thing.THREAD: self.thread,
            Thing.EXECUTION: self.thread,
            Thing.RUN: self.run,
            Thing.APPROVAL: self.approval,
            Thing.FILE: self.file,
            Thing.SCHEDULE: self.schedule,
            Thing.ASSISTANT: self.assistant,
            Thing.GRANT: self.grant,
            Thing.NOTIFICATION: self.notification,
            Thing.KEY: self.key,
            Thing.AGENT_FEED: "agent",
            Thing.SERVER: "agent",
            Thing.USER_FEED: self.owner,
        }
        named = {
            "{run_id}": self.run,
            "{checkpoint_id}": self.checkpoint,
            "{agent_id}": "agent",
            "{cron_id}": self.schedule,
            "{assistant_id}": self.assistant,
            "{namespace}": "none",
            "{task_id}": self.task,
        }
        for name, value in named.items():
            path = path.replace(name, value)
        for name in ("{id}", "{execution_id}", "{name:path}", "{name}"):
            if name in path:
                path = path.replace(name, ids[thing])
        assert "{" not in path, f"What is {path} of a {thing}?"
        return path

    @property
    def ids(self) -> list[str]:
        return [
            *(self.thread, self.run, self.checkpoint, self.approval, self.file, self.schedule),
            self.assistant,
            *(self.grant, self.task, self.notification, self.key, self.owner),
        ]


NEVER = Things(
    "nobody",
    "",
    thread="t-never",
    run="r-never",
    checkpoint="1ef00000-0000-6000-8000-000000000000",
    approval="apr_never",
    file="f-never",
    schedule="s-never",
    assistant="a-never",
    grant="g-never",
    task="k-never",
    notification="n-never",
    key="0123456789",
)

NAMED = Things(
    "nobody",
    "",
    thread="<thread>",
    run="<run>",
    checkpoint="<checkpoint>",
    approval="<approval>",
    file="<file>",
    schedule="<schedule>",
    assistant="<assistant>",
    grant="<grant>",
    task="<task>",
    notification="<notification>",
    key="<key>",
)
"""Things whose ids name their kinds: a request that is made of them shows which it is about."""

EVERYTHING = " ".join(NAMED.ids)

OF_THREADS = (
    *(NAMED.thread, NAMED.run, NAMED.checkpoint, NAMED.approval),
    *(NAMED.grant, NAMED.notification),
)
"""Those that come with a thread."""

APPROVE = {"type": "approve"}
LATER = {"cron": "0 0 29 2 *", "message": "Later."}
A_CRON = {
    "schedule": LATER["cron"],
    "assistant_id": "agent",
    "input": {"messages": [{"role": "user", "content": "Hm."}]},
}

NEW_RUN = {"assistant_id": "agent", "input": {"messages": "Hm."}}

BODIES: dict[tuple[str, str], Callable[[Things], Any]] = {
    ("POST", "/agent/stream"): lambda of: {"message": "Hm.", "thread_id": of.thread},
    ("POST", "/agent/invoke"): lambda of: {"message": "Hm.", "thread_id": of.thread},
    ("POST", "/agent/runs"): lambda of: {"message": "Hm.", "thread_id": of.thread},
    ("POST", "/threads"): lambda of: {"thread_id": of.thread},
    ("PATCH", "/threads/{id}"): lambda of: {"metadata": {"a": 1}},
    ("POST", "/threads/{id}/state"): lambda of: {"values": {"messages": []}},
    ("POST", "/threads/{id}/history"): lambda of: {},
    ("POST", "/threads/{id}/resume"): lambda of: APPROVE,
    ("POST", "/threads/{id}/cancel"): lambda of: {},
    ("POST", "/threads/{id}/fork"): lambda of: {},
    ("POST", "/threads/{id}/runs"): lambda of: {
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": "Hm."}]},
    },
    ("POST", "/threads/{id}/runs/stream"): lambda of: {
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": "Hm."}]},
    },
    ("POST", "/runs/crons"): lambda of: A_CRON,
    ("POST", "/threads/{id}/runs/crons"): lambda of: A_CRON,
    ("POST", "/runs/crons/search"): lambda of: {},
    ("POST", "/runs/crons/count"): lambda of: {},
    ("PATCH", "/runs/crons/{cron_id}"): lambda of: {"enabled": False},
    ("PUT", "/store/items"): lambda of: {**an_item(of), "value": {"a": 1}},
    ("DELETE", "/store/items"): lambda of: an_item(of),
    ("POST", "/store/items/search"): lambda of: {"namespace_prefix": [of.owner]},
    ("POST", "/store/namespaces"): lambda of: {},
    ("POST", "/threads/{id}/stream/events"): lambda of: {"channels": ["lifecycle"]},
    ("POST", "/threads/{id}/commands"): lambda of: {
        "id": 1,
        "method": "run.start",
        "params": {
            "assistant_id": "agent",
            "input": {"messages": [{"role": "user", "content": "Hm."}]},
            "if_not_exists": "reject",
        },
    },
    ("POST", "/assistants"): lambda of: {"graph_id": "agent"},
    ("PATCH", "/assistants/{assistant_id}"): lambda of: {"name": "Hm."},
    ("POST", "/assistants/{assistant_id}/versions"): lambda of: {},
    ("POST", "/assistants/{assistant_id}/latest"): lambda of: {"version": 1},
    ("POST", "/assistants/search"): lambda of: {},
    ("POST", "/assistants/count"): lambda of: {},
    ("POST", "/threads/search"): lambda of: {},
    ("POST", "/threads/count"): lambda of: {},
    ("POST", "/threads/prune"): lambda of: {"thread_ids": [of.thread]},
    ("POST", "/threads/{id}/copy"): lambda of: None,
    ("POST", "/threads/{id}/state/checkpoint"): lambda of: {
        "checkpoint": {"checkpoint_id": of.checkpoint}
    },
    ("POST", "/agui/{agent_id}"): lambda of: agui(of),
    ("POST", "/threads/{id}/runs/wait"): lambda of: {
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": "Hm."}]},
    },
    ("POST", "/threads/{id}/runs/{run_id}/cancel"): lambda of: None,
    ("POST", "/runs"): lambda of: NEW_RUN,
    ("POST", "/runs/stream"): lambda of: NEW_RUN,
    ("POST", "/runs/wait"): lambda of: NEW_RUN,
    ("POST", "/runs/batch"): lambda of: [NEW_RUN],
    ("POST", "/runs/cancel"): lambda of: {"run_ids": [of.run]},
    ("POST", "/runs/{id}/cancel"): lambda of: {},
    ("POST", "/approvals/decide"): lambda of: {"decisions": {of.approval: APPROVE}},
    ("POST", "/approvals/{id}/decide"): lambda of: APPROVE,
    ("POST", "/approvals/{id}/preview"): lambda of: {"args": {"note": "Hm."}},
    ("POST", "/approvals/{id}/withdraw"): lambda of: None,
    ("POST", "/approvals/{id}/delegate"): lambda of: {"to": "zed"},
    ("POST", "/approvals/{id}/comment"): lambda of: {"text": "Hm."},
    ("POST", "/approvals/{id}/links"): lambda of: {"recipient": PAT},
    ("POST", "/grants"): lambda of: a_grant(of.thread),
    ("POST", "/notifications/{id}/resend"): lambda of: None,
    ("POST", "/schedules"): lambda of: {**LATER, "thread_id": of.thread},
    ("PATCH", "/schedules/{id}"): lambda of: {"enabled": False},
    ("POST", "/schedules/{id}/run"): lambda of: None,
    ("POST", "/files"): lambda of: b"A file.",
    ("POST", "/broadcast"): lambda of: {"message": "Hm.", "thread_id": of.thread},
    ("POST", "/ws/broadcast"): lambda of: {"message": "Hm."},
    ("POST", "/api/v1/agents/{agent_id}/tasks"): lambda of: {"description": "Hm."},
    ("POST", "/api/v1/agents/{agent_id}/tasks/{task_id}/execute"): lambda of: {},
    ("POST", "/api/chat"): lambda of: {
        "id": of.thread,
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hm."}]}],
    },
    ("POST", "/stream-tickets"): lambda of: {"transport": "sse", "path": "/approvals/stream"},
}
"""A right request for each route that takes one."""

RESUME = {"assistant_id": "agent", "command": {"resume": APPROVE}}

DECIDING: dict[tuple[str, str], Callable[[Things], Any]] = {
    ("POST", "/threads/{id}/runs"): lambda of: RESUME,
    ("POST", "/threads/{id}/runs/stream"): lambda of: RESUME,
    ("POST", "/threads/{id}/runs/wait"): lambda of: RESUME,
    ("POST", "/api/chat"): lambda of: {
        "id": of.thread,
        "messages": [{"id": "m1", "role": "assistant"}],
        "decisions": {of.approval: APPROVE},
    },
    ("POST", "/agui/{agent_id}"): lambda of: {
        **agui(of),
        "resume": [
            {"interruptId": of.approval, "status": "resolved", "payload": {"approved": True}}
        ],
    },
    ("POST", "/threads/{id}/commands"): lambda of: {
        "id": 1,
        "method": "input.respond",
        "params": {"interrupt_id": of.approval, "response": APPROVE},
    },
}
"""A right decision for each route that takes one beside other requests."""

BEFORE_THREADS = "/threads/{id}/stream/events"
"""A socket that opens whether there is the thread or not, and shows nothing of one that is not
seen: `test_a_socket_of_somebody_elses_thread_is_as_one_of_none`."""

QUERIES: dict[tuple[str, str], Callable[[Things], str]] = {
    ("GET", "/store/items"): lambda of: f"?namespace={of.owner}.notes&key=a",
    ("GET", "/schedules/preview"): lambda of: "?cron=0+9+*+*+*",
    ("GET", "/runs/{id}/events"): lambda of: "?before=end",
}
"""A right query for each route that needs one, or reads otherwise with one."""

OF_NOBODY = {
    "/assistants",
    "/runs/crons",
    "/runs",
    "/runs/stream",
    "/runs/wait",
    "/runs/batch",
    "/files",
    "/keys",
    "/stream-tickets",
    "/api/v1/agents/{agent_id}/tasks",
    "/ws/broadcast",
}
"""Routes whose bodies name nothing of anybody's."""


def an_item(of: Things) -> Any:
    return {"namespace": [of.owner, "notes"], "key": "a"}


def agui(of: Things) -> Any:
    """A run of AG-UI's on the person's thread."""
    message = {"id": "m-new", "role": "user", "content": "Hm."}
    return {"threadId": of.thread, "runId": "r-1", "messages": [message]}


def a_grant(thread_id: str = "") -> Any:
    of_thread = {"thread_id": thread_id} if thread_id else {}
    bounds = {"note": {"any": True}}
    return {
        "tool": "pay",
        "bounds": bounds,
        "until": "2099-01-01T00:00:00Z",
        "uses": 1,
        **of_thread,
    }


def agent() -> Any:
    async def pay(note: str) -> str:
        """Pay."""
        return f"paid {note}"

    def reply(messages: list[Any]) -> Any:
        last = messages[-1]
        return call("pay", note=last.text) if last.type == "human" else say(last.text)

    return build_hitl_agent(ScriptedModel(script=reply), [pay], approve=["pay"])


# ── a server ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class World:
    assent: Assent
    app: Any
    prefix: str
    keys: dict[str, str]
    database: Path
    things: dict[str, Things] = field(default_factory=dict)

    def headers(self, who: str, *, has_body: bool = False) -> dict[str, str]:
        key = {"authorization": f"Bearer {self.keys[who]}"} if who in self.keys else {}
        # Of what is a page too, a page: a stream would go on.
        kind = {"content-type": "application/json"} if has_body else {}
        return {**key, **kind, "accept": "application/json"}

    async def ask(self, who: str, method: str, path: str, body: Any = None) -> Answer:
        if isinstance(body, bytes):
            headers = {**self.headers(who), "content-type": "application/octet-stream"}
            return await ask(self.app, method, self.prefix + path, headers, body)
        sent = b"" if body is None else json.dumps(body).encode()
        headers = self.headers(who, has_body=body is not None)
        return await ask(self.app, method, self.prefix + path, headers, sent)

    async def made(self, who: str, path: str, body: Any) -> Any:
        answer = await self.ask(who, "POST", path, body)
        assert answer.status in (200, 201, 202), (path, answer)
        return json.loads(answer.body)

    async def make_things(self, owner: str, named: str) -> Things:
        """Something of each kind that is named: those of `NAMED`."""
        things = Things(owner, canary=f"canary-of-{owner}")
        who = f"{owner}:all"
        if NAMED.file in named:
            things.file = (await self.made(who, "/files", things.canary.encode()))["file_id"]
        if NAMED.schedule in named:
            schedule = {**LATER, "message": things.canary}
            things.schedule = (await self.made(who, "/schedules", schedule))["schedule_id"]
        if NAMED.assistant in named:
            assistant = {"graph_id": "agent", "name": things.canary}
            made = await self.made(who, "/assistants", assistant)
            things.assistant = made["assistant_id"]
        if NAMED.task in named:
            task = {"description": things.canary}
            made = await self.made(who, "/api/v1/agents/agent/tasks", task)
            things.task = made["task_id"]
        if NAMED.key in named:
            made = await self.made(who, "/keys", {"roles": ["operator"]})
            things.key = made["key_id"]
        if any(each in named for each in OF_THREADS):
            paused = await self.made(who, "/agent/invoke", {"message": things.canary})
            things.thread, things.run = paused["thread_id"], paused["run_id"]
            things.approval = paused["approvals"][0]["approval_id"]
        if NAMED.checkpoint in named:
            state = json.loads((await self.ask(who, "GET", f"/threads/{things.thread}/state")).body)
            things.checkpoint = state["checkpoint"]["checkpoint_id"]
        if NAMED.grant in named:
            things.grant = (await self.made(who, "/grants", a_grant(things.thread)))["grant_id"]
        if NAMED.notification in named:
            things.notification = await self.note_of(things)
        return things

    async def note_of(self, things: Things) -> str:
        """A notification that could not be delivered; its id."""
        id = uuid4().hex
        now = utc_now()
        row = Notification(
            notification_id=id,
            thread_id=things.thread,
            approval_id=things.approval,
            endpoint="ops",
            event="approval_required",
            run_id=things.run,
            payload={"data": {"message": things.canary}},
            status=NotificationStatus.DEAD,
            created_at=now,
            next_at=now,
            tenant=TENANTS[things.owner],
        )
        await self.assent.runs.storage.commit(Change(rows=(row,)))
        return id

    def rows(self) -> dict[str, list[Any]]:
        """Everything that is stored, but for what tells that somebody was there."""
        with closing(sqlite3.connect(self.database)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = [name for (name,) in tables if name not in ("workers", "sqlite_stat1")]
            found = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}
            used = "SELECT key_id, person, roles, revoked_at FROM api_keys"
            found["api_keys"] = database.execute(used).fetchall()
        return {name: sorted(map(repr, rows)) for name, rows in found.items()}


FORMS = ("alone", "mounted", "included")


@asynccontextmanager
async def world(folder: Path, form: str) -> AsyncIterator[World]:
    database = folder / "a.db"
    settings = {
        "database": f"sqlite:///{database}",
        "api_keys": "nobody:secret-of-nobody",
        "public_url": "https://assent.example",
        **dict.fromkeys(("rate_limit", "rate_limit_address", "failed_keys"), "1000000/minute"),
    }
    async with Assent({"agent": agent()}, settings=settings) as assent:
        assert assent._served is not None and assent._served.sign_ins is not None
        keys = assent._served.sign_ins.stored.keys
        by = Actor(LOCAL, Authentication.LOCAL)
        texts: dict[str, str] = {}
        for owner, tenant in TENANTS.items():
            asked = {"all": ("operator", "approver"), **(ROLES if owner == PAT else {})}
            for role, roles in asked.items():
                made = await keys.make(Owner(owner, tenant), roles, by)
                texts[f"{owner}:{role}"] = made.text
        app, prefix = assent.app, ""
        if form != "alone":
            app, prefix = FastAPI(), "/under/it"
            if form == "mounted":
                app.mount(prefix, assent.app)
            else:
                app.include_router(assent.router, prefix=prefix)
        found = World(assent, app, prefix, texts, database)
        for owner in TENANTS:
            found.things[owner] = await found.make_things(owner, EVERYTHING)
        yield found


# ── the walk ──────────────────────────────────────────────────────────────────────────────────────


class Asked(NamedTuple):
    method: str
    path: str
    rule: Rule
    is_socket: bool

    @property
    def decides(self) -> bool:
        """Whether it is the body that decides, on a route that takes others as well."""
        return self.rule.deciding and self.rule.right is Right.DECIDE


def routes() -> Iterator[Asked]:
    modules = (*ROUTES, *chain.from_iterable(DIALECT_ROUTES.values()), docs)
    for module in modules:
        sockets = {each.path for each in module.router.routes if isinstance(each, WebSocketRoute)}
        for route in module.router.routes:
            if isinstance(route, JsonRoute):
                for method in sorted(route.methods):
                    is_socket = method == "GET" and route.path in sockets
                    for right in route.rule.rights or (None,):
                        rule = route.rule._replace(right=right)
                        yield Asked(method, route.path, rule, is_socket)


WITH_RULES = [
    each
    for each in routes()
    # It would revoke the keys that this walk is made with.
    if each.rule.right is not None and each[:2] != ("DELETE", "/keys")
]

DONE = (200, 201, 202, 204, 409)
"""The statuses of what may be done; 409 where something else is done there."""


def owners_of(asked: Asked) -> tuple[str, ...]:
    """The people about whose things it may be asked."""
    thing = asked.rule.thing
    if thing in (
        Thing.ITEMS,
        Thing.LIST,
        Thing.SERVER,
        Thing.SESSION,
        Thing.APPROVALS,
        Thing.AGENT_FEED,
    ):
        return (PAT,)
    if thing is Thing.BODY and asked.path in OF_NOBODY:
        return (PAT,)
    return (PAT, OLGA, RITA)


def expected(asked: Asked, role: str, owner: str) -> tuple[int, ...]:
    """The statuses that are right for a request of pat's."""
    right, thing = asked.rule.right, asked.rule.thing
    assert right is not None
    if not has(role, right) or asked.rule.whole:
        return (403,)
    if thing is Thing.KEY:
        is_theirs = owner == PAT or (role == "admin" and owner == OLGA)
        return DONE if is_theirs else (404,)
    if thing is Thing.USER_FEED and role in ("auditor", "admin"):
        # In one's own tenant there is nobody of that name: an empty feed.
        return DONE
    if len(owners_of(asked)) == 1:
        return DONE if not asked.is_socket else (426,)
    of = Thing.THREAD if thing is Thing.BODY else thing
    if asked.decides and owner != PAT:
        # It answers with a run, and those of others are not shown.
        return (404,)
    if asked.path == "/approvals/decide":
        return DONE
    if asked.path == "/api/chat/{id}/stream" and not sees(role, right, of, owner):
        # A page asks for the stream of a conversation that may not have begun.
        return (204,)
    if asked.path == "/grants" and asked.method == "POST":
        return (*DONE, 403) if owner == PAT else (404, 403)
    if not sees(role, right, of, owner):
        return (404,)
    if asked.path.endswith("/withdraw"):
        # There is no vote of theirs.
        return (403, 422)
    if right is Right.DECIDE and role in ("approver-other-tool", "approver-role"):
        # They see it, as it is their own, and their word counts for something else.
        return (403, *DONE) if thing is Thing.GRANT else (403,)
    return (426,) if asked.is_socket else (*DONE, 410)


def body_of(asked: Asked, role: str, things: Things) -> Any:
    if asked.method == "GET" or (asked[:2] not in BODIES and asked.method == "DELETE"):
        return None
    if asked.path == "/keys":
        # They give no more than they have.
        return {"roles": [*ROLES[role]]}
    bodies = DECIDING if asked.decides else BODIES
    assert (asked.method, asked.path) in bodies, f"Say what a right {asked.method} {asked.path} is."
    return bodies[asked.method, asked.path](things)


def path_to(asked: Asked, things: Things) -> str:
    path = things.path(asked.path, asked.rule.thing)
    if asked[:2] in QUERIES:
        path += QUERIES[asked[:2]](things)
    return path


def request_for(asked: Asked, role: str, things: Things) -> str:
    """All in the request that may name one of the things."""
    return f"{path_to(asked, things)} {body_of(asked, role, things)}"


async def answer_to(world: World, role: str, asked: Asked, things: Things) -> Answer:
    body = body_of(asked, role, things)
    return await world.ask(f"{PAT}:{role}", asked.method, path_to(asked, things), body)


def without_ids(answer: Answer, things: Things) -> bytes:
    body = answer.body
    for id in things.ids:
        body = body.replace(id.encode(), b"<id>")
    return body


async def refusals(world: World) -> list[str]:
    """What is not refused as it should be; or is, and tells of what others have."""
    wrong: list[str] = []
    for asked in WITH_RULES:
        nobody = await ask(world.app, asked.method, world.prefix + asked.path, {})
        if nobody.status != 401:
            wrong.append(f"nobody {asked.method} {asked.path}: {nobody}")
        for role in ROLES:
            never = None
            for owner in owners_of(asked):
                right = expected(asked, role, owner)
                if not {*right} <= {403, 404}:
                    continue
                about = f"{role} {asked.method} {asked.path} of {owner}"
                things = world.things[owner]
                answer = await answer_to(world, role, asked, things)
                # A GET that is no handshake need not look any further.
                is_right = answer.status in (*right, *([426] if asked.is_socket else []))
                if not is_right or things.canary.encode() in answer.body:
                    wrong.append(f"{about}: {answer}, not {right}")
                if asked.is_socket:
                    path = world.prefix + things.path(asked.path, asked.rule.thing)
                    headers = world.headers(f"{PAT}:{role}")
                    denied, _, _ = await handshake(world.app, path, headers)
                    is_empty = asked.path == BEFORE_THREADS and (denied, *right) == (101, 404)
                    if denied not in right and not is_empty:
                        wrong.append(f"{about}: a WebSocket gave {denied}, not {right}")
                if answer.status == 404 and asked.rule.thing is not Thing.BODY:
                    # It is as if it never was.
                    never = never or await answer_to(world, role, asked, NEVER)
                    if without_ids(answer, things) != without_ids(never, NEVER):
                        wrong.append(f"{about}: {answer} tells it from {never}")
    return wrong


async def permissions(world: World) -> list[str]:
    """What is refused and should not be; or tells of what is not theirs to see."""
    wrong: list[str] = []
    for asked in WITH_RULES:
        # The other approvers differ from one of everything by the approvals that they see.
        roles = ROLES if asked.rule.right in OF_APPROVALS else OWN
        for role in roles:
            for owner in owners_of(asked):
                right = expected(asked, role, owner)
                if {*right} <= {403, 404}:
                    continue
                changes = asked.method != "GET"
                things = world.things[owner]
                if changes:
                    things = await world.make_things(owner, request_for(asked, role, NAMED))
                answer = await answer_to(world, role, asked, things)
                about = f"{role} {asked.method} {asked.path} of {owner}"
                if answer.status not in right:
                    wrong.append(f"{about}: {answer}, not {right}")
                assert asked.rule.right is not None
                for other in (OLGA, RITA):
                    is_shown = world.things[other].canary.encode() in answer.body
                    if is_shown and not may_show(role, asked.rule, other):
                        wrong.append(f"{about} shows what {other} has: {answer}")
    return wrong


def may_show(role: str, rule: Rule, other: str) -> bool:
    """Whether an answer may have something of theirs in it."""
    assert rule.right is not None
    thing = Thing.APPROVAL if rule.right is Right.SEE else rule.thing
    return sees(role, rule.right, thing, other)


@pytest.mark.parametrize("form", FORMS)
async def test_nobody_does_what_their_role_does_not_permit_or_finds_what_is_not_theirs(
    tmp_path: Path, form: str
) -> None:
    async with world(tmp_path, form) as there:
        before = there.rows()
        wrong = await refusals(there)
        assert not wrong, "\n".join(wrong)
        after = there.rows()
        for name, rows in before.items():
            if name != "audit":
                assert after[name] == rows, name


async def test_what_a_role_permits_is_done_and_shows_nothing_of_others(tmp_path: Path) -> None:
    async with world(tmp_path, "alone") as there:
        wrong = await permissions(there)
        assert not wrong, "\n".join(wrong)


# ── forgetting ────────────────────────────────────────────────────────────────────────────────────


def test_every_route_has_a_rule_and_what_is_open_says_why() -> None:
    rules = [(each.path, each.rule) for each in routes()]
    assert len(rules) > 90
    assert [path for path, rule in rules if rule.right is None and not rule.why_open] == []
    assert [path for path, rule in rules if rule.right is not None and rule.why_open] == []
    assert [path for path, rule in rules if rule.token and rule.right is not Right.READ] == []


def test_a_route_without_a_rule_is_none() -> None:
    router = router_of("forgetful")

    async def show() -> None: ...

    with pytest.raises(TypeError, match="GET /forgotten has no rule"):
        router.get("/forgotten")(show)


async def _socket() -> None: ...


@pytest.mark.parametrize(
    "add",
    [
        lambda app: app.add_api_route("/foreign", _socket),
        lambda app: app.add_route("/plain", _socket),
        lambda app: app.router.routes.append(WebSocketRoute("/socket", _socket)),
        lambda app: app.mount("/mounted", FastAPI()),
    ],
)
def test_the_app_takes_no_route_of_another_kind(add: Callable[[Any], None]) -> None:
    foreign = FastAPI(openapi_url=None)
    add(foreign)
    with pytest.raises(TypeError, match="has no rule"):
        make_app([SimpleNamespace(routes=foreign.routes)], None)  # type: ignore[list-item, arg-type]


def test_a_route_that_is_made_anew_has_its_rule() -> None:
    router = router_of("anew")

    @router.get("/anew")
    @may(Right.AUDIT, Thing.LIST)
    async def show() -> None: ...

    again = JsonRoute("/under/anew", show)
    assert again.rule.right is Right.AUDIT
