"""How often people and addresses may ask, and who is slowed by another's guesses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.types import Scope

from assent import Assent, build_hitl_agent
from assent.api.access.limiting import MOST_KNOWN, Limiting, Windows, address_of
from assent.api.proxies import Proxies
from assent.api.streams.connections import Connections
from assent.api.streams.websocket import MOST_FRAMES, Pace
from assent.config.settings import Settings
from assent.core.access import Owner
from assent.core.clock import Clock
from assent.core.errors import ConfigurationError, NotFound, StreamsFull, TooManyRequests
from tests.support.models import ScriptedModel
from tests.support.secrets import bearer, keys_of
from tests.support.server import asking, expect, problem, scripted_agents, serving
from tests.support.sockets import socket_of
from tests.support.waiting import PATIENCE


class Now:
    """A monotonic clock."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


def scope(host: str = "192.0.2.1", **headers: str) -> Scope:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (host, 1), "headers": given, "scheme": "http"}


ANN = Owner("ann")


# ── rates ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_person_may_ask_so_often_and_again_when_the_window_is_over(now: Now) -> None:
    limiting = Limiting(person="3/minute", now=now)
    for _ in range(3):
        limiting.count_person(ANN)
    now.seconds += 20
    with pytest.raises(TooManyRequests) as refused:
        limiting.count_person(ANN)
    assert refused.value.details == {"retry_after": 40}
    # Others, also of the same name, are others.
    limiting.count_person(Owner("ann", "acme"))
    limiting.count_person(Owner("ann", "acme/a"))
    limiting.count_person(Owner("a/ann", "acme"))
    limiting.count_person(Owner("bob"))
    now.seconds += 40
    limiting.count_person(ANN)


def test_of_several_limits_each_holds(now: Now) -> None:
    limiting = Limiting(person="2/second,3/minute", now=now)
    limiting.count_person(ANN)
    limiting.count_person(ANN)
    with pytest.raises(TooManyRequests) as refused:
        limiting.count_person(ANN)
    assert refused.value.details["retry_after"] == 1
    now.seconds += 1
    with pytest.raises(TooManyRequests) as refused:
        limiting.count_person(ANN)
    assert refused.value.details["retry_after"] == 59


def test_an_address_of_ipv6_is_its_network(now: Now) -> None:
    limiting = Limiting(address="1/minute", now=now)
    limiting.count_address(scope("2001:db8::1"))
    with pytest.raises(TooManyRequests):
        limiting.count_address(scope("2001:db8::ffff:1"))
    limiting.count_address(scope("2001:db8:0:1::1"))
    assert address_of(scope("fe80::1%eth0")) == "fe80::/64"
    # As a socket that takes IPv4 too names its clients.
    assert address_of(scope("::ffff:192.0.2.1")) == "192.0.2.1"
    assert address_of(scope("a:socket")) == "a:socket"
    assert address_of({"type": "http", "client": None}) == ""


def test_this_machine_is_counted_only_where_proxies_tell_of_others(now: Now) -> None:
    free, counted = (Limiting(address="1/minute", has_proxies=each, now=now) for each in (0, 1))
    for _ in range(2):
        free.count_address(scope("127.0.0.1"))
    counted.count_address(scope("127.0.0.1"))
    with pytest.raises(TooManyRequests):
        counted.count_address(scope("127.0.0.1"))


def test_the_windows_that_began_first_are_forgotten_beyond_a_number(now: Now) -> None:
    windows = Windows(now, most=3)
    for key in "abcabd":
        windows.incr(key, 60)
    assert [windows.get(key) for key in "abcd"] == [0, 2, 1, 1]


def test_a_window_that_begins_anew_is_a_new_one(now: Now) -> None:
    windows = Windows(now, most=2)
    windows.incr("a", 60)
    windows.incr("b", 600)
    now.seconds += 60
    assert windows.incr("a", 60) == 1
    windows.incr("c", 60)
    assert (windows.get("a"), windows.get("b")) == (1, 0)


# ── guesses ───────────────────────────────────────────────────────────────────────────────────────


async def guess(limiting: Limiting, secret: str, host: str = "192.0.2.1") -> bool:
    """One attempt. True if the secret was compared."""
    compared = False
    try:
        async with limiting.attempt(scope(host), secret):
            compared = True
            if not secret.startswith("good"):
                raise HTTPException(401)
    except HTTPException:
        pass
    return compared


async def test_of_a_thousand_guesses_ten_are_compared_and_a_good_key_passes(now: Now) -> None:
    limiting = Limiting(failures="10/minute", now=now)
    assert await guess(limiting, "good")
    compared = 0
    for number in range(1000):
        try:
            compared += await guess(limiting, str(number))
        except TooManyRequests:
            continue
    assert compared == 10
    assert await guess(limiting, "good")
    # Who was never known has to wait.
    with pytest.raises(TooManyRequests) as refused:
        await guess(limiting, "good, but new")
    assert refused.value.details["retry_after"] == 60
    assert await guess(limiting, "good, but new", host="192.0.2.2")
    now.seconds += 60
    assert await guess(limiting, "good, but new")


async def test_what_was_good_and_is_no_longer_is_a_guess(now: Now) -> None:
    limiting = Limiting(failures="1/minute", now=now)
    assert await guess(limiting, "good")
    with pytest.raises(HTTPException):
        async with limiting.attempt(scope(), "good"):
            raise HTTPException(401)
    with pytest.raises(TooManyRequests):
        await guess(limiting, "good")


async def test_what_was_good_is_remembered_for_a_day_and_so_many(now: Now) -> None:
    limiting = Limiting(failures="1/minute", now=now)
    await guess(limiting, "good")
    now.seconds += 24 * 3600 + 1
    await guess(limiting, "bad")
    with pytest.raises(TooManyRequests):
        await guess(limiting, "good")
    now.seconds += 60
    for number in range(MOST_KNOWN + 1):
        await guess(limiting, f"good {number}")
    await guess(limiting, "bad")
    with pytest.raises(TooManyRequests):
        await guess(limiting, "good 0")
    assert await guess(limiting, "good 1")


async def test_what_fails_otherwise_is_no_guess_unless_that_is_what_is_wrong(now: Now) -> None:
    limiting = Limiting(failures="1/minute", now=now)
    for error in (HTTPException(403), NotFound("It is not there.")):
        with pytest.raises(type(error)):
            async with limiting.attempt(scope(), "link"):
                raise error
    with pytest.raises(NotFound):
        async with limiting.attempt(scope(), "link", wrong=NotFound):
            raise NotFound("It is not there.")
    with pytest.raises(TooManyRequests):
        async with limiting.attempt(scope(), "link", wrong=NotFound):
            raise AssertionError


async def test_of_many_guesses_at_once_no_more_are_compared(now: Now) -> None:
    limiting = Limiting(failures="3/minute", now=now)
    compared: list[int] = []

    async def guess_slowly(number: int) -> type[Exception] | None:
        try:
            async with limiting.attempt(scope(), str(number)):
                compared.append(number)
                await asyncio.sleep(0)
                if number % 2:
                    raise HTTPException(401)
        except (HTTPException, TooManyRequests) as error:
            return type(error)
        return None

    async with asyncio.timeout(PATIENCE):
        ended = await asyncio.gather(*(guess_slowly(number) for number in range(100)))
    assert ended.count(HTTPException) == 3
    assert compared == list(range(len(compared)))
    assert ended.count(TooManyRequests) == 100 - len(compared)
    # Those that are good wait for their turn, and are not refused for it.
    others = Limiting(failures="3/minute", now=now)
    assert all(await asyncio.gather(*(guess(others, f"good {each}") for each in range(50))))


# ── proxies ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        ("10.0.0.1", "192.0.2.7", "192.0.2.7"),
        # What is in front of the last address that is no proxy's, anybody may have written.
        ("10.0.0.1", "127.0.0.1, 192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "192.0.2.7, 10.9.9.9", "192.0.2.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "192.0.2.7:4711", "192.0.2.7"),
        ("10.0.0.1", "[2001:db8::1]:80", "2001:db8::1"),
        ("10.0.0.1", "192.0.2.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.9", "192.0.2.7", "192.0.2.9"),
    ],
)
def test_the_last_address_that_is_no_proxys_is_the_clients(
    peer: str, told: str, client: str
) -> None:
    proxies = Proxies(Settings.given({"trusted_proxies": "10.0.0.0/8"}).trusted_proxies)
    asked = scope(peer, x_forwarded_for=told)
    proxies.look_behind(asked)
    assert asked["client"][0] == client


@pytest.mark.parametrize(
    ("kind", "told", "scheme"),
    [
        ("http", "https", "https"),
        ("websocket", "https", "wss"),
        ("http", "http, https", "https"),
        ("http", "javascript", "http"),
    ],
)
def test_a_trusted_proxy_says_how_people_come(kind: str, told: str, scheme: str) -> None:
    proxies = Proxies(Settings.given({"trusted_proxies": "10.0.0.1"}).trusted_proxies)
    asked = {**scope("10.0.0.1", x_forwarded_proto=told), "type": kind}
    proxies.look_behind(asked)
    assert asked["scheme"] == scheme
    foreign = scope("192.0.2.1", x_forwarded_proto="https")
    proxies.look_behind(foreign)
    assert foreign["scheme"] == "http"


# ── settings ──


@pytest.mark.parametrize(
    "given",
    [
        {"rate_limit": "many"},
        {"rate_limit": ""},
        {"failed_keys": "10/fortnight"},
        {"trusted_proxies": "proxy.example"},
        {"trusted_proxies": "10.0.0.1/8"},
    ],
)
def test_a_limit_that_is_none_is_refused_at_the_start(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="write"):
        Settings.given(given)


# ── frames ──


async def test_a_socket_is_heard_so_often_in_a_second(now: Now) -> None:
    pace = Pace(2, now)
    for _ in range(2):
        await pace.wait()
    now.seconds += 0.99
    waiting = pace.wait()
    assert await _takes(waiting) >= 0.005
    now.seconds += 1
    assert await _takes(pace.wait()) < 0.005


async def _takes(waiting: Any) -> float:
    began = time.monotonic()
    await waiting
    return time.monotonic() - began


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def known(
    folder: Path, *, host: str = "192.0.2.1", **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server in this process, which knows ann and bob, with their address."""
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    given = {"api_keys": keys_of("ann", "bob"), **settings}
    async with Assent(agent, database=str(folder / "a.db"), settings=given) as assent:
        transport = httpx.ASGITransport(assent.app, client=(host, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            yield http


async def test_another_request_is_a_429_that_says_when_to_come_again(tmp_path: Path) -> None:
    async with known(tmp_path, rate_limit="2/hour") as http:
        for _ in range(2):
            await expect(await http.get("/threads", headers=bearer("ann")), 200)
        refused = await http.get("/threads", headers=bearer("ann"))
        found = await problem(refused, 429)
        assert found["type"] == "urn:assent:problem:too-many-requests"
        assert 3500 < int(refused.headers["retry-after"]) <= 3600
        # By whatever key, and whoever else asks is not held up.
        await problem(await http.post("/threads", headers=bearer("ann")), 429)
        await expect(await http.get("/threads", headers=bearer("bob")), 200)


async def test_an_address_is_limited_whoever_asks(tmp_path: Path) -> None:
    async with known(tmp_path, rate_limit_address="3/hour") as http:
        await expect(await http.get("/health"), 200)
        await expect(await http.get("/threads", headers=bearer("ann")), 200)
        await problem(await http.get("/threads"), 401)
        await problem(await http.get("/threads", headers=bearer("bob")), 429)
        await problem(await http.get("/health"), 429)


async def test_guesses_are_slowed_wherever_a_key_is_taken(tmp_path: Path) -> None:
    settings = {"failed_keys": "3/hour", "public_url": "http://x"}
    async with known(tmp_path, **settings) as http:
        await expect(await http.get("/threads", headers=bearer("ann")), 200)
        wrong = {"authorization": "Bearer ask_none"}
        await problem(await http.get("/threads", headers=wrong), 401)
        await problem(await http.get("/threads", headers={"x-api-key": "ask_none"}), 401)
        assert (await http.get("/links/none")).status_code == 404
        for path in ("/threads", "/me"):
            await problem(await http.get(path, headers=wrong), 429)
        await problem(await http.get("/links/none"), 429)
        await problem(await http.get("/threads", headers=bearer("bob")), 429)
        await expect(await http.get("/threads", headers=bearer("ann")), 200)
        ticket = "/approvals/stream?ticket=tkt_none"
        cookie = {"cookie": f"assent=ses_{'0' * 43}"}
        await problem(await http.get(ticket), 429)
        await problem(await http.get("/me", headers=cookie), 429)
        # Who shows no key guesses at none.
        await problem(await http.get("/threads"), 401)


async def test_guesses_by_which_somebody_signs_in_are_slowed(tmp_path: Path) -> None:
    async with known(tmp_path, host="127.0.0.1", failed_keys="2/hour") as http:
        http.base_url = httpx.URL("http://127.0.0.1")
        await problem(await http.post("/session", json={"key": "none"}), 401)
        code = {"code": "none", "state": "none"}
        await problem(await http.post("/session", json=code), 401)
        await problem(await http.post("/session", json=code), 429)
        await problem(await http.post("/session", json={"key": "none"}), 429)


async def test_guesses_at_cookies_are_slowed_and_an_old_one_is_no_guess_each_time(
    tmp_path: Path,
) -> None:
    async with known(tmp_path, failed_keys="2/hour") as http:

        async def ask(cookie: str) -> httpx.Response:
            return await http.get("/me", headers={"cookie": f"assent={cookie}"})

        for _ in range(5):
            await problem(await ask("ses_old"), 401)
        await problem(await ask("ses_a"), 401)
        await problem(await ask("ses_b"), 429)
        await problem(await ask("ses_old"), 401)


async def test_behind_a_proxy_each_client_has_its_own_address(tmp_path: Path) -> None:
    settings = {"trusted_proxies": "127.0.0.1", "failed_keys": "1/hour"}
    async with known(tmp_path, host="127.0.0.1", **settings) as http:
        wrong = {"authorization": "Bearer none"}
        for client in ("192.0.2.1", "192.0.2.2"):
            given = {**wrong, "x-forwarded-for": client}
            await problem(await http.get("/threads", headers=given), 401)
            await problem(await http.get("/threads", headers=given), 429)


async def test_without_keys_nothing_is_limited(tmp_path: Path) -> None:
    settings = {"rate_limit": "1/hour", "rate_limit_address": "1/hour", "failed_keys": "1/hour"}
    async with known(tmp_path, host="127.0.0.1", api_keys={}, **settings) as http:
        http.base_url = httpx.URL("http://127.0.0.1")
        for _ in range(3):
            await expect(await http.get("/threads", headers={"x-api-key": "none"}), 200)


# ── how much ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_person_has_so_many_threads_runs_and_bytes(tmp_path: Path) -> None:
    caps = {"max_threads_per_user": 2, "max_pending_per_user": 1, "max_uploads_bytes_per_user": 5}
    async with known(tmp_path, **caps) as http:
        ann, bob = bearer("ann"), bearer("bob")
        later = {"message": "Hello.", "after_seconds": 600}
        made = await expect(await http.post("/agent/runs", json=later, headers=ann), 202)
        thread = made.json()["thread_id"]
        again = {**later, "thread_id": thread}
        refused = await http.post("/agent/runs", json=again, headers=ann)
        assert "1 runs that wait" in (await problem(refused, 429))["detail"]

        await expect(await http.post("/threads", headers=ann), 200)
        refused = await http.post("/threads", headers=ann)
        found = await problem(refused, 429)
        assert found["type"] == "urn:assent:problem:quota-full"
        assert "You have 2 threads" in found["detail"]
        assert refused.headers["retry-after"] == "60"

        await expect(await http.post("/files", content=b"12345", headers=ann), 201)
        await problem(await http.post("/files", content=b"1", headers=ann), 507)
        assert [each for each in (tmp_path / "a.db.files").rglob("upload_*") if each.is_file()][
            1:
        ] == []

        # Nobody else is held up by that.
        await expect(await http.post("/threads", headers=bob), 200)

        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += 1
                yield b"123"

        # It is refused as soon as it is too much.
        await problem(await http.post("/files", content=endless(), headers=bob), 507)
        assert taken == 2
        await expect(await http.post("/files", content=b"12345", headers=bob), 201)


def test_the_people_of_a_tenant_have_so_many_streams() -> None:
    connections = Connections(Clock(), most=9, most_per_client=9, most_per_tenant=2, stalled=1)
    places = [connections.keep_place(Owner(name, "acme")) for name in ("ann", "bob")]
    with pytest.raises(StreamsFull, match="The people of your tenant have 2"):
        connections.admit(Owner("cid", "acme"))
    connections.admit(Owner("cid", "other"))
    places[0].give_back()
    connections.admit(Owner("cid", "acme"))


# ── over a socket ─────────────────────────────────────────────────────────────────────────────────


async def test_commands_of_a_socket_are_requests_too_and_heard_no_faster_than_there_is_time(
    tmp_path: Path,
) -> None:
    limits = {"ASSENT_API_KEYS": keys_of("ann"), "ASSENT_RATE_LIMIT": "5/hour"}
    agents = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, agents, **limits) as server:
        async with asking(server, **bearer("ann")) as api:
            await api.stream("tell 1", thread_id="t")
            async with socket_of(server, "t", headers=bearer("ann")) as socket:
                statuses = [(await socket.ask("cancel")).get("status") for _ in range(5)]
                assert statuses[-1] == 429
                # Pings are no requests, and yet take their time.
                began = time.monotonic()
                for _ in range(MOST_FRAMES + 1):
                    await socket.send("ping")
                for _ in range(MOST_FRAMES + 1):
                    await socket.until("pong")
                assert time.monotonic() - began > 0.5
