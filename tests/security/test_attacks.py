"""Attacks over HTTP, a row each: what is asked, by whom, and the refusal that it gets. Nothing is
changed by any of them: neither a row of the database nor a line in the ledger of the tools.

ELSEWHERE names those that need a server of another kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.command import REPOSITORY
from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import (
    Server,
    asking,
    expect,
    problem,
    scripted_agents,
    serving,
)
from tests.support.waiting import until
from tests.support.weakening import COMMANDS, CONFIGS, turn

PEOPLE = ("alice", "bob", "vic", "pia", "tom", "aud", "adm")
ROLES = "bob:operator,vic:viewer,pia:approver,tom:operator approver:tool:look,aud:auditor,adm:admin"
"""Alice is operator and approver, as whoever was given no role is."""

POLICIES = """
[people.alice]
roles = ["lead"]

[policies.agents.agent.tools.slow]
roles = ["lead"]
risk = "high"
"""

MOVES = {"audit", "workers", "api_keys", "sessions", "tickets"}
"""Tables that move without anybody's doing, and the audit chain, which may say what was refused."""

ELSEWHERE = {
    "an expired token": "security/test_tokens.py:test_a_request_is_of_the_person_whom_its_token_names",
    "a token that nobody signed": "security/test_tokens.py:test_a_token_that_nobody_signed_is_refused",
    "HS256 with the public key": "security/test_tokens.py:test_a_token_signed_with_the_public_key_is_refused",
    "a thousand unknown keys of an issuer": "security/test_jwks.py:test_a_thousand_unknown_keys_make_two_fetches",
    "another's thing on every route, stream and WebSocket": "security/test_every_route.py:test_nobody_does_what_their_role_does_not_permit_or_finds_what_is_not_theirs",
    "two votes by two credentials": "security/test_people.py:test_whoever_has_several_credentials_is_one_pair_of_eyes_and_one_vote",
    "two credentials in one request": "security/test_people.py:test_of_two_credentials_in_a_request_the_first_place_counts_and_never_both",
    "one's words in what another's agent asks": "api/test_four_eyes.py:test_whoever_had_a_part_in_it_does_not_decide_it",
    "a WebSocket of a foreign page": "acceptance/test_origins.py:test_without_keys_a_page_of_another_site_changes_and_reads_nothing",
    "a WebSocket of a foreign page by a cookie": "api/test_ws_origins.py:test_a_page_of_another_site_opens_none_by_the_user_s_cookie",
    "a frame that is too large": "api/test_websocket.py:test_what_is_no_command_ends_the_connection",
    "thousands of messages a second": "security/test_limits.py:test_commands_of_a_socket_are_requests_too_and_heard_no_faster_than_there_is_time",
    "the smallest frames and chunks, without end": "api/test_uvicorn_wires.py:test_of_the_smallest_parts_no_more_are_read_at_once_than_others_can_wait_for",
    "no pong": "api/test_uvicorn_wires.py:test_a_client_that_answers_no_ping_is_closed_with_1011",
    "a ticket that was used": "security/test_tickets.py:test_a_ticket_opens_its_stream_once",
    "a ticket for another path": "security/test_tickets.py:test_it_is_for_one_path_and_one_transport_and_one_server",
    "a ticket that is late": "security/test_tickets.py:test_it_lasts_for_half_a_minute_and_nobody_can_add_to_it",
    "a session that was fixed": "security/test_sessions.py:test_nobody_is_signed_in_to_a_session_that_another_has_begun",
    "a session that is over": "security/test_sessions.py:test_whoever_has_signed_out_is_out",
    "a change by a foreign page": "security/test_sessions.py:test_no_page_of_another_site_changes_anything_by_the_cookie",
    "half a body": "api/test_bodies.py:test_a_body_that_stalls_is_refused",
    "JSON that programs read differently": "api/test_bodies.py:test_json_that_programs_read_differently_is_refused_at_little_cost",
    "a compressed body": "api/test_bodies.py:test_a_compressed_body_is_taken_nowhere",
    "a host that is a path": "api/test_heads.py:test_a_head_that_says_two_things_is_refused",
    "a head without an end": "api/test_uvicorn_wires.py:test_a_head_without_end_costs_no_more_than_its_limit",
    "a webhook to this machine": "notify/test_webhooks.py:test_no_spelling_of_this_machine_gets_through",
    "a webhook to a private network": "notify/test_webhooks.py:test_what_is_private_may_not",
    "a webhook to a file": "notify/test_webhooks.py:test_what_is_no_url_of_a_webhook",
    "a name that leads elsewhere a moment later": "notify/test_webhooks.py:test_a_name_is_resolved_once_so_that_it_cannot_lead_elsewhere_a_moment_later",
    "a redirect": "notify/test_webhooks.py:test_everything_else_is_none_and_a_redirect_is_not_followed",
    "keys of an issuer from inside": "security/test_jwks.py:test_an_issuer_is_reached_by_the_rules_of_addresses_and_the_list",
    "a thousand guesses": "security/test_limits.py:test_of_a_thousand_guesses_ten_are_compared_and_a_good_key_passes",
}
"""Other attacks, each with the test that holds what becomes of it."""

Json = Any
APPROVE = {"type": "approve"}
GRANT = {
    "tool": "pay",
    "bounds": {"amount": {"max": 9}},
    "until": "2100-01-01T00:00:00Z",
    "uses": 1,
    "thread_id": "read",
}


@dataclass(frozen=True)
class Scene:
    """What alice has on the server: a thread that waits for two decisions, the ids of what hangs
    on it, and all that an attack may name."""

    server: Server
    ids: dict[str, str]

    def filled(self, given: Json) -> Json:
        """What is given, with the ids in place of their names in braces."""
        if isinstance(given, str):
            for name, id in self.ids.items():
                given = given.replace(f"<{name}>", id)
            return given
        if isinstance(given, dict):
            return {self.filled(name): self.filled(each) for name, each in given.items()}
        return [*map(self.filled, given)] if isinstance(given, list) else given

    def stored(self) -> dict[str, list[Any]]:
        """Every row that is stored."""
        tables = self.server.sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = sorted(name for (name,) in tables if name not in MOVES)
        return {
            name: sorted(map(repr, self.server.sql(f'SELECT * FROM "{name}"'))) for name in names
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "assent.toml").write_text(POLICIES)
    with serving(
        folder,
        scripted_agents(folder, "agent", "chat_agent"),
        ASSENT_API_KEYS=keys_of(*PEOPLE),
        ASSENT_ROLES=ROLES,
        ASSENT_CONFIG=str(folder / "assent.toml"),
        ASSENT_PUBLIC_URL="https://assent.example",
        ASSENT_LOG_LEVEL="debug",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def scene(server: Server) -> Scene:
    return asyncio.run(_made(server))


async def _made(server: Server) -> Scene:
    async with asking(server, **bearer("alice")) as alice, asking(server, **bearer("bob")) as bob:
        (paying,) = await alice.paused("pay 7", thread_id="theirs")
        (own,) = await alice.paused("slow 9", thread_id="own")
        await alice.stream("look 1", thread_id="read")
        await bob.stream("look 2", thread_id="bobs")
        sent = await alice.http.post("/files", content=b"canary of alice", params={"name": "a.txt"})
        file = (await expect(sent, 201)).json()
        schedule = {"message": "look 3", "cron": "0 0 29 2 *", "thread_id": "read"}
        made = (await expect(await alice.http.post("/schedules", json=schedule), 201)).json()
        (run, *_) = await alice.runs("theirs")
        checkpoint = (await alice.get("/threads/theirs/state"))["checkpoint"]["checkpoint_id"]
        sent = await alice.http.post("/grants", json=GRANT)
        grant = (await expect(sent, 201)).json()
        return Scene(
            server,
            {
                "approval": paying["approval_id"],
                "digest": paying["digest"],
                "own": own["approval_id"],
                "run": run["run_id"],
                "file": file["file_id"],
                "schedule": made["schedule_id"],
                "checkpoint": checkpoint,
                "grant": grant["grant_id"],
                "long": "x" * 5000,
            },
        )


@dataclass(frozen=True)
class Attack:
    """A request, and the statuses of which it gets one. `who` is nobody if empty."""

    who: str
    request: str
    status: int | tuple[int, ...]
    json: Json = None
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None

    def __str__(self) -> str:
        return f"{self.who or 'nobody'} {self.request[:60]} {self.status}"


def as_bytes(who: str, request: str, status: int | tuple[int, ...], body: bytes) -> Attack:
    """An attack by a body that no JSON library would write."""
    json = {"content-type": "application/json"}
    return Attack(who, request, status, content=body, headers=json)


SAY = {"message": "look 5"}
PAY = {"message": "pay 5"}

NOBODY = [
    Attack("", "GET /threads/theirs", 401),
    Attack("", "POST /threads/theirs/resume", 401, APPROVE),
    Attack("", "POST /agent/runs", 401, PAY),
    Attack("", "GET /audit", 401),
    Attack("", "GET /metrics", 401),
    Attack("", "GET /me", 401),
    Attack("", "POST /keys", 401, {"roles": ["admin"]}),
    Attack("", "GET /threads/theirs/events", 401),
    Attack("", "GET /threads?token=" + secret_of("alice"), (401, 422)),
    Attack("", "POST /agent/runs?token=" + secret_of("alice"), (401, 422), PAY),
    Attack("", "GET /threads", 401, headers={"authorization": "Bearer " + secret_of("nobody")}),
    Attack("", "GET /threads", 401, headers={"authorization": "Basic " + secret_of("alice")}),
    Attack("", "GET /threads", 401, headers={"authorization": "Bearer"}),
    Attack("", "GET /threads", 401, headers={"x-api-key": "ask_" + "0" * 59}),
    Attack("", "GET /threads", 401, headers={"authorization": "Bearer ses_" + "0" * 43}),
    Attack("", "GET /threads", 401, headers={"cookie": "assent_session=ses_" + "0" * 43}),
    Attack("", "GET /threads", 401, headers={"cookie": "assent_session=" + secret_of("alice")}),
    Attack("", "GET /threads", 401, headers={"authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}),
    Attack("", "GET /links/0." + "m" * 43, (404, 410)),
    Attack("", "POST /session", (401, 422), {"key": "ask_" + "0" * 59}),
    Attack("", "POST /session", (401, 422), {"code": "c", "state": "s"}),
    # Of whoever may be anybody, not a mebibyte is held.
    Attack("", "POST /session", 413, {"key": "x" * (64 << 10)}),
    Attack("", "POST /links/0." + "m" * 43, 404, content=b"a=" + b"x" * (1 << 20), headers={"content-type": "application/x-www-form-urlencoded"}),
    # A header that is there decides, whatever else came along.
    Attack(
        "", "GET /threads", (400, 401),
        headers={"authorization": "Bearer " + secret_of("nobody"), "x-api-key": secret_of("alice")},
    ),
]  # fmt: skip

WITHOUT_THE_RIGHT = [
    Attack("vic", "POST /threads/theirs/resume", 403, APPROVE),
    Attack("vic", "POST /agent/runs", 403, PAY),
    Attack("vic", "POST /agent/stream", 403, PAY),
    Attack("vic", "POST /threads/theirs/cancel", 403, {}),
    Attack("vic", "DELETE /threads/theirs", 403),
    Attack("vic", "POST /approvals/<approval>/comment", 403, {"text": "No."}),
    Attack("vic", "GET /audit", 403),
    Attack("vic", "GET /metrics", 403),
    Attack("vic", "POST /keys", 403, {"roles": ["admin"]}),
    Attack("vic", "POST /keys", 403, {"roles": ["operator", "viewer"]}),
    Attack("vic", "POST /agent/invoke", 403, PAY),
    Attack("vic", "POST /threads/theirs/runs", 403, {"assistant_id": "agent"}),
    Attack("vic", "POST /approvals/<approval>/decide", 403, APPROVE),
    Attack("vic", "POST /approvals/decide", 403, {"decisions": {"<approval>": APPROVE}}),
    Attack("vic", "POST /api/v1/agents/agent/tasks", 403, {}),
    Attack("pia", "POST /agent/invoke", 403, PAY),
    Attack("pia", "POST /threads/theirs/runs", 403, {"assistant_id": "agent"}),
    Attack("pia", "POST /threads/theirs/cancel", 403, {}),
    Attack("bob", "POST /threads/theirs/resume", 403, APPROVE),
    Attack("bob", "POST /approvals/<approval>/decide", 403, APPROVE),
    Attack("bob", "POST /approvals/decide", 403, {"decisions": {"<approval>": APPROVE}}),
    Attack("bob", "POST /grants", 403, GRANT),
    Attack("bob", "POST /approvals/<approval>/links", 403, {"recipient": "bob"}),
    Attack("bob", "POST /approvals/<approval>/delegate", 403, {"to": "bob"}),
    Attack("bob", "POST /keys", 403, {"roles": ["approver"]}),
    Attack("bob", "GET /audit", 403),
    Attack("bob", "GET /notifications", 403),
    Attack("bob", "POST /broadcast", 403, {"message": "Hello."}),
    Attack("aud", "POST /threads/theirs/resume", 403, APPROVE),
    Attack("aud", "POST /threads/read/runs", 403, SAY),
    Attack("aud", "DELETE /threads/theirs", 403),
    Attack("aud", "POST /files", 403),
    Attack("adm", "POST /threads/theirs/resume", 403, APPROVE),
    Attack("adm", "POST /approvals/<approval>/decide", 403, APPROVE),
    Attack("adm", "POST /approvals/decide", 403, {"decisions": {"<approval>": APPROVE}}),
    Attack("adm", "POST /agent/runs", 403, {"message": "pay 5", "thread_id": "theirs"}),
    Attack("adm", "POST /agent/stream", 403, {"message": "pay 5", "thread_id": "theirs"}),
    Attack("adm", "POST /threads/theirs/runs", 403, {"assistant_id": "agent"}),
    Attack("adm", "POST /threads/read/state", 403, {"values": {"messages": "pay 5"}}),
    Attack("adm", "GET /audit", 403),
    Attack("adm", "POST /keys", 403, {"person": "alice", "roles": ["approver"]}),
    Attack("adm", "POST /keys", 403, {"roles": ["admin", "approver:tool:pay"]}),
]

OF_ANOTHER = [
    Attack("bob", f"{method} /threads/theirs{path}", 404, json)
    for method, path, json in (
        ("GET", "", None),
        ("PATCH", "", {"metadata": {"a": 1}}),
        ("DELETE", "", None),
        ("GET", "/state", None),
        ("GET", "/state/<checkpoint>", None),
        ("POST", "/state", {"values": {"messages": "pay 5"}}),
        ("GET", "/history", None),
        ("POST", "/history", {}),
        ("GET", "/events", None),
        ("GET", "/runs", None),
        ("GET", "/runs/<run>", None),
        ("POST", "/runs", {"assistant_id": "agent", "input": {"messages": "pay 5"}}),
        ("POST", "/cancel", {}),
        ("POST", "/fork", {"checkpoint_id": "<checkpoint>"}),
    )
] + [
    Attack("bob", "GET /runs/<run>", 404),
    Attack("bob", "GET /runs/<run>/wait", 404),
    Attack("bob", "GET /runs/<run>/stream", 404),
    Attack("bob", "POST /runs/<run>/cancel", 404, {}),
    Attack("bob", "GET /approvals/<approval>", 404),
    Attack("bob", "POST /approvals/<approval>/comment", 404, {"text": "No."}),
    Attack("tom", "GET /approvals/<approval>", 404),
    Attack("tom", "POST /approvals/<approval>/decide", 404, APPROVE),
    Attack("tom", "POST /threads/theirs/resume", 404, APPROVE),
    Attack("tom", "POST /approvals/<approval>/withdraw", 404),
    Attack("tom", "POST /approvals/<approval>/delegate", 404, {"to": "bob"}),
    Attack("tom", "POST /approvals/<approval>/links", 404, {"recipient": "tom"}),
    Attack("bob", "GET /files/<file>", 404),
    Attack("bob", "GET /files/<file>/content", 404),
    Attack("bob", "DELETE /files/<file>", 404),
    Attack("bob", "GET /schedules/<schedule>", 404),
    Attack("bob", "PATCH /schedules/<schedule>", 404, {"enabled": False}),
    Attack("bob", "POST /schedules/<schedule>/run", 404),
    Attack("bob", "DELETE /schedules/<schedule>", 404),
    Attack("bob", "GET /users/alice/events", 404),
    Attack("bob", "GET /progress/<run>", 404),
    Attack("bob", "GET /progress/<run>/summary", 404),
    Attack("bob", "GET /poll/human-input/<run>", 404),
    Attack("bob", "GET /events/human-input/<run>", 404),
    Attack("bob", "GET /api/v1/agents/agent/tasks/theirs", 404),
    Attack("bob", "POST /agent/runs", 404, {"message": "look 5", "thread_id": "theirs"}),
    Attack("bob", "POST /agent/stream", 404, {"message": "look 5", "thread_id": "theirs"}),
    Attack("bob", "POST /threads", (404, 409), {"thread_id": "theirs"}),
    Attack("bob", "POST /schedules", 404, {"message": "look", "cron": "0 0 29 2 *", "thread_id": "theirs"}),
    Attack("bob", "POST /agent/runs", (404, 422), {"message": "look 5", "checkpoint_id": "<checkpoint>", "thread_id": "theirs"}),
    Attack("bob", "POST /agent/runs", 422, {"message": [{"type": "text", "text": "look 5"}, {"type": "file", "file_id": "<file>"}]}),
]  # fmt: skip

FOUR_EYES = [
    Attack("alice", "POST /approvals/<own>/decide", 403, APPROVE),
    Attack("alice", "POST /threads/own/resume", 403, APPROVE),
    Attack("alice", "POST /approvals/<own>/delegate", 403, {"to": "alice"}),
]

FORGED = [
    Attack("alice", "POST /approvals/<approval>/decide", 422, {**APPROVE, name: "bob"})
    for name in ("decided_by", "role", "roles", "owner", "tenant", "approver")
] + [
    Attack("alice", "POST /threads/theirs/resume", 422, {**APPROVE, "decided_by": "bob"}),
    Attack("alice", "POST /approvals/decide", 422, {"decisions": {"<approval>": APPROVE}, "decided_by": "bob"}),
    Attack("alice", "POST /approvals/<approval>/decide", 409, {**APPROVE, "digest": "0" * 64}),
    Attack("alice", "POST /approvals/<approval>/decide", 422, {"type": "edit", "args": {"amount": "much"}}),
    Attack("bob", "POST /agent/runs", 422, {**SAY, "owner": "alice"}),
    Attack("bob", "POST /agent/runs", 422, {**SAY, "tenant": "other"}),
    Attack("alice", "POST /keys", (403, 422), {"person": "bob", "roles": ["operator"]}),
    Attack("alice", "POST /keys", 422, {"roles": ["viewer"], "made_by": "bob"}),
    Attack("alice", "POST /threads/theirs/resume", 409, {"decisions": {"<approval>": {**APPROVE, "digest": "0" * 64}}}),
    Attack("alice", "POST /threads/theirs/resume", 422, {"type": "edit", "args": {"amount": "much"}}),
    Attack("alice", "POST /threads/theirs/resume", 422, {"type": "edit", "args": {"amount": 1, "to": "bob"}}),
    Attack("alice", "POST /approvals/<own>/decide", (403, 422), {"type": "respond"}),
]  # fmt: skip

STRANGE = [
    Attack("alice", "GET /threads/..%2faudit", (404, 422)),
    Attack("alice", "GET /threads/a%00b", (404, 422)),
    Attack("alice", "GET /threads/a%0d%0aSet-Cookie:%20a=b", (404, 422)),
    Attack("alice", "GET /threads/<long>", (404, 422)),
    Attack("alice", "POST /agent/runs", 422, {**SAY, "thread_id": "../audit"}),
    Attack("alice", "POST /agent/runs", 422, {**SAY, "thread_id": "a\r\nb"}),
    Attack("alice", "POST /agent/runs", 422, {**SAY, "thread_id": "<long>"}),
    Attack("alice", "POST /agent/runs", 400, {**SAY, "thread_id": "a\0b"}),
    Attack("alice", "GET /threads?metadata=%7B%22a%27%20OR%201%3D1--%22%3A1%7D", 422),
    Attack("alice", "GET /threads?a'%20OR%201=1--=1", 422),
    Attack("alice", "GET /threads?status='%20OR%201=1--", 422),
    Attack("alice", "GET /threads?after='%20OR%201=1--", 422),
    Attack("alice", "GET /threads/theirs/events", 422, headers={"last-event-id": "-1"}),
    Attack("alice", "GET /threads/theirs/events", 422, headers={"last-event-id": "1" + "0" * 30}),
    Attack("alice", "GET /threads/theirs/events", 422, headers={"last-event-id": "theirs"}),
    Attack("alice", "GET /threads/read/events?after=999999", (410, 422)),
    Attack("alice", "POST /agent/runs", 422, SAY, {"idempotency-key": "k" * 256}),
    as_bytes("alice", "POST /agent/runs", 400, b'{"message": "pay 5", "message": "look 5"}'),
    as_bytes("alice", "POST /agent/runs", 400, b'{"message": NaN}'),
    as_bytes("alice", "POST /agent/runs", 400, b'{"message": Infinity}'),
    as_bytes("alice", "POST /agent/runs", 400, b'{"message": "\\ud800"}'),
    as_bytes("alice", "POST /agent/runs", 400, b'{"message": "a\\u0000b"}'),
    as_bytes("alice", "POST /agent/runs", 400, b'{"message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    as_bytes("alice", "POST /agent/runs", 400, b'{"message": ' + b"9" * 5000 + b"}"),
    as_bytes("alice", "POST /agent/runs", 400, b'{"message": "pay 5"'),
    as_bytes("alice", "POST /agent/runs", 413, b'{"message": "' + b"x" * (1 << 20) + b'"}'),
    Attack("alice", "POST /agent/runs", 415, content=b"message=pay 5", headers={"content-type": "text/plain"}),
    Attack("alice", "POST /agent/runs", 415, content=b"{}", headers={"content-type": "application/json", "content-encoding": "gzip"}),
]  # fmt: skip

TABLE = [*NOBODY, *WITHOUT_THE_RIGHT, *OF_ANOTHER, *FOUR_EYES, *FORGED, *STRANGE]


@pytest.mark.parametrize("attack", TABLE, ids=str)
async def test_an_attack_is_refused_and_changes_nothing(scene: Scene, attack: Attack) -> None:
    before, traced = scene.stored(), scene.server.traces()
    method, path = scene.filled(attack.request).split(" ", 1)
    async with asking(scene.server, **(bearer(attack.who) if attack.who else {})) as api:
        given: dict[str, Any] = {"headers": scene.filled(attack.headers)}
        if attack.content is not None:
            given["content"] = attack.content
        elif attack.json is not None:
            given["json"] = scene.filled(attack.json)
        response = await api.http.request(method, path, **given)

    allowed = attack.status if isinstance(attack.status, tuple) else (attack.status,)
    assert response.status_code in allowed, response.text
    if response.headers["content-type"] != "text/html; charset=utf-8":
        said = await problem(response, response.status_code)
        if response.status_code == 404 and "alice" not in path:
            assert "alice" not in said["detail"]
    assert "canary" not in response.text
    assert scene.stored() == before
    assert scene.server.traces() == traced


# ── what is no row ──


def test_each_attack_that_is_elsewhere_is_there() -> None:
    for named in ELSEWHERE.values():
        file, _, test = named.partition(":")
        text = (REPOSITORY / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test}(" in text, named


async def test_another_s_thread_is_refused_in_the_words_of_one_that_is_none(scene: Scene) -> None:
    async with asking(scene.server, **bearer("bob")) as bob:
        for path in ("", "/state", "/history", "/events", "/runs"):
            answers = [await bob.http.get(f"/threads/{name}{path}") for name in ("theirs", "nones")]
            theirs, none = (each.text.replace("nones", "theirs") for each in answers)
            assert theirs == none


async def test_lists_and_feeds_have_nothing_of_another_s(scene: Scene) -> None:
    paths = ("/threads", "/runs", "/schedules", "/grants", "/approvals", "/connections")
    async with asking(scene.server, **bearer("bob")) as bob:
        for path in paths:
            text = (await expect(await bob.http.get(path), 200)).text
            assert "alice" not in text and "theirs" not in text, path
        for feed in ("/agents/agent/events", "/approvals/stream"):
            page = await bob.page(feed, after=0)
            assert "alice" not in str(page) and "theirs" not in str(page), feed


async def test_a_thread_is_its_maker_s_whatever_they_say(scene: Scene, thread: str) -> None:
    """The body is that of LangGraph's SDK, whose other fields are passed over."""
    body = {
        "thread_id": thread,
        "owner": "alice",
        "metadata": {"assent_owner": "alice", "owner": "alice"},
    }
    async with (
        asking(scene.server, **bearer("alice")) as alice,
        asking(scene.server, **bearer("bob")) as bob,
    ):
        await expect(await bob.http.post("/threads", json=body), 200)
        await problem(await alice.http.get(f"/threads/{thread}"), 404)
        await expect(await bob.http.get(f"/threads/{thread}"), 200)


async def test_a_link_to_oneself_is_no_second_pair_of_eyes(scene: Scene) -> None:
    async with asking(scene.server, **bearer("alice")) as alice:
        path = f"/approvals/{scene.ids['own']}/links"
        made = (await expect(await alice.http.post(path, json={"recipient": "alice"}), 201)).json()
        before, url = scene.stored(), httpx.URL(made["url"]).path
        form = {"decision": "approve"}
        answer = await alice.http.post(url, data=form, headers={"origin": "https://assent.example"})
        assert answer.status_code == 403, answer.text
        assert scene.stored() == before


async def test_what_looks_like_an_object_of_langchain_is_only_data(
    server: Server, thread: str
) -> None:
    made = {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}}
    async with asking(server, **bearer("bob")) as bob:
        body = {"message": f"look {made}", "metadata": {"made": made}, "thread_id": thread}
        answer = await bob.http.post("/agent/runs", json=body)
        assert answer.status_code in (202, 422)
        if answer.status_code == 202:
            await bob.at_rest(thread)
            assert (await bob.get(f"/threads/{thread}"))["thread_id"] == thread


async def test_an_approval_that_has_expired_is_decided_by_nobody(
    tmp_path: Path,
) -> None:
    (tmp_path / "assent.toml").write_text('[policies.agents.agent.tools.pay]\ntimeout = "1s"\n')
    with serving(
        tmp_path,
        scripted_agents(tmp_path, "agent"),
        ASSENT_API_KEYS=keys_of("alice"),
        ASSENT_CONFIG=str(tmp_path / "assent.toml"),
    ) as server:
        async with asking(server, **bearer("alice")) as alice:
            (approval,) = await alice.paused("pay 7", thread_id="t")

            async def has_expired() -> bool:
                found = await alice.approval(approval["approval_id"])
                return bool(found["status"] != "pending")

            await until(has_expired)
            path = f"/approvals/{approval['approval_id']}/decide"
            await problem(await alice.http.post(path, json=APPROVE), 409)
            assert server.traces() == []


async def test_an_upload_is_what_its_bytes_are_and_nothing_is_unpacked(server: Server) -> None:
    zip_of_zip = b"PK\x05\x06" + b"\0" * 18
    lies = [
        ("page.png", b"<html><script>alert(1)</script></html>"),
        ("../../etc/passwd", b"root"),
        ("bombs.zip", zip_of_zip),
    ]
    async with asking(server, **bearer("bob")) as bob:
        for name, data in lies:
            headers = {"content-type": "image/png"}
            sent = await bob.http.post(
                "/files", content=data, params={"name": name}, headers=headers
            )
            file = (await expect(sent, 201)).json()
            assert (file["name"], file["size"]) == (name, len(data))
            assert file["mime_type"] != "image/png"
            got = await bob.http.get(f"/files/{file['file_id']}/content")
            assert got.content == data
            assert got.headers["content-disposition"].startswith("attachment")
            assert got.headers["x-content-type-options"] == "nosniff"
            assert file["file_id"].startswith("upload_")
    assert not (server.folder.parent / "etc").exists()


async def test_two_senders_of_one_request_are_none(server: Server) -> None:
    twice = [("authorization", f"Bearer {secret_of(name)}") for name in ("alice", "bob")]
    mixed = {"authorization": f"Bearer {secret_of('alice')}", "x-api-key": secret_of("bob")}
    async with httpx.AsyncClient(base_url=server.url) as http:
        await problem(await http.get("/threads", headers=twice), 400)
        refused = await problem(await http.get("/threads", headers=mixed), 400)
        assert refused["detail"].startswith("Send 'Authorization' or 'X-Api-Key', and not both.")


# ── with each role ──

EVERYBODY = ("vic", "bob", "pia", "aud", "adm", "alice")
"""A viewer, an operator, an approver, an auditor, an admin, and an operator and approver."""

MAY_RUN = ("bob", "alice")

WEAKENING: list[Json] = [
    *({"message": "pay 5", "config": each} for each in CONFIGS),
    *({"message": "pay 5", "command": each} for each in COMMANDS),
    {"message": "pay 5", "interrupt_before": "*"},
    {"message": "pay 5", "interrupt_after": ["tools"]},
    {"message": "pay 5", "recursion_limit": 10**9},
    {"message": "pay 5", "stream_mode": "debug"},
    {"message": "pay 5", "as_node": "tools"},
    {"message": "pay 5", "config": {"interrupt_before": []}},
    {"input": {"messages": [turn(5)], "decisions": {"c-5": APPROVE}}},
]
STARTING = ("/agent/stream", "/agent/invoke", "/agent/runs")

ON_A_PAUSE: list[tuple[str, Json]] = [
    ("/agent/stream", {"input": None}),
    ("/agent/invoke", {"input": {}}),
    ("/agent/runs", {"checkpoint_id": "<head>"}),
    ("/agent/invoke", {"input": None, "checkpoint_id": "<head>"}),
    ("/agent/stream", {"message": "pay 6"}),
    ("/agent/invoke", {"input": {"messages": [turn(6)]}}),
    ("/threads/<paused>/runs", {"assistant_id": "agent"}),
    ("/threads/<paused>/runs", {"assistant_id": "agent", "input": None}),
    ("/threads/<paused>/runs", {"assistant_id": "agent", "checkpoint_id": "<head>"}),
]
"""What goes on from a pause with LangGraph, and new input for what is paused."""


@pytest.mark.parametrize("who", EVERYBODY)
async def test_nobody_weakens_a_gate_whatever_their_role(scene: Scene, who: str) -> None:
    paused = f"paused-{who}" if who in MAY_RUN else "theirs"
    async with asking(scene.server, **bearer(who)) as api:
        if who in MAY_RUN:
            await api.paused("pay 4", thread_id=paused)
        async with asking(scene.server, **bearer(who if who in MAY_RUN else "alice")) as owner:
            head = (await owner.get(f"/threads/{paused}/state"))["checkpoint"]["checkpoint_id"]
        there = Scene(scene.server, {**scene.ids, "paused": paused, "head": head})
        before, traced = there.stored(), there.server.traces()

        async def is_refused(path: str, body: Json, status: int) -> None:
            answer = await api.http.post(there.filled(path), json=there.filled(body))
            expected = status if who in MAY_RUN else 403
            assert answer.status_code == expected, (path, body, answer.text)

        for number, body in enumerate(WEAKENING):
            # Each by another route for the next person.
            path = STARTING[(number + EVERYBODY.index(who)) % len(STARTING)]
            await is_refused(path, {**body, "thread_id": f"weak-{who}"}, 422)
        for each in CONFIGS:
            await is_refused("/assistants", {"graph_id": "agent", "config": each}, 422)
        for path, body in ON_A_PAUSE:
            given = {**body, "thread_id": paused} if path in STARTING else body
            await is_refused(path, given, 409)
        if who != "alice":
            # Their words are no decision either.
            no = {"message": "No.", "if_paused": "reject", "thread_id": paused}
            await is_refused("/agent/invoke", no, 403)
        assert there.stored() == before
        assert there.server.traces() == traced


async def test_a_yes_of_whoever_approves_nothing_is_no_consent(scene: Scene) -> None:
    async with asking(scene.server, **bearer("bob")) as bob:
        await bob.paused("pay 41", agent="chat_agent", thread_id="bobs-chat")
        before = scene.stored()
        body = {"message": "yes", "agent": "chat_agent", "thread_id": "bobs-chat"}
        for path in STARTING:
            await problem(await bob.http.post(path, json=body), 403)
        assert scene.stored() == before
    assert scene.server.traces("pay 41") == []


@pytest.mark.parametrize("who", EVERYBODY)
async def test_what_was_approved_once_is_asked_again_in_a_fork_and_a_replay(
    scene: Scene, who: str, amount: int
) -> None:
    owner, thread = who if who in MAY_RUN else "alice", f"once-{who}"
    async with (
        asking(scene.server, **bearer(owner)) as api,
        asking(scene.server, **bearer("alice")) as alice,
        asking(scene.server, **bearer(who)) as asker,
    ):
        (asked,) = await api.paused(f"pay {amount}", thread_id=thread)
        then = (await api.get(f"/threads/{thread}/state"))["checkpoint"]["checkpoint_id"]
        path = f"/approvals/{asked['approval_id']}/decide"
        await expect(await alice.http.post(path, json=APPROVE), 202)
        await api.at_rest(thread)

        replay = {"thread_id": thread, "checkpoint_id": then}
        for path, body in (
            (f"/threads/{thread}/fork", {"checkpoint_id": then, "thread_id": f"{thread}-fork"}),
            ("/agent/invoke", replay),
        ):
            answer = await asker.http.post(path, json=body)
            if who not in MAY_RUN:
                await problem(answer, 403)
                continue
            assert answer.status_code in (200, 201), answer.text
            new = f"{thread}-fork" if path.endswith("/fork") else thread
            (again,) = await api.pending(new)
            assert again["approval_id"] != asked["approval_id"]
            assert again["args"] == {"amount": amount}
    assert scene.server.traces(f"pay {amount}") == [f"pay {amount}"]
