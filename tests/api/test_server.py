"""The server itself: health, agents, its OpenAPI document, its keys, and how it answers what it
does not understand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi.openapi.models import OpenAPI

from assent.core.events import EVENT_TYPES
from tests.support.agents import ALL
from tests.support.server import Api, Server, asking, expect, problem, scripted_agents, serving

AGENTS = ALL


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health", "healthy"), ("/health/live", "healthy"), ("/health/ready", "ready")],
)
async def test_it_is_healthy(api: Api, path: str, status: str) -> None:
    answer = await api.get(path)
    timestamp = datetime.fromisoformat(answer.pop("timestamp"))
    assert timestamp.tzinfo is not None
    assert answer == {"status": status, "version": version("assent")}


async def test_it_lists_its_agents_and_which_tools_need_a_person(api: Api) -> None:
    agents = (await api.get("/agents"))["agents"]
    assert [agent["agent"] for agent in agents] == list(ALL)
    tools = {tool["name"]: tool["needs_approval"] for tool in agents[0]["tools"]}
    assert tools == {
        "look": False,
        "pay": True,
        "slow": True,
        "hold": False,
        "die": True,
        "fail": False,
        "refuse": False,
    }
    pay = next(tool["schema"] for tool in agents[0]["tools"] if tool["name"] == "pay")
    assert pay["properties"]["amount"]["type"] == "integer"
    assert [agent.get("chat_decisions") for agent in agents[:3]] == [False, False, True]
    foreign = next(agent for agent in agents if agent["agent"] == "foreign")
    assert foreign["nodes"] == ["think", "tools"]


async def test_it_shows_the_graph_of_each_agent(api: Api) -> None:
    for name in ALL:
        shown = await api.get(f"/agents/{name}/graph")
        assert shown["agent"] == name
        for graph in shown["graphs"]:
            ids = {node["id"] for node in graph["nodes"]}
            assert {
                side for edge in graph["edges"] for side in (edge["source"], edge["target"])
            } <= ids
    (graph,) = (await api.get("/agents/agent/graph"))["graphs"]
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert nodes["__start__"]["kind"] == "start" and nodes["__end__"]["kind"] == "end"
    assert nodes["approval"] == {
        "id": "approval",
        "kind": "node",
        "pauses": ["before"],
        "tools": [],
    }
    assert "pay" in nodes["tools"]["tools"]
    gone = await problem(await api.http.get("/agents/nobody/graph"), 404)
    assert gone["detail"].startswith("There is no agent 'nobody'. There are: agent, ")


# ── the document ──────────────────────────────────────────────────────────────────────────────────


async def test_the_document_is_valid_and_shows_every_route(api: Api) -> None:
    document = await api.get("/openapi.json")
    OpenAPI.model_validate(document)
    # Two classes of one name would show the modules that they are in.
    assert not [name for name in document["components"]["schemas"] if "__" in name]
    routes = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert routes >= {
        *("POST /agent/stream", "POST /agent/invoke", "POST /agent/runs", "GET /runs"),
        *("GET /threads", "POST /threads", "GET /threads/{id}", "DELETE /threads/{id}"),
        *(
            "GET /threads/{id}/state",
            "POST /threads/{id}/state",
            "GET /threads/{id}/state/{checkpoint_id}",
            "GET /threads/{id}/history",
            "POST /threads/{id}/history",
            "GET /threads/{id}/events",
            "POST /threads/{id}/resume",
        ),
        *("GET /approvals", "GET /approvals/{id}", "POST /approvals/{id}/decide"),
        *(
            "GET /threads/{id}/runs",
            "POST /threads/{id}/runs",
            "GET /threads/{id}/runs/{run_id}",
            "DELETE /threads/{id}/runs/{run_id}",
            "POST /threads/{id}/cancel",
            "POST /threads/{id}/fork",
        ),
        *(
            "GET /runs/{id}",
            "GET /runs/{id}/wait",
            "GET /runs/{id}/stream",
            "POST /runs/{id}/cancel",
        ),
        *("GET /agents", "GET /health", "GET /health/live", "GET /health/ready"),
    }


async def test_the_document_has_a_schema_for_every_event_type_that_every_event_fits(
    api: Api, thread: str, amount: int
) -> None:
    document = await api.get("/openapi.json")
    schemas = document["components"]["schemas"]
    tags = {
        schema["properties"]["type"]["enum"][0]
        for schema in schemas.values()
        if "enum" in schema.get("properties", {}).get("type", {})
    }
    assert tags >= EVENT_TYPES.keys()
    assert len(schemas["Event"]["anyOf"]) == len(EVENT_TYPES)
    for reference in set(_references(document)):
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in document["components"][kind], reference
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    event = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/Event", "components": document["components"]}
    )

    await api.stream(f"fail {amount}; look {amount}; pay {amount}", thread_id=thread)
    await api.decided(thread, type="edit", args={"amount": amount})
    await api.at_rest(thread)
    await api.stream("boom", thread_id=thread)
    sent = await api.events(thread)
    assert len({item["type"] for item in sent}) >= 16
    for item in sent:
        event.validate(item)
    with pytest.raises(jsonschema.ValidationError):
        event.validate({**sent[0], "type": "surprise"})
    with pytest.raises(jsonschema.ValidationError):
        event.validate({**sent[0], "agent": 5})


async def test_the_document_says_that_streams_are_events(api: Api) -> None:
    paths = (await api.get("/openapi.json"))["paths"]
    for path, method in (
        ("/agent/stream", "post"),
        ("/threads/{id}/events", "get"),
        ("/threads/{id}/resume", "post"),
        ("/runs/{id}/stream", "get"),
    ):
        content = paths[path][method]["responses"]["200"]["content"]
        assert content["text/event-stream"]["schema"] == {"$ref": "#/components/schemas/EventFrame"}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


# ── what it does not understand ───────────────────────────────────────────────────────────────────


async def test_head_is_taken_wherever_get_is(api: Api, thread: str) -> None:
    run = (await api.stream("tell 1", thread_id=thread))[-1]["run_id"]
    paths = (await api.get("/openapi.json"))["paths"]
    ids = {"/runs": run, "/threads": thread}
    for path in [*(path for path, methods in paths.items() if "get" in methods), "/docs"]:
        url = path.replace("{id}", ids.get(path[: path.find("/", 1)], "x")).replace("{token}", "x")
        # A stream has no end that one could wait for, so for the comparison a page is asked for, and
        # nothing is read where there is none.
        head = await api.http.head(url)
        async with api.http.stream("GET", url, headers={"accept": "application/json"}) as got:
            if "text/event-stream" not in got.headers.get("content-type", ""):
                await got.aread()
        assert (head.status_code, head.content) == (got.status_code, b""), url
        # And what was counted has changed since.
        is_stream = "text/event-stream" in head.headers.get("content-type", "")
        if not is_stream and head.status_code != 204 and path != "/metrics":
            assert head.headers["content-length"] == got.headers["content-length"], url
    assert (await api.http.head("/agent/stream")).status_code == 405
    # The connections are in order after it.
    await api.get("/health")


async def test_what_is_not_there_and_what_is_not_taken_are_problems_too(api: Api) -> None:
    missing = (await problem(await api.http.get("/nowhere"), 404))["detail"]
    assert missing == "There is no /nowhere on this server. /docs lists what there is."
    refused = await api.http.put("/threads")
    assert "PUT" in (await problem(refused, 405))["detail"]
    assert set(refused.headers["allow"].split(", ")) <= {"GET", "POST"}
    await problem(await api.http.get("/threads/a/b/c"), 404)


NOT_JSON = {
    "not JSON": b'{"message": ',
    "nothing but white space": b" ",
    "two values": b'{"message": "tell 1"} {}',
    "a comma at the end": b'{"message": "tell 1",}',
    "not UTF-8": b'{"message": "\xff\xfe"}',
    "a mark before it": b'\xef\xbb\xbf{"message": "tell 1"}',
    "UTF-16": '{"message": "tell 1"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"message": "tell 1"}'.encode("utf-16-le"),
    "UTF-32": '{"message": "tell 1"}'.encode("utf-32"),
    "UTF-32 without a mark": '{"message": "tell 1"}'.encode("utf-32-be"),
    "NaN": b'{"message": "tell 1", "metadata": {"a": NaN}}',
    "minus infinity": b'{"message": "tell 1", "metadata": {"a": -Infinity}}',
    "a field twice": b'{"message": "tell 1", "message": "tell 2"}',
    "a field twice, once escaped": b'{"message": "tell 1", "\\u006dessage": "tell 2"}',
    "a field twice, deep inside": b'{"message": "tell 1", "metadata": {"a": [{"b": 1, "b": 1}]}}',
    "half a character": b'{"message": "\\ud800"}',
    "NUL, deep inside": b'{"message": "tell 1", "metadata": {"a": [{"b": "\\u0000"}]}}',
    "an integer that nobody can hold": b'{"message": "tell 1", "metadata": {"a": %s}}'
    % (b"9" * 100),
    "too many fields": json.dumps(
        {"message": "tell 1", "metadata": {str(n): 0 for n in range(70_000)}}
    ).encode(),
    "deep metadata": b'{"message": "tell 1", "metadata": {"a": %s%s}}' % (b"[" * 63, b"]" * 63),
}
BODIES = {
    "nothing": b"",
    "an array": b"[]",
    "a string": b'"pay 1"',
    "no message": b"{}",
    "an empty message": b'{"message": ""}',
    "a number for a message": b'{"message": 5}',
    "too long a message": json.dumps({"message": "x" * 300_000}).encode(),
    "a field that nobody knows": b'{"message": "tell 1", "threadid": "x"}',
    "metadata that is no object": b'{"message": "tell 1", "metadata": [1]}',
    "an if_paused that nobody knows": b'{"message": "tell 1", "if_paused": "ignore"}',
    "much metadata": json.dumps(
        {"message": "tell 1", "metadata": {str(n): 0 for n in range(10_000)}}
    ).encode(),
    "much metadata, deep inside": json.dumps(
        {"message": "tell 1", "metadata": {"a": [{str(n): 0} for n in range(1000)]}}
    ).encode(),
}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("name", NOT_JSON)
async def test_a_body_that_is_not_json_is_a_400_and_changes_nothing(api: Api, name: str) -> None:
    before = await api.get("/threads")
    for path in ("/agent/invoke", "/agent/stream"):
        response = await api.http.post(path, content=NOT_JSON[name], headers=JSON)
        assert (await problem(response, 400))["detail"].endswith(". Nothing was changed.")
    assert await api.get("/threads") == before


async def test_a_decision_that_says_two_things_is_none(api: Api, thread: str, amount: int) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    id = approval["approval_id"]
    twice = b'{"type": "reject", "type": "approve"}'
    both = b'{"decisions": {"%s": {"type": "reject"}, "%s": {"type": "approve"}}}'
    for path, body in (
        (f"/threads/{thread}/resume", twice),
        (f"/approvals/{id}/decide", twice),
        (f"/threads/{thread}/resume", both % (id.encode(), id.encode())),
        ("/approvals/decide", both % (id.encode(), id.encode())),
    ):
        response = await api.http.post(path, content=body, headers=JSON)
        assert "more than once" in (await problem(response, 400))["detail"]
    assert [each["approval_id"] for each in await api.pending(thread)] == [id]


async def test_a_thousand_fields_of_metadata_are_taken(api: Api, thread: str) -> None:
    metadata = {str(n): n for n in range(1000)}
    await expect(
        await api.http.post("/threads", json={"thread_id": thread, "metadata": metadata}), 200
    )
    assert (await api.get(f"/threads/{thread}"))["metadata"] == metadata


async def test_a_parameter_that_nobody_knows_is_refused(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    for path, name in (
        ("/approvals?statsu=pending", "statsu"),
        (f"/threads/{thread}/events?from=3", "from"),
        (f"/threads/{thread}/history?limit=1&after=2", "after"),
        ("/agents?limit=3", "limit"),
    ):
        told = await problem(await api.http.get(path), 422)
        assert f"has no query parameter '{name}'" in told["detail"]
    assert (
        "limit, q, sort, status" in (await problem(await api.http.get("/threads?x"), 422))["detail"]
    )
    await problem(await api.http.post(f"/threads/{thread}/cancel?mode=rollback"), 422)
    # What passes links on may add to them.
    await expect(await api.http.get("/links/x?utm_source=mail"), 404)


async def test_a_time_that_no_calendar_has_is_refused(api: Api) -> None:
    for path, parameters in (
        ("/approvals", {"older_than": "9999999d"}),
        ("/audit", {"since": "0001-01-01T00:00:00+14:00"}),
    ):
        await problem(await api.http.get(path, params=parameters), 422)
    grant = {"tool": "pay", "bounds": {}, "uses": 1, "until": "9999-12-31T23:59:59-12:00"}
    told = await problem(await api.http.post("/grants", json=grant), 422)
    assert "'until': it is out of range" in told["detail"]


async def test_a_thread_can_be_made_without_a_body(api: Api) -> None:
    made = (await expect(await api.http.post("/threads"), 200)).json()
    assert (await api.get(f"/threads/{made['thread_id']}"))["status"] == "idle"


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_is_a_422_and_changes_nothing(api: Api, name: str) -> None:
    before = await api.get("/threads")
    for path in ("/agent/invoke", "/agent/stream"):
        await problem(await api.http.post(path, content=BODIES[name], headers=JSON), 422)
    assert await api.get("/threads") == before


async def test_a_mistake_is_told_in_words_that_name_it(api: Api) -> None:
    said = {
        b"": "The body: it is missing. Nothing was changed.",
        b"[]": "The body: it should be a JSON object. Nothing was changed.",
        b'{"message": "x", "treadid": "t"}': "In the body, 'treadid': there is no such field. Nothing was changed.",
        b'{"message": "x", "metadata": []}': "In the body, 'metadata': it should be a JSON object. Nothing was changed.",
        b'{"message": "x", "priority": 1e40}': "In the body, 'priority': it should be a whole number. Nothing was changed.",
        b'{"message": "", "thread_id": "a b"}': (
            "In the body, 'message': it is empty. "
            "In the body, 'thread_id': an id is 1 to 64 letters, digits, '_' or '-'. Nothing was changed."
        ),
    }
    for body, sentence in said.items():
        response = await api.http.post(
            "/agent/invoke", content=body, headers={"content-type": "application/json"}
        )
        assert (await problem(response, 422))["detail"] == sentence
    assert "changed" not in (await problem(await api.http.get("/threads?limit=0"), 422))["detail"]


DECISIONS = {
    "half a surrogate pair in an argument": b'{"type": "edit", "args": {"amount": 1, "note": "\\ud800"}}',
    "half a surrogate pair in a reason": b'{"type": "reject", "message": "\\ud800"}',
    "half a surrogate pair in an answer": b'{"type": "respond", "message": "\\ud800"}',
    "half a surrogate pair in an id": b'{"decisions": {"\\ud800": {"type": "approve"}}}',
    "NUL in an argument": b'{"type": "edit", "args": {"amount": 1, "note": "\\u0000"}}',
    "an answer of an integer that nobody can hold": b'{"type": "respond", "message": %s}'
    % (b"9" * 100),
    "a deep answer": b'{"type": "respond", "message": %s%s}' % (b"[" * 400, b"]" * 400),
    "a very deep answer": b'{"type": "respond", "message": %s%s}' % (b"[" * 50_000, b"]" * 50_000),
}


@pytest.mark.parametrize("name", DECISIONS)
async def test_a_decision_that_cannot_be_stored_is_refused_and_changes_nothing(
    api: Api, thread: str, amount: int, name: str
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    before = await api.get(f"/threads/{thread}"), await api.events(thread)
    response = await api.http.post(
        f"/threads/{thread}/resume",
        content=DECISIONS[name],
        headers={"content-type": "application/json"},
    )
    await problem(response, 400)
    assert (await api.get(f"/threads/{thread}"), await api.events(thread)) == before


async def test_a_body_that_is_too_large_is_a_413(api: Api) -> None:
    before = await api.get("/threads")
    body = b'{"message": "tell 1", "metadata": {"a": "%s"}}' % (b"x" * 2**20)
    headers = {"content-type": "application/json"}
    await problem(await api.http.post("/agent/invoke", content=body, headers=headers), 413)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    # Without a length, too.
    await problem(await api.http.post("/agent/invoke", content=pieces(), headers=headers), 413)
    assert await api.get("/threads") == before


async def test_values_at_the_edge_of_what_json_holds_come_back_as_they_were(
    api: Api, thread: str
) -> None:
    metadata = {
        "zero": 0,
        "float": 1.5e300,
        "int": 2**63 - 1,
        "text": "Größe ☃ \u0001 \u2028",
        "": None,
        "deep": [[[{}]]],
    }
    await api.stream("tell 1 ☃ \u0001 \u2028 end", thread_id=thread, metadata=metadata)
    assert (await api.get(f"/threads/{thread}"))["metadata"].items() > metadata.items()
    start = (await api.events(thread))[0]
    assert (start["metadata"], start["message"]) == (metadata, "tell 1 ☃ \u0001 \u2028 end")


# ── who may ask ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"],
)
async def test_without_keys_it_answers_under_loopbacks_names_only(
    api: Api, server: Server, host: str
) -> None:
    for method, path in (("GET", "/health"), ("GET", "/threads"), ("POST", "/agent/stream")):
        await problem(await api.http.request(method, path, headers={"host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "[::1]"])
async def test_loopbacks_names_are_answered(api: Api, server: Server, host: str) -> None:
    await expect(await api.http.get("/health", headers={"host": f"{host}:{server.port}"}), 200)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:8000",
        "http://127.0.0.1.evil.example",
        "null",
        "",
    ],
)
async def test_without_keys_it_answers_no_page_of_another_host(
    api: Api, thread: str, origin: str
) -> None:
    """What needs no body, such as to cancel, is sent without asking the server first."""
    run = await api.run(thread, "tell 1", after_seconds=600)
    for path in (
        f"/threads/{thread}/cancel",
        f"/runs/{run['run_id']}/cancel",
        f"/threads/{thread}/fork",
    ):
        await problem(await api.http.post(path, headers={"origin": origin}), 403)
    assert (await api.get(f"/runs/{run['run_id']}"))["status"] == "pending"
    await expect(
        await api.http.post(
            f"/runs/{run['run_id']}/cancel", headers={"origin": "http://localhost:5173"}
        ),
        200,
    )


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_what_any_web_page_may_send_decides_nothing(
    api: Api, server: Server, thread: str, amount: int, content_type: str | None
) -> None:
    """A page from anywhere may send these to loopback without asking the server first (CORS calls
    them simple)."""
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    before = await api.events(thread)
    headers = {"content-type": content_type} if content_type else {}
    for path in (f"/threads/{thread}/resume", f"/approvals/{approval['approval_id']}/decide"):
        await problem(
            await api.http.post(path, content=b'{"type": "approve"}', headers=headers), 415
        )
    message = b'{"message": "x", "thread_id": "%s", "if_paused": "reject"}' % thread.encode()
    await problem(await api.http.post("/agent/stream", content=message, headers=headers), 415)
    assert await api.events(thread) == before
    assert server.traces(f"pay {amount}") == []


FREE = {
    *("/health", "/health/live", "/health/ready", "/links/page.css", "/links/{token}"),
    *("/session", "/session/login", "/session/callback", "/session/callback.js"),
    "/session/issuers",
    *("/info", "/ok", "/slack/actions"),
}
"""What needs no key: a link is one, whoever signs in has not shown theirs, clients ask what the
server is before anything else, and Slack signs what it sends."""


async def test_with_keys_each_route_but_the_free_ones_needs_one_and_decisions_bear_its_name(
    tmp_path: Path,
) -> None:
    keys = "ann:annas-secret,bob:bobs-secret"
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_API_KEYS=keys) as server:
        async with (
            asking(server) as nobody,
            asking(server, authorization="Bearer annas-secret") as ann,
        ):
            document = await ann.get("/openapi.json")
            for path, methods in document["paths"].items():
                for method in methods:
                    if path not in FREE:
                        for header in ("", "Bearer wrong-secret"):
                            await _needs_a_key(nobody.http, method, path, header)
            for header in ("Bearer", "Bearer annas-secre", "Basic annas-secret", "annas-secret"):
                await _needs_a_key(nobody.http, "get", "/threads", header)
            for path in ("/health", "/health/live", "/health/ready"):
                await nobody.get(path)

            (approval,) = await ann.paused("pay 1", thread_id="t")
            async with asking(server, authorization="bearer bobs-secret") as bob:
                answer = await bob.decided("t", type="approve")
            (stored,) = answer["decisions"].values()
            assert stored["decided_by"] == "bob"
            late = await problem(await ann.resume("t", type="reject"), 409)
            assert (late["decided_by"], late["approval_id"]) == ("bob", approval["approval_id"])
            decided = [
                event for event in await ann.events("t") if event["type"] == "approval_decided"
            ]
            assert [event["by"] for event in decided] == ["bob"]
            # With keys, the server may be reached under any name.
            await expect(await ann.http.get("/threads", headers={"host": "assent.example"}), 200)
        assert "annas-secret" not in server.output


async def _needs_a_key(http: httpx.AsyncClient, method: str, path: str, header: str) -> None:
    headers = {"authorization": header} if header else {}
    refused = await http.request(method, path.replace("{id}", "t"), headers=headers)
    await problem(refused, 401)
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_it_serves_many_readers_at_once(api: Api, thread: str) -> None:
    """Sixty readers of one run get the same events."""
    running = asyncio.create_task(api.stream("tell 20", agent="slow_agent", thread_id=thread))
    await api.until_there(thread)
    read = await asyncio.gather(*(api.until(thread, "done") for _ in range(60)))
    sent = await running
    assert all(events == sent for events in read)
