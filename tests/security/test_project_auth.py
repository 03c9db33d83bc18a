"""LangGraph's `Auth` of a project: who somebody is, and what of a request is permitted, by the
project's own code."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import Auth
from starlette.testclient import TestClient

from assent import Assent
from assent.api.access.project_auth import ProjectAuth, matches
from assent.api.access.rules import Thing
from assent.api.app import ROUTES
from assent.api.cors import Origins
from assent.api.routes.dialects import DIALECT_ROUTES
from assent.api.routing import JsonRoute
from assent.cli.listening import OpenToAll, bind
from assent.config.settings import Settings
from assent.core.access import Right
from assent.core.assistants import assistant_id_of
from assent.core.errors import AgentLoadError, ConfigurationError
from tests.support.command import REPOSITORY
from tests.support.secrets import bearer, keys_of

ACTIONS = {"create", "read", "update", "delete", "search"}
OF_LANGGRAPH = (
    *(Thing.THREAD, Thing.RUN, Thing.EXECUTION, Thing.TASK, Thing.SCHEDULE, Thing.ITEMS),
    Thing.ASSISTANT,
)

GRAPH = """
from assent import build_hitl_agent
from tests.support.models import ScriptedModel, say

graph = build_hitl_agent(ScriptedModel(script=[say("Hello.")] * 9), [], approve=[])
"""
HEAD = """
from langgraph_sdk import Auth

auth = Auth()
seen = []

PEOPLE = {
    "ann": {"identity": "ann", "permissions": ["threads:read"]},
    "bob": "bob",
    "vic": {"identity": "vic", "assent_roles": ["viewer"]},
    "oz": {"identity": "oz", "assent_roles": ["auditor"]},
}


@auth.authenticate
async def authenticate(headers: dict, method, path, authorization=None, scope=None, request=None):
    name = headers.get(b"x-who", b"").decode()
    if name == "closed":
        raise Auth.exceptions.HTTPException(status_code=403, detail="This account was closed.")
    if name == "teapot":
        raise Auth.exceptions.HTTPException(status_code=418, detail="No.")
    if name == "wrong":
        raise ValueError("secret-of-nobody")
    seen.append((method, path, sorted(scope)))
    return PEOPLE.get(name)
"""
OWNERS = """

@auth.on
async def owned(ctx, value):
    owner = {"owner": ctx.user.identity}
    value.setdefault("metadata", {}).update(owner)
    return owner
"""


def project(folder: Path, code: str, **more: Any) -> str:
    (folder / "graph.py").write_text(GRAPH)
    (folder / "auth.py").write_text(code)
    contents = {
        "graphs": {"agent": "./graph.py:graph"},
        "dependencies": ["."],
        "auth": {"path": "./auth.py:auth", **more},
    }
    (folder / "langgraph.json").write_text(json.dumps(contents))
    return str(folder / "langgraph.json")


@asynccontextmanager
async def serving(folder: Path, code: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    assent = Assent(project(folder, code), database=str(folder / "a.db"), settings=settings)
    async with assent:
        transport = httpx.ASGITransport(assent.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://assent.test") as client:
            yield client


def who(name: str) -> dict[str, str]:
    return {"x-who": name}


async def thread_of(client: httpx.AsyncClient, name: str, **body: Any) -> str:
    made = await client.post("/threads", headers=who(name), json=body)
    assert made.status_code == 200, made.text
    return str(made.json()["thread_id"])


# ── who ──


async def test_the_projects_own_function_says_who_asks(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD) as client:
        for name, status in (
            *(("ann", 200), ("bob", 200), ("vic", 200), ("nobody", 401)),
            *(("closed", 403), ("teapot", 403), ("wrong", 500)),
        ):
            answer = await client.get("/threads", headers=who(name))
            assert answer.status_code == status, (name, answer.text)
            assert "secret-of" not in answer.text
        me = (await client.get("/me", headers=who("ann"))).json()
        assert (me["name"], me["authentication"]) == ("ann", "project")
        assert (await client.post("/threads", headers=who("vic"), json={})).status_code == 403
        path = f"/threads/{await thread_of(client, 'ann')}"
        assert (await client.get(path, headers=who("ann"))).status_code == 200
        assert (await client.get(path, headers=who("bob"))).status_code == 404
        assert (await client.get(path, headers=who("oz"))).status_code == 200


async def test_keys_are_good_beside_it_and_a_foreign_page_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD, api_keys=keys_of("kim")) as client:
        assert (await client.get("/threads", headers=bearer("kim"))).status_code == 200
        assert (await client.get("/threads", headers=bearer("eve"))).status_code == 401
        foreign = {**who("ann"), "origin": "https://evil.example"}
        assert (await client.post("/threads", headers=foreign, json={})).status_code == 403


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("auth = 7", "names a int, and no Auth"),
        ("from langgraph_sdk import Auth\nauth = Auth()", "Add one: @auth.authenticate"),
        (HEAD.replace("async def", "def"), "that is not async"),
        (HEAD.replace("path,", "body,"), "has an authenticate function with a parameter 'body'"),
    ],
)
async def test_an_auth_that_cannot_be_asked_stops_the_start(
    tmp_path: Path, code: str, said: str
) -> None:
    with pytest.raises((ConfigurationError, AgentLoadError), match=said):
        async with serving(tmp_path, code):
            pass


def test_a_server_of_a_project_that_knows_people_may_be_reached_from_elsewhere(
    tmp_path: Path,
) -> None:
    """It starts with the `Auth`, or not at all."""
    settings = Settings.given({"database": f"sqlite:///{tmp_path / 'a.db'}"})
    target = project(tmp_path, HEAD)
    bind("0.0.0.0", 0, settings, target).close()
    without = {"graphs": {"agent": "./graph.py:graph"}, "dependencies": ["."], "auth": {}}
    Path(target).write_text(json.dumps(without))
    for of in (target, str(tmp_path / "graph.py:graph"), None):
        with pytest.raises(OpenToAll):
            bind("0.0.0.0", 0, settings, of)


async def test_only_one_can_say_who_somebody_is(tmp_path: Path) -> None:
    assent = Assent(project(tmp_path, HEAD), database=str(tmp_path / "a.db"), auth=lambda: "ann")
    with pytest.raises(ConfigurationError, match="was given both"):
        async with assent:
            pass


# ── what ──


async def test_a_filter_holds_beside_the_owner_and_never_in_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + OWNERS) as client:
        assert (await client.post("/threads", headers=who("ann"))).status_code == 422
        anns = await thread_of(client, "ann", metadata={"project": "x"})
        found = (await client.get(f"/threads/{anns}", headers=who("ann"))).json()
        assert found["metadata"] == {"project": "x", "owner": "ann"}
        # The auditor sees the tenant's threads, and the project's rules let them see their own.
        for path in ("", "/state", "/events", "/runs"):
            theirs = await client.get(f"/threads/{anns}{path}", headers=who("oz"))
            assert theirs.status_code == 404, path
        listed = (await client.get("/threads", headers=who("oz"))).json()
        assert listed["threads"] == []
        listed = (await client.get("/threads", headers=who("ann"))).json()
        assert [each["thread_id"] for each in listed["threads"]] == [anns]
        body = {"message": "Hi", "metadata": {"a": 1}}
        answer = await client.post("/agent/invoke", headers=who("ann"), json=body)
        assert answer.status_code == 200, answer.text
        run = (await client.get(f"/runs/{answer.json()['run_id']}", headers=who("ann"))).json()
        assert run["metadata"] == {"a": 1, "owner": "ann"}
        path = f"/runs/{run['run_id']}"
        assert (await client.get(path, headers=who("oz"))).status_code == 404
        runs = (await client.get("/runs", headers=who("oz"))).json()
        assert runs["runs"] == []
        # Items have no metadata that a filter could be about.
        search = await client.post("/store/items/search", json={}, headers=who("ann"))
        assert search.status_code == 403


def test_a_query_begins_what_the_projects_rules_let_it_begin(tmp_path: Path) -> None:
    assent = Assent(project(tmp_path, HEAD + OWNERS), database=str(tmp_path / "a.db"))
    with TestClient(assent.app, base_url="https://assent.test") as client:
        with client.websocket_connect("/ws/query", headers=who("ann")) as socket:
            socket.send_json({"query": "Hi"})
            kinds = [socket.receive_json()["type"] for _ in range(2)]
            while kinds[-1] not in ("agent_execution_complete", "agent_execution_error"):
                kinds.append(socket.receive_json()["type"])
        assert kinds[-1] == "agent_execution_complete", kinds
        [thread] = client.get("/threads", headers=who("ann")).json()["threads"]
        assert thread["metadata"]["owner"] == "ann"


SPECIFIC = """

@auth.on
async def everything(ctx, value):
    return ctx.user.identity == "ann"


@auth.on.threads
async def threads(ctx, value):
    raise Auth.exceptions.HTTPException(status_code=403, detail="Not the threads.")


@auth.on.threads.search
async def search(ctx, value):
    assert (ctx.resource, ctx.action) == ("threads", "search")
    return None


@auth.on.threads.read
async def read(ctx, value):
    return "threads:read" in ctx.permissions and {"kind": {"$contains": "open"}}


@auth.on.threads.create
async def create(ctx, value):
    value["metadata"]["kind"] = ["open"] if value.get("thread_id") == "t-open" else []
    return True


@auth.on.store
async def store(ctx, value):
    value["namespace"] = (ctx.user.identity, *value["namespace"])


@auth.on.threads.create_run
async def create_run(ctx, value):
    return value.get("thread_id") == "t-open"


@auth.on(resources="crons", actions="search")
async def crons(ctx, value):
    return 7
"""


async def test_the_most_specific_rule_is_asked(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + SPECIFIC) as client:

        async def status(name: str, method: str, path: str, **body: Any) -> int:
            given = {"json": body} if method != "GET" else {}
            answer = await client.request(method, path, headers=who(name), **given)
            return answer.status_code

        for thread in ("t-open", "t-closed"):
            await thread_of(client, "ann", thread_id=thread)
        assert await status("ann", "GET", "/threads/t-open") == 200
        assert await status("ann", "GET", "/threads/t-closed") == 404
        assert await status("bob", "GET", "/threads/t-open") == 403, "without the permission"
        # Other programs' ways to the same are no way round it.
        for path in ("/poll/human-input/{}", "/progress/{}/summary"):
            assert await status("ann", "GET", path.format("t-open")) == 200, path
            assert await status("ann", "GET", path.format("t-closed")) == 404, path
            assert await status("bob", "GET", path.format("t-open")) == 403, path
        assert await status("ann", "GET", "/ws/query") == 403
        said = {
            "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]
        }
        assert await status("ann", "POST", "/api/chat", id="t-closed", **said) == 403
        assert await status("ann", "POST", "/api/chat", id="t-open", **said) == 200
        assert await status("bob", "GET", "/threads") == 200
        refused = await client.request("DELETE", "/threads/t-open", headers=who("ann"))
        assert (refused.status_code, "Not the threads." in refused.text) == (403, True)
        assert await status("ann", "GET", "/agents") == 200
        assert await status("bob", "GET", "/agents") == 403
        assert await status("ann", "GET", "/schedules") == 500, "it gave what is no answer"
        # What LangGraph has no name for goes by the roles alone.
        assert await status("bob", "GET", "/approvals") == 200

        item = {"namespace": ["notes"], "key": "k", "value": {"a": 1}}
        assert await status("ann", "PUT", "/store/items", **item) == 204
        asked = "/store/items?namespace=notes&key=k"
        found = (await client.get(asked, headers=who("ann"))).json()
        assert found["namespace"] == ["ann", "notes"], "as the project's rule has made it"
        assert (await client.get(asked, headers=who("bob"))).json() is None


PARTS = """

@auth.on.threads
async def of_threads(ctx, value):
    return {"owner": ctx.user.identity}


@auth.on.threads.create_run
async def create_run(ctx, value):
    is_agents = value.get("assistant_id") == "ID"
    if not is_agents or value.get("thread_id") == "t-closed":
        return False
    value["metadata"]["owner"] = ctx.user.identity


@auth.on.threads.delete
async def delete(ctx, value):
    return value["thread_id"] != "t-kept" and {"owner": ctx.user.identity}
""".replace("ID", assistant_id_of("agent"))


async def test_a_rule_is_asked_about_each_thing_that_a_request_asks_for(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + PARTS) as client:

        async def status(path: str, body: Any) -> int:
            return (await client.post(path, headers=who("ann"), json=body)).status_code

        hi = {"assistant_id": "agent", "input": {"messages": "Hi"}}
        other = {**hi, "assistant_id": "other"}
        start = {"id": 1, "method": "run.start", "params": hi}
        assert await status("/threads/t-1/commands", start) == 200
        assert await status("/threads/t-closed/commands", start) == 403
        assert await status("/threads/t-1/commands", {**start, "params": other}) == 403
        assert await status("/runs/batch", [hi, other]) == 403
        # Whichever way the agent is named.
        by_id = {**hi, "assistant_id": assistant_id_of("agent")}
        for path, body, expected in (
            ("/runs/wait", by_id, 200),
            ("/agent/runs", {"message": "Hi", "agent": "agent"}, 202),
            ("/agent/runs", {"message": "Hi"}, 202),
            ("/agent/runs", {"message": "Hi", "agent": "other"}, 403),
            ("/agui/other", {"assistant_id": "agent", "agent": "agent"}, 403),
            ("/api/chat?agent=other", {"assistant_id": "agent", "agent": "agent"}, 403),
            ("/agent/runs", {"message": "Hi", "thread_id": "t-new"}, 202),
        ):
            assert await status(path, body) == expected, path
        assert await status("/runs/batch", [hi, "no run"]) == 422
        assert await status("/runs/batch", [hi] * 1001) == 422
        assert await status("/runs/batch", [hi, hi]) == 200
        # What is begun so has what the rule has written.
        found = await client.post("/threads/search", headers=who("ann"), json={})
        assert [each["metadata"]["owner"] for each in found.json()] == ["ann"] * 7

        for name in ("t-kept", "t-gone"):
            made = {"thread_id": name, "metadata": {"owner": "ann"}}
            assert await status("/threads", made) == 200
        for ids in (["t-gone", "t-kept"], ["t-kept"]):
            assert await status("/threads/prune", {"thread_ids": ids}) == 403
        assert await status("/threads/prune", {"thread_ids": ["t-gone"]}) == 200


OF_ASSISTANTS = """


@auth.on.assistants.create
async def made(ctx, value):
    assert value["graph_id"] == "agent"
    value["metadata"]["team"] = value.get("name")


@auth.on.assistants
async def of_the_open_team(ctx, value):
    return {"team": "open"}


@auth.on.assistants.delete
async def kept(ctx, value):
    return value["assistant_id"] != "kept"
"""


async def test_a_filter_leaves_the_assistants_that_match_and_the_agents(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + OF_ASSISTANTS) as client:

        async def asked(method: str, path: str, **body: Any) -> Any:
            given = {"json": body} if method not in ("GET", "DELETE") else {}
            return await client.request(method, path, headers=who("ann"), **given)

        ids = {}
        for name in ("open", "closed"):
            made = (await asked("POST", "/assistants", graph_id="agent", name=name)).json()
            assert made["metadata"] == {"team": name}
            ids[name] = f"/assistants/{made['assistant_id']}"
        for path, status in ((ids["open"], 200), (ids["closed"], 404), ("/assistants/agent", 200)):
            assert (await asked("GET", path)).status_code == status
            assert (await asked("POST", f"{path}/versions")).status_code == status
            assert (await asked("GET", f"{path}/schemas")).status_code == status
        for path, status in ((ids["open"], 200), (ids["closed"], 404)):
            assert (await asked("PATCH", path, name="New")).status_code == status
            assert (await asked("POST", f"{path}/latest", version=1)).status_code == status
        found = (await asked("POST", "/assistants/search", sort_order="asc")).json()
        assert [each["name"] for each in found] == ["agent", "open"]
        assert (await asked("POST", "/assistants/count")).json() == 2
        # Of threads it would not be asked.
        refused = await asked("DELETE", f"{ids['open']}?delete_threads=true")
        assert (refused.status_code, "prune" in refused.text) == (422, True)
        assert (await asked("DELETE", ids["open"])).status_code == 204


def test_every_action_that_langgraph_names_is_asked_about_or_there_is_none_of_it_here() -> None:
    rules = [
        route.rule
        for module in (*ROUTES, *chain.from_iterable(DIALECT_ROUTES.values()))
        for route in module.router.routes
        if isinstance(route, JsonRoute)
    ]
    asked = {".".join(rule.langgraph) for rule in rules if rule.langgraph is not None}
    auth = Auth()
    named = {
        f"{resource}.{action}"
        for resource, known in (
            ("threads", ACTIONS | {"create_run"}),
            ("assistants", ACTIONS),
            ("crons", ACTIONS),
            ("store", {"put", "get", "search", "delete", "list_namespaces"}),
        )
        for action in known
        if hasattr(getattr(auth.on, resource), action)
    }
    assert len(named) == 21 and asked <= named
    page = (REPOSITORY / "docs/how-to/bring-your-own-graph.md").read_text(encoding="utf-8")
    table = page.partition("| a handler of | is asked about |")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.MULTILINE))
    for handlers, about in told.items():
        for each in re.findall(r"[\w.]+", handlers):
            assert (each in asked) is not about.startswith("nothing: "), each
            named.remove(each)
    assert named == set(), "The page says nothing of these."
    # None of these may be done to what LangGraph has a name for without asking the project.
    for rule in rules:
        if rule.thing in OF_LANGGRAPH and rule.right in (Right.READ, Right.RUN, Right.STOP):
            assert rule.langgraph is not None, rule


@pytest.mark.parametrize(
    ("conditions", "metadata", "holds"),
    [
        ({}, {}, True),
        ({"a": "x"}, {"a": "x", "b": 1}, True),
        ({"a": "x"}, {}, False),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": {"$eq": "x"}}, {"a": "x"}, True),
        ({"a": {"$eq": "x"}}, {"a": ["x"]}, False),
        ({"a": {"$contains": "x"}}, {"a": ["y", "x"]}, True),
        ({"a": {"$contains": "x"}}, {"a": "xyz"}, False),
        ({"a": {"$contains": ["x", "y"]}}, {"a": ["y", "x", "z"]}, True),
        ({"a": {"$contains": ["x", "y"]}}, {"a": ["x"]}, False),
        ({"a": {}}, {"a": {}}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {}, True),
        ({"a": "x", "b": "y"}, {"a": "x"}, False),
    ],
)
def test_filters_are_those_of_langgraph(
    conditions: dict[str, Any], metadata: dict[str, Any], holds: bool
) -> None:
    assert matches(conditions, metadata) is holds


def test_what_is_read_of_an_auth_is_there() -> None:
    """The names that are no part of its public interface, of which its makers say that to change
    them would break servers."""
    auth = Auth()

    @auth.authenticate
    async def authenticate() -> str:
        return "ann"

    @auth.on.threads.read
    async def read(ctx: Any, value: Any) -> None: ...

    @auth.on
    async def everything(ctx: Any, value: Any) -> None: ...

    assert auth._authenticate_handler is authenticate
    assert auth._handlers == {("threads", "read"): [read]}
    assert auth._global_handlers == [everything]
    assert ProjectAuth(auth, Origins()).kind == "project"


async def test_a_ticket_could_not_say_who_they_are(tmp_path: Path) -> None:
    body = {"path": "/threads/t/events", "transport": "sse"}
    async with serving(tmp_path, HEAD) as client:
        refused = await client.post("/stream-tickets", json=body, headers={"x-who": "ann"})
        assert refused.status_code == 409
