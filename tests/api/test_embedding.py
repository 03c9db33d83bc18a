"""`Assent` in an app of somebody's own: mounted, as a router, and in process."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import current_thread
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Cookie, FastAPI, Header, HTTPException, Request, Response
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import create_model
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from assent import Approve, Assent, Edit, Reject, Respond, build_hitl_agent
from assent.api.routing import OWN_PATH
from assent.core.access import Owner
from assent.core.clock import utc_now
from assent.core.errors import (
    ConfigurationError,
    InvalidDecision,
    InvalidRequest,
    NotFound,
    ThreadPaused,
    Unavailable,
)
from assent.core.events import Done, RunPaused, RunStart
from assent.core.json import MAX_DEPTH
from assent.runs.follow import wait_for_run
from assent.storage.base import Change
from tests.support.models import ScriptedModel, call, say
from tests.support.server import BEGIN, PING, expect, problem, without_ends
from tests.support.waiting import PATIENCE, until

SESSIONS = {"ann's cookie": "ann", "bob's cookie": "bob"}

READS_ALL = ("operator", "approver", "auditor")
HOST = "http://shop.example"

Place = Callable[[FastAPI, Assent], None]


def payments(ledger: list[int], *amounts: int) -> Any:
    """An agent that pays these amounts, one for each message, once a person agrees."""

    @tool
    def pay(amount: int) -> str:
        """Pay an amount."""
        ledger.append(amount)
        return f"paid {amount}"

    script = [turn for amount in amounts for turn in (call("pay", amount=amount), say("Paid."))]
    return build_hitl_agent(ScriptedModel(script=script), [pay], approve=["pay"])


def client_of(app: ASGIApp, base_url: str, *, client: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(client, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=base_url)


def mounted(host: FastAPI, assent: Assent) -> None:
    host.mount("/ai", assent.app)


def included(host: FastAPI, assent: Assent) -> None:
    host.include_router(assent.router, prefix="/ai")


both = pytest.mark.parametrize("put", [mounted, included])


# ── in an app ─────────────────────────────────────────────────────────────────────────────────────


async def by_header(x_user: str | None = Header(None)) -> Any:
    if x_user == "nameless":
        return SimpleNamespace(identity=4711)
    if x_user == "gone":
        raise HTTPException(410, "This account was closed.")
    return x_user and SimpleNamespace(identity=x_user)


def by_cookie(session: str | None = Cookie(None)) -> dict[str, str] | None:
    name = SESSIONS.get(session or "")
    return None if name is None else {"identity": name, "plan": "gold"}


@asynccontextmanager
async def hosted(put: Place, assent: Assent) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a shop's app, which has its own lifespan, middleware and routes."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with assent:
            yield

    host = FastAPI(lifespan=lifespan)

    @host.middleware("http")
    async def stamped(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-shop"] = "1"
        return response

    @host.get("/basket")
    async def basket() -> list[str]:
        return ["tea"]

    put(host, assent)
    async with host.router.lifespan_context(host), client_of(host, f"{HOST}/ai") as client:
        yield client


@both
async def test_the_app_says_who_asks_and_who_decides(put: Place, tmp_path: Path) -> None:
    ledger: list[int] = []
    agent = payments(ledger, 3)
    settings = {"database": f"sqlite:///{tmp_path / 'a.db'}", "roles": {"ann": READS_ALL}}
    assent = Assent({"payer": agent}, settings=settings, auth=by_header)
    async with hosted(put, assent) as client:
        assert (await client.get(f"{HOST}/basket")).json() == ["tea"]
        ann, bob = {"x-user": "ann"}, {"x-user": "bob"}
        body = {"message": "Pay 3.", "thread_id": "t"}
        paused = await expect(await client.post("/agent/invoke", json=body, headers=ann), 200)
        assert paused.headers["x-shop"] == "1"
        [approval] = paused.json()["approvals"]
        assert approval["requested_by"] == ["ann"]

        decision = {"type": "approve", "digest": approval["digest"]}
        path = f"/approvals/{approval['approval_id']}/decide"
        await expect(await client.post(path, json=decision, headers=bob), 202)
        await client.get("/threads/t/state", headers=ann)
        records = (await client.get("/audit", headers=ann)).json()["audit"]
        who = [(each["actor"], each["authentication"]) for each in records]
        assert ("bob", "host") in who
        assert {name for name, _ in who} <= {"ann", "bob", ""}
        run_id = (await assent.runs.thread("t")).run_id
        assert run_id is not None
        await client.get(f"/runs/{run_id}/wait", headers=ann)
    assert ledger == [3]


@both
async def test_whom_the_app_does_not_know_is_refused(put: Place, tmp_path: Path) -> None:
    agent = payments([])
    async with hosted(put, Assent(agent, database=str(tmp_path / "a.db"), auth=by_header)) as ai:
        await problem(await ai.get("/threads"), 401)
        await problem(await ai.post("/agent/invoke", json={"message": "Hi."}), 401)
        # A key of somebody's choosing is none.
        await problem(await ai.get("/threads", headers={"authorization": "Bearer x"}), 401)
        await problem(await ai.get("/threads", headers={"x-user": "gone"}), 410)
        await problem(await ai.get("/threads", headers={"x-user": "nameless"}), 500)
        assert (await ai.get("/threads", headers={"x-user": "ann"})).json()["threads"] == []
        # These tell nothing that is anybody's.
        await expect(await ai.get("/health"), 200)


@both
async def test_a_page_of_another_site_changes_nothing_by_the_user_s_cookie(
    put: Place, tmp_path: Path
) -> None:
    database = str(tmp_path / "a.db")
    settings = {"cors_origins": ["https://admin.example"]}
    assent = Assent(payments([]), database=database, auth=by_cookie, settings=settings)
    async with hosted(put, assent) as client:
        client.cookies.set("session", "ann's cookie")

        async def create(**headers: str) -> httpx.Response:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.post("/threads", headers=sent)

        for refused in (
            await create(origin="https://evil.example"),
            await create(origin="https://evil.example", sec_fetch_site="cross-site"),
            await create(origin="https://blog.shop.example", sec_fetch_site="same-site"),
            await create(origin="null"),
            await create(origin="http://["),
            await create(origin="https://app.example", authorization="Bearer app"),
        ):
            await problem(refused, 403)
        assert (await client.get("/threads")).json()["threads"] == []
        for taken in (
            await create(),
            await create(origin=HOST),
            await create(origin=HOST, sec_fetch_site="same-origin"),
            await create(origin="https://admin.example", sec_fetch_site="cross-site"),
        ):
            assert taken.is_success
        threads = (await client.get("/threads")).json()["threads"]
        assert len(threads) == 4


async def test_nobody_gets_the_rights_of_a_server_without_keys_by_their_name(
    tmp_path: Path,
) -> None:
    assent = Assent(payments([], 3), database=str(tmp_path / "a.db"), auth=by_header)
    async with hosted(mounted, assent) as client:
        client.headers["x-user"] = "local"
        await problem(await client.post("/agent/invoke", json={"message": "Pay 3."}), 403)
        assert (await assent.runs.storage.threads()).rows == ()


@both
async def test_without_auth_only_this_machine_is_answered(put: Place, tmp_path: Path) -> None:
    host = FastAPI()
    async with Assent(payments([]), database=str(tmp_path / "a.db")) as assent:
        put(host, assent)
        for client, url, status in (
            ("127.0.0.1", "http://localhost:8000/ai", 200),
            ("::ffff:127.0.0.1", "http://127.0.0.1:8000/ai", 200),
            ("testclient", "http://localhost/ai", 200),
            ("203.0.113.7", "http://localhost:8000/ai", 421),
            # As a proxy on this machine passes on what it was asked.
            ("127.0.0.1", "https://shop.example/ai", 421),
        ):
            async with client_of(host, url, client=client) as http:
                answer = await http.get("/threads")
                assert answer.status_code == status, (client, url, answer.text)
                assert (await http.get("/health")).status_code == status
        async with client_of(host, "http://localhost/ai") as http:
            evil = {"origin": "https://evil.example"}
            await problem(await http.post("/threads", headers=evil), 403)


@both
async def test_keys_work_in_an_app_as_in_a_server(put: Place, tmp_path: Path) -> None:
    settings = {"api_keys": "ann:secret-of-ann"}
    assent = Assent(payments([]), database=str(tmp_path / "a.db"), settings=settings)
    async with hosted(put, assent) as client:
        await problem(await client.get("/threads"), 401)
        key = {"authorization": "Bearer secret-of-ann"}
        await expect(await client.get("/threads", headers=key), 200)


@both
async def test_before_its_start_and_after_its_end_it_answers_503(
    put: Place, tmp_path: Path
) -> None:
    assent, host = Assent(payments([]), database=str(tmp_path / "a.db"), auth=by_header), FastAPI()
    put(host, assent)
    async with client_of(host, "http://localhost/ai") as client:
        for _ in range(2):
            for path in ("/threads", "/health", "/approvals/x"):
                await problem(await client.get(path, headers={"x-user": "ann"}), 503)
            async with assent:
                await expect(await client.get("/health"), 200)


@both
async def test_what_the_app_says_of_somebody_reaches_the_agent(put: Place, tmp_path: Path) -> None:
    seen: list[Any] = []

    async def note(state: MessagesState, runtime: Runtime) -> None:
        info = runtime.server_info
        seen.append(info.user if info else None)

    graph = StateGraph(MessagesState).add_sequence([note]).add_edge(START, "note").compile()
    assent = Assent(graph, database=str(tmp_path / "a.db"), auth=by_cookie)
    async with hosted(put, assent) as client:
        client.cookies.set("session", "ann's cookie")
        body = {"message": "Hi.", "metadata": {"user": "eve"}}
        await expect(await client.post("/agent/invoke", json=body), 200)
    (user,) = seen
    assert (user.identity, user["plan"], user["is_authenticated"]) == ("ann", "gold", True)


async def test_the_app_s_own_document_refers_to_nothing_that_it_has_not(tmp_path: Path) -> None:
    host = FastAPI()
    assent = Assent(payments([]), database=str(tmp_path / "a.db"), auth=by_header)
    included(host, assent)
    document = host.openapi()
    assert "/ai/agent/stream" in document["paths"]
    schemas = document["components"]["schemas"]
    assert references(document) <= {f"#/components/schemas/{name}" for name in schemas}


async def test_the_app_s_own_document_says_what_ours_does(tmp_path: Path) -> None:
    """And leaves what is the app's own as it is, also where both have a schema of one name."""

    host = FastAPI()

    @host.get("/me", response_model=create_model("MeView", shop=(str, ...)))
    def me() -> Any:
        return {"shop": "corner"}

    assent = Assent(payments([]), database=str(tmp_path / "a.db"), auth=by_header)
    included(host, assent)
    before = FastAPI.openapi(host)["paths"]["/me"]
    async with host.router.lifespan_context(host):
        document = host.openapi()
    ours = document["paths"]["/ai/me"]["get"]["responses"]
    assert ours["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/AssentMeView")
    assert ours["403"]["$ref"] in references(document)
    schemas = document["components"]["schemas"]
    assert [*schemas["MeView"]["properties"]] == ["shop"]
    assert "rights" in schemas["AssentMeView"]["properties"]
    assert document["paths"]["/me"] == before
    assert references(document) <= {
        f"#/components/{kind}/{name}"
        for kind, each in document["components"].items()
        for name in each
    }
    assert OWN_PATH not in json.dumps(document)


@pytest.mark.parametrize("auth", [None, by_header])
async def test_a_mounted_document_says_how_people_are_known(auth: Any, tmp_path: Path) -> None:
    assent = Assent(payments([]), database=str(tmp_path / "a.db"), auth=auth)
    async with assent, client_of(assent.app, "http://localhost") as client:
        document = (await expect(await client.get("/openapi.json"), 200)).json()
    me = document["paths"]["/me"]["get"]
    assert me["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "/MeView"
    )
    assert OWN_PATH not in json.dumps(document)
    kinds = document["components"].get("securitySchemes", {})
    cookies = [each["name"] for each in kinds.values() if each.get("in") == "cookie"]
    if auth is None:
        assert cookies == ["__Host-assent", "assent"]
        assert {name for each in me["security"] for name in each} == {*kinds}
    else:
        assert "security" not in me and not kinds


def references(document: Any) -> set[str]:
    return set(re.findall(r'"(#/components/[^"]+)"', json.dumps(document)))


async def test_the_secret_of_a_link_stays_out_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no page")

    settings = {"public_url": "http://localhost"}
    async with Assent(payments([]), database=str(tmp_path / "a.db"), settings=settings) as assent:
        transport = httpx.ASGITransport(assent.app, raise_app_exceptions=False)
        monkeypatch.setattr("assent.api.routes.links._key", fail)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            with capture_logs() as lines:
                await problem(await client.get("/links/the.secret"), 500)
    assert [line["path"] for line in lines if line["event"] == "request failed"] == ["/links/…"]


async def test_an_update_that_was_taken_is_not_to_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise Unavailable("The disk is away.")

    async with Assent(payments([]), database=str(tmp_path / "a.db")) as assent:
        await assent.runs.create_thread("t", owner=Owner("ann"), metadata={})
        monkeypatch.setattr(assent.runs, "state", away)
        async with client_of(assent.app, "http://localhost") as client:
            answer = await client.post("/threads/t/state", json={"values": {"messages": "Hi."}})
            assert "run_id" in await problem(answer, 503)
            assert "retry-after" not in answer.headers


@both
async def test_a_stream_comes_whole_through_a_host_and_its_middleware(
    put: Place, tmp_path: Path
) -> None:
    def compressed(host: FastAPI, assent: Assent) -> None:
        host.add_middleware(GZipMiddleware, minimum_size=1)
        put(host, assent)

    assent = Assent(payments([], 3), database=str(tmp_path / "a.db"), auth=by_header)
    async with hosted(compressed, assent) as client:
        body, ann = {"message": "Pay 3.", "thread_id": "t"}, {"x-user": "ann"}
        response = await client.post("/agent/stream", json=body, headers=ann)
        assert (response.status_code, response.headers["x-shop"]) == (200, "1")
        sent, reason = without_ends(response.content)
        assert reason == "done"
        numbers = [int(line[4:]) for line in sent.decode().split("\n") if line.startswith("id: ")]
        assert numbers == list(range(1, len(numbers) + 1))
        assert b'"type":"run_paused"' in sent


@dataclass
class Browser:
    """A client of the app without a server in between, which takes what it is `sent`."""

    left: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[Any] = field(default_factory=list)
    on_piece: Callable[[], Awaitable[None]] | None = None

    def scope(self, path: str) -> dict[str, Any]:
        return {
            "type": "http",
            "method": "GET",
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 50_000),
            "http_version": "1.1",
        }

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) > 2 and self.on_piece is not None:
            await self.on_piece()

    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


async def test_nothing_of_the_routing_is_kept_for_a_stream_that_is_open(tmp_path: Path) -> None:
    browser = Browser()
    scope = browser.scope("/threads/t/events")
    given = set(scope)
    async with Assent(payments([]), database=str(tmp_path / "a.db")) as assent:
        await assent.runs.create_thread("t", owner=Owner("ann"), metadata={})
        open_ = asyncio.create_task(assent.app(scope, browser.receive, browser.send))
        await until(lambda: len(browser.sent) == 2)
        assert browser.sent[0]["status"] == 200
        assert browser.sent[1]["body"] == BEGIN
        assert set(scope) - given == {"assent", "assent_later"}
        assert scope["assent_later"] == []
        browser.left.set()
        await open_
    # It has gone, so nothing else was sent to it.
    assert len(browser.sent) == 2


async def test_a_host_s_reader_is_shown_that_the_server_is_there(tmp_path: Path) -> None:
    browser = Browser()
    scope = browser.scope("/threads/t/events")
    settings = {"heartbeat": "0.1s"}
    async with Assent(payments([]), database=str(tmp_path / "a.db"), settings=settings) as assent:
        await assent.runs.create_thread("t", owner=Owner("ann"), metadata={})
        open_ = asyncio.create_task(assent.app(scope, browser.receive, browser.send))
        await until(lambda: len(browser.sent) == 5)
        browser.left.set()
        await open_
    assert browser.body() == BEGIN + PING * 3


async def test_a_reader_whose_next_events_were_removed_is_told_at_the_end(tmp_path: Path) -> None:
    async with Assent(payments([]), database=str(tmp_path / "a.db")) as assent:
        storage = assent.runs.storage
        await assent.runs.create_thread("t", owner=Owner("ann"), metadata={})
        events = [Done(thread_id="t") for _ in range(2000)]
        await storage.commit(Change(events=tuple(events)))

        async def forget() -> None:
            await storage.remove_events(utc_now())

        browser = Browser(on_piece=forget)
        scope = browser.scope("/threads/t/events")
        async with asyncio.timeout(PATIENCE):
            await assent.app(scope, browser.receive, browser.send)
        sent, reason = without_ends(browser.body())
        assert reason == "gone"
        assert 0 < sent.count(b"data: ") < 2000
        assert browser.sent[-1]["more_body"] is False


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_host_s_reader_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    settings = {"stalled": "1s"}
    async with Assent(payments([]), database=str(tmp_path / "a.db"), settings=settings) as assent:
        await assent.runs.create_thread("t", owner=Owner("ann"), metadata={})
        await assent.runs.storage.commit(Change(events=(Done(thread_id="t"),)))
        browser = Browser(on_piece=_for_ever)
        scope = browser.scope("/threads/t/events")
        async with asyncio.timeout(PATIENCE):
            await assent.app(scope, browser.receive, browser.send)
        # The host's server closes a connection whose response has no end.
        assert browser.sent[-1]["more_body"] is True


async def test_served_alone_its_lifespan_opens_it(tmp_path: Path) -> None:
    assent = Assent(payments([]), database=str(tmp_path / "a.db"))
    sent: asyncio.Queue[Any] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    serving = asyncio.create_task(assent.app({"type": "lifespan"}, told.get, sent.put))  # type: ignore[arg-type]
    await told.put({"type": "lifespan.startup"})
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    assert await assent.approvals() == []
    await told.put({"type": "lifespan.shutdown"})
    assert (await sent.get())["type"] == "lifespan.shutdown.complete"
    await serving
    with pytest.raises(Unavailable):
        await assent.approvals()


async def test_a_host_that_fails_as_it_starts_leaves_nothing_open(tmp_path: Path) -> None:
    assent = Assent(payments([]), database=str(tmp_path / "a.db"))
    with pytest.raises(RuntimeError, match="no stock"):
        async with assent:
            raise RuntimeError("no stock")
    async with assent:
        pass


async def test_the_host_keeps_its_threads(tmp_path: Path) -> None:
    loop, names = asyncio.get_running_loop(), []
    with ThreadPoolExecutor(1, thread_name_prefix="shop") as threads:
        loop.set_default_executor(threads)

        async def name() -> None:
            names.append((await asyncio.to_thread(current_thread)).name)

        ledger: list[int] = []
        async with Assent(payments(ledger, 3), database=str(tmp_path / "a.db")) as assent:
            await name()
            await assent.invoke("Pay 3.", thread_id="t", user="ann")
            events = [e async for e in assent.stream_resume("t", Approve(), user="ann")]
        await name()
        assert [each.partition("_")[0] for each in names] == ["shop", "shop"]
        assert ledger == [3]
        assert isinstance(events[-1], Done)
        # As `asyncio.run` does at the end: it is the host's own executor that ends.
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="shutdown"):
            threads.submit(int)


# ── set up wrongly ────────────────────────────────────────────────────────────────────────────────


async def test_it_is_entered_once(tmp_path: Path) -> None:
    async with Assent(payments([]), database=str(tmp_path / "a.db")) as assent:
        with pytest.raises(ConfigurationError, match="open already"):
            await assent.__aenter__()
        assert await assent.approvals() == []


async def test_a_second_process_s_worker_is_told_why_it_cannot_start(tmp_path: Path) -> None:
    database = str(tmp_path / "a.db")
    async with Assent(payments([]), database=database):
        with pytest.raises(ConfigurationError, match=r"another Assent process"):
            async with Assent(payments([]), database=database):
                pass


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"agents": {}}, "no agents"),
        ({"agents": {"shop": "clerk"}}, "The agent 'shop' is a str, and not a compiled graph"),
        ({"settings": {"max_run": 3}}, "The setting max_run is wrong: there is no such setting"),
        ({"settings": {"max_runs": 0}}, "The setting max_runs is wrong"),
        ({"settings": {"cors_origins": ["*"]}}, "'\\*' is no origin"),
        ({"database": "postgresql://db"}, "is not a database that Assent knows"),
        (
            {"auth": by_header, "settings": {"api_keys": "ann:secret-of-ann"}},
            "takes auth or api_keys",
        ),
    ],
)
def test_a_wrong_argument_is_refused_with_a_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Assent(**{"agents": payments([]), **wrong})


@pytest.mark.parametrize("wrap", [lambda graph: graph, lambda graph: graph.with_retry()])
async def test_any_graph_will_do(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [say("Hello.")]})
    graph.add_edge(START, "answer")
    for agents in (graph, wrap(graph.compile()), {"hello": wrap(graph.compile())}):
        async with Assent(agents, database=str(tmp_path / "a.db")) as assent:
            assert (await assent.invoke("Hi.", user="ann")).output == "Hello."


def test_the_environment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_API_KEYS", "short")
    Assent(payments([]), database=str(tmp_path / "a.db"), settings={"max_runs": 3})


# ── in process ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def ledger() -> list[int]:
    return []


@pytest.fixture
async def assent(tmp_path: Path, ledger: list[int]) -> AsyncIterator[Assent]:
    async with Assent(payments(ledger, 3, 5), database=str(tmp_path / "a.db")) as assent:
        yield assent


async def test_a_run_is_streamed_and_decided_in_process(assent: Assent, ledger: list[int]) -> None:
    events = [event async for event in assent.stream("Pay 3.", thread_id="t", user="ann")]
    assert isinstance(events[0], RunStart)
    assert isinstance(events[-1], RunPaused)
    [approval] = await assent.approvals(thread_id="t")
    assert (approval.current_args, approval.requested_by) == ({"amount": 3}, ("ann",))
    assert ledger == []

    events = [
        event
        async for event in assent.stream_resume(
            "t", {approval.approval_id: Approve()}, user="bob", digests={}
        )
    ]
    assert isinstance(events[-1], Done)
    assert ledger == [3]
    [decided] = await assent.approvals(status=None)
    assert decided.decided_by == "bob"
    state = await assent.state("t")
    assert state.values["messages"][-1].text == "Paid."

    told = []
    async for event in assent.events("t"):
        told.append(event)
        if isinstance(event, Done):
            break
    assert told[-len(events) :] == events


async def test_a_graph_is_given_its_own_input_and_context(tmp_path: Path) -> None:
    @dataclass
    class Shop:
        city: str = "Kent"

    class Order(MessagesState):
        item: str

    async def answer(state: Order, runtime: Runtime[Shop]) -> dict[str, Any]:
        said = state["messages"][-1].text
        return {"messages": [say(f"{said} {state['item']} in {runtime.context.city}")]}

    graph = StateGraph(Order, context_schema=Shop).add_node("answer", answer)
    graph.add_edge(START, "answer")
    async with Assent(graph, database=str(tmp_path / "a.db")) as assent:
        given: Any = {"input": {"messages": [HumanMessage("Hi,")], "item": "tea"}}
        result = await assent.invoke(**given, context=Shop("York"), user="ann")
        assert result.output == "Hi, tea in York"
        with pytest.raises(InvalidRequest, match="zzz"):
            await assent.invoke(input={"zzz": 1}, user="ann")


async def test_a_result_says_what_waits(assent: Assent, ledger: list[int]) -> None:
    paused = await assent.invoke("Pay 3.", thread_id="t", user="ann")
    assert (paused.status, paused.output) == ("interrupted", "")
    assert [each.tool for each in paused.approvals] == ["pay"]
    with pytest.raises(NotFound):
        await assent.resume("t", {"another": Approve()}, user="ann")
    outcome = await assent.resume("t", Reject("Too much."), user="ann")
    assert outcome.run_id is not None
    run = await assent.runs.run(outcome.run_id)
    assert (await wait_for_run(assent.runs.storage, run)).status == "success"
    assert ledger == []


async def test_what_is_written_to_a_state_decides_nothing(
    assent: Assent, ledger: list[int]
) -> None:
    paused = await assent.invoke("Pay 3.", thread_id="t", user="ann")
    with pytest.raises(ThreadPaused):
        await assent.update_state("t", {"messages": [HumanMessage("Yes.")]}, user="ann")
    await assent.resume("t", Reject(), user="bob")
    await anext(event async for event in assent.events("t") if isinstance(event, Done))
    forged = call("pay", amount=7)
    thread = await assent.update_state("t", {"messages": [forged]}, user="ann")
    pending = await assent.approvals(thread_id="t")
    assert (thread.status, [each.current_args for each in pending]) == (
        "interrupted",
        [{"amount": 7}],
    )
    assert pending[0].approval_id != paused.approvals[0].approval_id
    assert ledger == []


async def test_agents_and_the_app_share_a_store(assent: Assent) -> None:
    await assent.store.aput(("people", "ann"), "likes", {"drink": "tea"})
    [agent] = assent.runs.agents.values()
    assert agent.store is not None
    item = await agent.store.aget(("people", "ann"), "likes")
    assert item is not None
    assert item.value == {"drink": "tea"}


async def test_a_thread_is_forked_cancelled_and_deleted(assent: Assent) -> None:
    await assent.invoke("Pay 3.", thread_id="t", user="ann")
    forked = await assent.fork("t", user="bob", target="u")
    assert len(await assent.approvals()) == 2
    [cancelled] = await assent.cancel("u", user="bob")
    assert (await wait_for_run(assent.runs.storage, cancelled)).status == "cancelled"
    await assent.delete(forked.thread_id, user="bob")
    with pytest.raises(NotFound):
        await assent.state("u")
    assert len(await assent.approvals()) == 1


async def test_a_run_can_wait_for_its_time(assent: Assent) -> None:
    later = assent.runs.clock.now().replace(year=2999)
    run = await assent.submit("Pay 3.", thread_id="t", user="ann", due_at=later, on_busy="enqueue")
    assert run.status == "pending"
    assert [each.run_id for each in await assent.cancel("t", user="ann")] == []


async def test_a_word_that_nobody_knows_is_refused_with_a_sentence(assent: Assent) -> None:
    unknown: Any = "sideways"
    with pytest.raises(InvalidRequest, match=r"no mode 'sideways'.+ interrupt, rollback"):
        await assent.cancel("t", user="ann", mode=unknown)
    with pytest.raises(InvalidRequest, match=r"no status 'sideways'.+ pending, "):
        await assent.approvals(status=unknown)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"message": "Pay.", "massage": "Pay."}, "massage"),
        ({"message": ""}, "message"),
        ({"message": "Pay.", "thread_id": "not an id"}, "an id is 1 to 64"),
        ({"message": "Pay.", "user": " "}, "The user is a name"),
        ({"input": Command(resume=Approve())}, r"decide with resume\(\)"),
        ({"input": {"when": object()}}, "no form in JSON"),
        ({"message": "Pay.", "due_at": datetime(2999, 1, 1)}, "due_at: .+ timezone"),
    ],
)
async def test_a_wrong_input_is_refused_with_a_sentence(
    assent: Assent, wrong: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        await assent.invoke(**{"user": "ann", **wrong})
    assert (await assent.runs.storage.threads(limit=1)).rows == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": "~approvals"},
        {"target": "a/b"},
        {"metadata": {"when": object()}},
        {"metadata": {"much": 2**70}},
    ],
)
async def test_a_fork_is_held_to_what_a_request_is(assent: Assent, wrong: dict[str, Any]) -> None:
    """A thread under the name of the approvals' feed would be a part of it."""
    await assent.invoke("Pay 3.", thread_id="t", user="ann")
    with pytest.raises(InvalidRequest):
        await assent.fork("t", user="ann", **wrong)
    assert [each.thread_id for each in (await assent.runs.storage.threads(limit=9)).rows] == ["t"]


NOT_JSON: Mapping[str, Any] = {
    "an object": object(),
    "a large number": 2**70,
    "no number": float("nan"),
    "half a character": "\ud800",
    "a key that is no text": {1: 2},
    "deeper than a request may be": json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH),
}


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_what_json_cannot_hold_is_refused_wherever_it_is_given(
    assent: Assent, value: Any
) -> None:
    await assent.invoke("Pay 3.", thread_id="t", user="ann")
    for decision in (Respond(value), Edit({"amount": value}), {"t": Respond(value)}):
        with pytest.raises(InvalidDecision):
            await assent.resume("t", decision, user="bob")
    await assent.resume("t", Reject(), user="bob")
    await anext(event async for event in assent.events("t") if isinstance(event, Done))
    with pytest.raises(InvalidRequest):
        await assent.update_state("t", {"messages": [{"role": "user", "content": value}]}, user="u")


async def test_blanks_around_a_name_make_nobody_else_of_somebody(assent: Assent) -> None:
    paused = await assent.invoke("Pay 3.", thread_id="t", user=" ann\n")
    assert paused.approvals[0].requested_by == ("ann",)


async def test_what_is_of_a_dialect_that_is_off_says_how_to_get_it(tmp_path: Path) -> None:
    settings = {"dialects": ["progress"]}
    async with Assent(payments([]), database=str(tmp_path / "a.db"), settings=settings) as assent:
        transport = httpx.ASGITransport(assent.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            for path, status in (("/assistants/search", 404), ("/runs/wait", 405)):
                refused = await http.post(path, json={})
                assert refused.status_code == status
                said = refused.json()["detail"]
                assert said.endswith("ASSENT_DIALECTS would have to name 'langgraph'."), said
            assert "DIALECTS" not in (await http.get("/nowhere")).json()["detail"]
