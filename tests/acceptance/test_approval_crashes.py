"""Approvals over the real server, which is killed amid whatever is done to them, and started again:
votes, grants, answers to the same key, deadlines, what people say and hand over, links, and what is
told of it all.

Behind every test the database is looked over as `assent doctor` does, and its audit chain is
verified. CRASH_ROUNDS says how many times as often as here all is killed; `make crash` has it 27 times
as often.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent.storage.sqlite.checkup import Level, check_up
from tests.support.audit import assent_audit
from tests.support.keys import NEW_SECRET
from tests.support.receiver import Receiver, receiving
from tests.support.secrets import keys_of
from tests.support.server import (
    Api,
    Server,
    asking_as,
    expect,
    free_port,
    only,
    problem,
    scripted_agents,
    serving,
    types_of,
)
from tests.support.waiting import until

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))

pytestmark = pytest.mark.timeout(120 + 60 * ROUNDS)

Json = Any
People = dict[str, Api]

APPROVE = {"type": "approve"}
AGENTS = ("agent", "slow_agent", "chat_agent")
NAMES = ("ann", "bob", "cy", "dee", "eve")
LEADS = ("bob", "cy", "dee")
POLICIES = """
[people]
bob = {roles = ["lead"]}
cy = {roles = ["lead"]}
dee = {roles = ["lead"]}

[policies.agents.agent.tools.pay]
roles = ["lead"]
quorum = 2

[policies.agents.agent.tools.slow]
timeout = "1s"
reminders = [0.5]

[policies.agents.slow_agent.tools.slow]
timeout = "4s"

[policies.agents.agent.tools.die]
timeout = "1s"
on_timeout = "escalate"
escalation = [{roles = ["lead"], timeout = "1s"}]
"""
"""Of `chat_agent` anybody decides, and by himself."""


def environment(folder: Path, more: str = "") -> dict[str, str]:
    """That of a server where these people decide by these policies."""
    file = folder / "assent.toml"
    file.write_text(POLICIES + more)
    return {
        "ASSENT_API_KEYS": keys_of(*NAMES),
        "ASSENT_ROLES": ",".join(f"{name}:operator approver auditor" for name in NAMES),
        "ASSENT_CONFIG": str(file),
        "ASSENT_PUBLIC_URL": "https://assent.example",
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, scripted_agents(tmp_path, *AGENTS), **environment(tmp_path)) as server:
        yield server
        is_sound(server)


@pytest.fixture
async def people(server: Server) -> AsyncIterator[People]:
    async with everybody(server) as people:
        yield people


@asynccontextmanager
async def everybody(server: Server) -> AsyncIterator[People]:
    """A client for each of them."""
    async with asking_as(server, *NAMES) as people:
        yield people


def is_sound(server: Server) -> None:
    """Nothing in the database contradicts anything else, and the audit chain is whole."""
    server.kill()
    assert [
        finding for finding in check_up(server.folder / "assent.db") if finding.level is Level.WRONG
    ] == []
    assert "The audit chain is whole" in assent_audit(server, "verify", ASSENT_AUDIT_KEY="")


amounts = count(1000)


Moments = Iterator[tuple[float, float]]


def moments(seed: int) -> Moments:
    """When to kill: after which share of the answers, and after which share of a while from then
    on. Every other time before any answer."""
    chance = random.Random(seed)
    for number in count():
        yield chance.random() if number % 2 else 0.0, chance.random()


async def killed_amid(
    server: Server,
    when: Moments,
    work: Sequence[Awaitable[httpx.Response | None]],
    within: float = 0.004,
) -> list[Any]:
    """Do all of it at once, kill the server after some of the answers, and start it again; the
    answers, None for those that were lost.

    A kill after a time would come before or behind everything on a machine that is slower or faster
    than this one.
    """
    share, pause = next(when)
    enough, left = asyncio.Event(), ceil(share * len(work))

    async def counted(each: Awaitable[httpx.Response | None]) -> httpx.Response | None:
        nonlocal left
        answer = await each
        left -= 1
        if left == 0:
            enough.set()
        return answer

    doing = asyncio.gather(*map(counted, work))
    if left:
        await enough.wait()
    await asyncio.sleep(pause * within)
    await asyncio.to_thread(server.kill)
    answers = await doing
    await asyncio.to_thread(server.start)
    return answers


async def post(
    api: Api, path: str, body: Json = None, *, key: str = "", **form: Json
) -> httpx.Response | None:
    """The answer, or None if it was lost with the server."""
    try:
        return await api.http.post(
            path, json=body, headers={"idempotency-key": key} if key else {}, **form
        )
    except httpx.TransportError:
        return None


async def asked(api: Api, message: str, **body: Json) -> Json:
    """The approval that the message leads to, though by now it may have expired."""
    events = await api.stream(message, thread_id=f"t-{message.replace(' ', '-')}", **body)
    assert events[-1]["type"] == "run_paused", events[-1]
    return await api.approval(only(events, "approval_required")["approval_id"])


def path_of(approval: Json, verb: str = "decide") -> str:
    return f"/approvals/{approval['approval_id']}/{verb}"


async def ran_once(server: Server, api: Api, approval: Json) -> None:
    """The approved call ran once; or it was cut off, and a person is asked what became of it."""
    thread = await api.at_rest(approval["thread_id"])
    started = server.traces().count(f"{approval['tool']} {approval['args']['amount']}")
    if thread["status"] == "interrupted":
        assert [each["kind"] for each in await api.pending(approval["thread_id"])] == [
            "unknown_outcome"
        ]
        assert started <= 1
    else:
        assert (thread["status"], started) == ("idle", 1)


# ── votes ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_vote_that_was_acknowledged_counts_after_the_kill(
    server: Server, people: People
) -> None:
    for _ in range(2 * ROUNDS):
        approval = await asked(people["ann"], f"pay {next(amounts)}")

        async def vote(key: str, approval: Json = approval) -> httpx.Response:
            return await people["bob"].http.post(
                path_of(approval), json=APPROVE, headers={"idempotency-key": key}
            )

        first = await expect(await vote(approval["approval_id"]), 202)
        server.kill()
        server.start()
        voted = await people["ann"].approval(approval["approval_id"])
        assert (voted["status"], [vote["by"] for vote in voted["votes"]]) == ("pending", ["bob"])
        assert (await expect(await vote(approval["approval_id"]), 202)).content == first.content
        # Without the key, he says the same again, and that is one vote too.
        await vote(f"another-{approval['approval_id']}")
        assert len((await people["ann"].approval(approval["approval_id"]))["votes"]) == 1
        assert server.traces(f"pay {approval['args']['amount']}") == []
        await expect(await people["cy"].http.post(path_of(approval), json=APPROVE), 202)
        server.kill()
        server.start()
        assert (await people["ann"].approval(approval["approval_id"]))["status"] == "approved"
        await ran_once(server, people["ann"], approval)


async def test_killed_amid_three_who_vote_at_once_it_keeps_what_it_acknowledged_and_runs_the_call_once(
    server: Server, people: People
) -> None:
    when, told = moments(11), Counter[str]()
    # On a busy machine many kills come when nothing or all was done: then some more.
    for number in range(18 * ROUNDS):
        if number >= 4 * ROUNDS and len(told) > 2:
            break
        approvals = [await asked(people["ann"], f"pay {next(amounts)}") for _ in range(3)]
        votes = [(approval, name) for approval in approvals for name in LEADS]

        def vote(approval: Json, name: str) -> Awaitable[httpx.Response | None]:
            return post(people[name], path_of(approval), APPROVE, key=approval["approval_id"])

        before = await killed_amid(server, when, [vote(*each) for each in votes])
        known = {
            (approval["approval_id"], name): answer
            for (approval, name), answer in zip(votes, before, strict=True)
        }
        for approval in approvals:
            mine = {name: known[approval["approval_id"], name] for name in LEADS}
            acknowledged = {
                name for name, answer in mine.items() if answer and answer.status_code == 202
            }
            row = await people["ann"].approval(approval["approval_id"])
            standing = [vote["by"] for vote in row["votes"]]
            assert (
                acknowledged
                <= set(standing)
                <= acknowledged | {name for name, answer in mine.items() if answer is None}
            )
            assert len(standing) == len(set(standing)) <= 2
            assert (row["status"] == "approved") == (len(standing) == 2)
            told[f"{len(acknowledged)} of {len(standing)}"] += 1
        # Everybody sends his again, for he knows nothing of the kill.
        after = [await vote(*each) for each in votes]
        for approval in approvals:
            row = await people["ann"].approval(approval["approval_id"])
            assert (row["status"], len(row["votes"])) == ("approved", 2)
            await ran_once(server, people["ann"], approval)
        answers = list(zip(votes, before, after, strict=True))
        for (approval, _), first, second in answers:
            assert second is not None
            assert second.status_code in (202, 409), approval
            if first is not None and first.status_code == 202:
                assert second.content == first.content
        by_approval = Counter(
            approval["approval_id"]
            for (approval, _), _, second in answers
            if second.status_code == 202
        )
        assert set(by_approval.values()) == {2}
    assert len(told) > 2, f"The kills came when nothing or all was done, and show nothing: {told}"


# ── the same again ────────────────────────────────────────────────────────────────────────────────


async def test_the_same_key_after_the_kill_gets_the_answer_that_was_stored(
    server: Server, people: People
) -> None:
    when, lost, kept = moments(12), 0, 0

    def send(approval: Json, body: Json = APPROVE) -> Awaitable[httpx.Response | None]:
        by_thread = approval["args"]["amount"] % 2
        path = f"/threads/{approval['thread_id']}/resume" if by_thread else path_of(approval)
        return post(people["bob"], path, body, key=approval["approval_id"])

    for _ in range(3 * ROUNDS):
        approvals = [
            await asked(people["ann"], f"pay {next(amounts)}", agent="chat_agent") for _ in range(4)
        ]
        # Each twice, as by a client that hedges.
        before = await killed_amid(server, when, list(map(send, approvals * 2)))
        for place, approval in enumerate(approvals):
            row = await people["ann"].approval(approval["approval_id"])
            mine = [each for each in (before[place], before[place + 4]) if each is not None]
            assert {each.status_code for each in mine} <= {202}
            again = await send(approval)
            assert again is not None
            await expect(again, 202)
            assert {each.content for each in mine} <= {again.content}
            assert not mine or row["status"] == "approved"
            lost, kept = lost + (row["status"] == "pending"), kept + (row["status"] == "approved")
            other = await send(approval, {"type": "reject"})
            assert other is not None
            await problem(other, 422)
            await ran_once(server, people["ann"], approval)
            resumed = [
                each
                for each in await people["ann"].events(approval["thread_id"])
                if each["type"] == "run_resumed"
            ]
            assert [
                each["run_id"] for each in resumed if again.json()["run_id"] == each["run_id"]
            ] == [again.json()["run_id"]]
            decided = types_of(await people["ann"].events(approval["thread_id"])).count(
                "approval_decided"
            )
            assert decided == 1
    assert lost > 0
    assert kept > 0


# ── in advance ────────────────────────────────────────────────────────────────────────────────────


async def test_killed_amid_pauses_that_a_grant_decides_it_is_used_as_often_as_it_decided(
    server: Server, people: People
) -> None:
    when, uses = moments(13), 5 * ROUNDS
    body = {
        "tool": "pay",
        "agent": "chat_agent",
        "bounds": {"amount": {"any": True}},
        "user": "ann",
        "uses": uses,
    }
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    grant = (
        await expect(await people["bob"].http.post("/grants", json={**body, "until": until}), 201)
    ).json()

    async def runs(threads: Sequence[str]) -> None:
        told = [
            {"message": f"pay {next(amounts)}", "agent": "chat_agent", "thread_id": thread}
            for thread in threads
        ]
        starts = [post(people["ann"], "/agent/runs", each) for each in told]
        # What was answered is that it begins. It pauses, and goes on, a little later.
        await killed_amid(server, when, starts, within=0.1)

    for number in range(3 * ROUNDS):
        await runs([f"g{number}-{place}" for place in range(3)])
        threads = (await people["ann"].get("/threads", limit=1000))["threads"]
        for thread in threads:
            await people["ann"].at_rest(thread["thread_id"])
        approvals = (await people["ann"].get("/approvals", tool="pay", limit=1000))["approvals"]
        asked_for = [each for each in approvals if each["kind"] == "tool"]
        by_grant = [
            each
            for each in asked_for
            if any(vote.get("grant") == grant["grant_id"] for vote in each["votes"])
        ]
        used = (await people["ann"].get(f"/grants/{grant['grant_id']}"))["used"]
        assert used == len(by_grant) == min(len(asked_for), uses)
        assert all((each["status"], each["decided_by"]) == ("approved", "bob") for each in by_grant)
        for each in by_grant:
            await ran_once(server, people["ann"], each)
        assert all(
            server.traces(f"pay {each['args']['amount']}") == []
            for each in asked_for
            if each not in by_grant
        )
    assert used > 0


# ── time ──────────────────────────────────────────────────────────────────────────────────────────

SECOND = timedelta(seconds=1)
AFTER_A_RESTART = 10 * SECOND


@pytest.mark.parametrize(
    ("after", "down"),
    [(0.2, 0.0), (0.5, 0.0), (0.5, 1.0), (0.98, 0.0), (1.0, 0.3), (1.02, 0.0)],
    ids=lambda seconds: f"{seconds}s",
)
async def test_a_deadline_about_which_the_server_is_killed_is_kept_once(
    server: Server, people: People, after: float, down: float
) -> None:
    """Killed so long after it was asked, with a second to decide, and down for a while."""
    ann = people["ann"]
    asked_for = await asyncio.gather(
        *(asked(ann, f"{tool} {next(amounts)}") for tool in ("slow", "slow", "die"))
    )
    first = min(datetime.fromisoformat(each["requested_at"]) for each in asked_for)
    await asyncio.sleep(max(0.0, (first - datetime.now(UTC)).total_seconds() + after))
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(down)
    await asyncio.to_thread(server.start)
    started_at = datetime.now(UTC)
    for approval in asked_for:
        await ann.until(approval["thread_id"], "approval_expired")
    # Another start finds nothing to do again.
    server.restart()
    for approval in asked_for:
        assert "Nobody decided in time." in await ann.last_words(approval["thread_id"])
        events = [
            each
            for each in await ann.events(approval["thread_id"])
            if each["type"].startswith("approval_")
        ]
        at = {each["type"]: datetime.fromisoformat(each["ts"]) for each in events}
        times = Counter(types_of(events))
        escalated = approval["tool"] == "die"
        assert times["approval_expired"] == 1
        assert times["approval_escalated"] == escalated
        assert times["approval_reminder"] <= (not escalated)
        due = (
            at["approval_escalated"] + SECOND
            if escalated
            else datetime.fromisoformat(approval["expires_at"])
        )
        assert due <= at["approval_expired"] <= max(due, started_at) + AFTER_A_RESTART
        if escalated:
            due = datetime.fromisoformat(approval["expires_at"])
            assert due <= at["approval_escalated"] <= max(due, started_at) + AFTER_A_RESTART
        if "approval_reminder" in at:
            assert (
                at["approval_required"] + SECOND / 2
                <= at["approval_reminder"]
                < at["approval_expired"]
            )
        elif not escalated:
            # Only a server that was down for all of the time between may have left it out: by then
            # it was too late to remind anybody.
            assert started_at - AFTER_A_RESTART < due <= at["approval_expired"]
            assert after <= 0.5
            assert down or started_at >= due
        assert server.traces(f"{approval['tool']} {approval['args']['amount']}") == []


async def test_thirty_decisions_and_their_refusals_race_their_expiry_and_each_has_one_outcome(
    server: Server, people: People
) -> None:
    ann, chance = people["ann"], random.Random(14)

    async def race(number: int) -> tuple[Json, list[tuple[Json, httpx.Response]]]:
        await asyncio.sleep(number * 0.08)
        amount = next(amounts)
        server.let_go(amount)
        approval = await asked(ann, f"slow {amount}", agent="slow_agent")
        # Most as close as can be; some early enough for a busy machine, and some late.
        moment = datetime.fromisoformat(approval["expires_at"]) + timedelta(
            seconds=(-2.5, 0.1)[number % 2] if number < 6 else 0
        )

        async def decide(name: str, kind: str) -> tuple[Json, httpx.Response]:
            at = moment + timedelta(seconds=chance.uniform(-0.05, 0.03))
            await asyncio.sleep(max(0.0, (at - datetime.now(UTC)).total_seconds()))
            return {"type": kind, "by": name}, await people[name].http.post(
                path_of(approval), json={"type": kind}
            )

        return approval, list(
            await asyncio.gather(decide("bob", "approve"), decide("cy", "reject"))
        )

    outcomes = Counter[str]()
    for approval, answers in await asyncio.gather(*map(race, range(30))):
        await ann.at_rest(approval["thread_id"])
        row = await ann.approval(approval["approval_id"])
        outcomes[row["status"]] += 1
        won = [said for said, answer in answers if answer.status_code == 202]
        assert {answer.status_code for _, answer in answers} <= {202, 409}
        assert [said["by"] for said in won] == ([row["decided_by"]] if row["decided_by"] else [])
        assert row["status"] == (
            {"approve": "approved", "reject": "rejected"}[won[0]["type"]] if won else "expired"
        )
        assert {answer.json()["outcome"] for _, answer in answers if answer.status_code == 409} <= {
            row["status"]
        }
        assert (
            datetime.fromisoformat(row["decided_at"])
            < datetime.fromisoformat(approval["expires_at"])
        ) == bool(won)
        events = types_of(await ann.events(approval["thread_id"]))
        assert (events.count("approval_decided"), events.count("approval_expired")) == (
            (1, 0) if won else (0, 1)
        )
        assert events.count("run_resumed") == 1
        assert len(server.traces(f"slow {approval['args']['amount']}")) == (
            row["status"] == "approved"
        )
    assert outcomes["expired"] > 0
    assert outcomes["approved"] + outcomes["rejected"] > 0


# ── what people say ───────────────────────────────────────────────────────────────────────────────


async def test_what_was_said_handed_over_and_taken_back_before_the_kill_is_there_after_it(
    server: Server, people: People
) -> None:
    when, told = moments(15), Counter[str]()
    for _ in range(3 * ROUNDS):
        approval = await asked(people["ann"], f"pay {next(amounts)}")
        await expect(await people["bob"].http.post(path_of(approval), json=APPROVE), 202)
        work = {
            "comment": post(people["dee"], path_of(approval, "comment"), {"text": "Why?"}),
            "delegate": post(people["cy"], path_of(approval, "delegate"), {"to": "eve"}),
            "withdraw": post(people["bob"], path_of(approval, "withdraw")),
        }
        answers = dict(zip(work, await killed_amid(server, when, list(work.values())), strict=True))
        row = await people["ann"].approval(approval["approval_id"])
        stands = {
            "comment": [(each["by"], each["text"]) for each in row["comments"]]
            == [("dee", "Why?")],
            "delegate": [(each["voting_right"], each["to"]["name"]) for each in row["delegations"]]
            == [("cy", "eve")],
            "withdraw": row["votes"] == [],
        }
        assert row["status"] == "pending"
        assert len(row["comments"]) <= 1
        events = Counter(types_of(await people["ann"].events(approval["thread_id"])))
        written = {
            "comment": "approval_commented",
            "delegate": "approval_delegated",
            "withdraw": "approval_withdrawn",
        }
        for verb, answer in answers.items():
            assert answer is None or answer.status_code in (200, 201), answer.text
            assert stands[verb] or answer is None, f"{verb} was acknowledged, and is lost"
            assert events[written[verb]] == stands[verb]
            told["acknowledged" if answer else "stored" if stands[verb] else "lost"] += 1
    assert told["acknowledged"] > 0, told
    assert told["acknowledged"] < sum(told.values()), told


# ── links ─────────────────────────────────────────────────────────────────────────────────────────


async def link_for(api: Api, approval: Json) -> str:
    """A link's path, for the one who asks for it."""
    made = (
        await expect(
            await api.http.post(path_of(approval, "links"), json={"recipient": "bob"}), 201
        )
    ).json()
    return str(made["url"].removeprefix("https://assent.example"))


async def test_a_link_that_was_pressed_before_the_kill_has_decided_and_is_used_up(
    server: Server, people: People
) -> None:
    when, told = moments(16), Counter[str]()
    async with httpx.AsyncClient(
        base_url=server.url, trust_env=False, verify=False, timeout=20
    ) as browser:

        async def press(path: str) -> httpx.Response | None:
            try:
                return await browser.post(path, data={"decision": "approve"})
            except httpx.TransportError:
                return None

        for _ in range(3 * ROUNDS):
            # Of every two, one waits for another's vote after that, and the link must be of no use
            # for it.
            approvals = [
                await asked(people["ann"], f"pay {next(amounts)}", agent=agent)
                for agent in ("agent", "chat_agent") * 2
            ]
            links = [await link_for(people["bob"], approval) for approval in approvals]
            answers = await killed_amid(server, when, list(map(press, links)))
            for approval, link, answer in zip(approvals, links, answers, strict=True):
                row = await people["ann"].approval(approval["approval_id"])
                voted = [vote["by"] for vote in row["votes"]] == ["bob"]
                assert answer is None or (answer.status_code, voted) == (200, True)
                for status in (410 if voted else 200, 410):
                    again = await press(link)
                    assert again is not None
                    assert again.status_code == status, again.text
                row_now = await people["ann"].approval(approval["approval_id"])
                assert [vote["by"] for vote in row_now["votes"]] == ["bob"]
                if row_now["quorum"] == 2:
                    assert row_now["status"] == "pending"
                    await expect(await people["cy"].http.post(path_of(approval), json=APPROVE), 202)
                await ran_once(server, people["ann"], approval)
                told["acknowledged" if answer else "stored" if voted else "lost"] += 1
    assert told["acknowledged"] > 0, told
    assert told["acknowledged"] < sum(told.values()), told


# ── what is told ──────────────────────────────────────────────────────────────────────────────────


DELIVERED_SECONDS = 30 * (1 + ROUNDS)
"""What failed again and again waits each time as long as all the times before."""


async def test_each_decision_is_told_however_often_the_server_is_killed_and_by_one_id(
    tmp_path: Path,
) -> None:
    port, when = free_port(), moments(17)
    hook = {"url": f"http://127.0.0.1:{port}/", "secrets": [NEW_SECRET], "allow_http": True}
    endpoint = "\n[notify.hook]\n" + "\n".join(
        f"{name} = {json.dumps(value)}" for name, value in hook.items()
    )
    with serving(
        tmp_path, scripted_agents(tmp_path, *AGENTS), **environment(tmp_path, endpoint)
    ) as server:
        async with (
            everybody(server) as people,
            receiving(Receiver(after=0.02), port=port) as receiver,
        ):
            for number in range(3 * ROUNDS):
                approvals = [
                    await asked(people["ann"], f"pay {next(amounts)}", agent="chat_agent")
                    for _ in range(4)
                ]
                # What it is told while it is ill does not count: it must be told again, by the
                # server that comes after.
                receiver.status = 200 if number % 2 else 500
                decide = [
                    post(people["bob"], path_of(each), {"type": "reject"}) for each in approvals
                ]
                await killed_amid(server, when, decide)
            receiver.status = 200
            rows: list[Json] = (await people["ann"].get("/approvals", limit=1000))["approvals"]
            decided = {row["approval_id"] for row in rows if row["status"] == "rejected"}
            assert 0 < len(decided) < len(rows) == 12 * ROUNDS

            def ids(kind: str, *statuses: int) -> dict[str, set[str]]:
                found: dict[str, set[str]] = {}
                for got in receiver.got:
                    if got.json["type"] == kind and got.status in statuses:
                        found.setdefault(got.json["data"]["approval"]["approval_id"], set()).add(
                            got.headers["webhook-id"]
                        )
                return found

            await until(
                lambda: (
                    set(ids("approval_decided", 200)) >= decided
                    and len(ids("approval_required", 200)) == len(rows)
                ),
                DELIVERED_SECONDS,
            )
            assert set(ids("approval_decided", 200)) == decided
            for told in (ids("approval_decided", 200, 500), ids("approval_required", 200, 500)):
                assert {len(each) for each in told.values()} == {1}, told

            async def all_are_delivered() -> bool:
                pending = await people["ann"].get("/notifications", status="pending")
                return not pending["notifications"]

            await until(all_are_delivered, DELIVERED_SECONDS)
        is_sound(server)
