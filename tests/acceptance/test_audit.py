"""The audit chain through the real server and the real command: who did what, whole after kills,
and broken by another's hand."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.support.audit import AUDIT_KEY, assent_audit
from tests.support.command import run
from tests.support.keys import KEY, NEW_SECRET, key
from tests.support.receiver import Receiver, receiving
from tests.support.server import (
    Api,
    Server,
    asking,
    expect,
    problem,
    scripted_agents,
    serving,
    volley,
)
from tests.support.waiting import until

DECISIONS = int(os.environ.get("CRASH_DECISIONS", "50"))
"""The approvals that are decided at once; `make crash` has 200."""

Json = Any


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(
        tmp_path,
        scripted_agents(tmp_path, "agent"),
        ASSENT_AUDIT_KEY=AUDIT_KEY,
        ASSENT_DRAIN_SECONDS="0.1",
    ) as server:
        yield server


def edit(server: Server, script: str) -> None:
    with closing(sqlite3.connect(server.folder / "assent.db")) as connection:
        connection.executescript(script)


async def audit(api: Api, **filters: Json) -> list[Json]:
    """Every row, page after page."""
    rows: list[Json] = []
    page: Json = {"next": None}
    while not rows or page["next"]:
        page = await api.get(
            "/audit", limit=3, **filters, **({"cursor": page["next"]} if page["next"] else {})
        )
        rows += page["audit"]
        if not page["audit"]:
            break
    return rows


async def test_who_did_what_is_audited_and_outlives_the_thread(tmp_path: Path) -> None:
    keys = {
        "ASSENT_API_KEYS": "ann:secret-of-ann,bob:secret-of-bob",
        "ASSENT_ROLES": "ann:operator approver auditor,bob:operator approver auditor",
        "ASSENT_ENCRYPTION_KEY": KEY,
    }
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **keys) as server:
        async with (
            asking(server, Authorization="Bearer secret-of-ann") as ann,
            asking(server, Authorization="Bearer secret-of-bob") as bob,
        ):
            (first,) = await ann.paused("pay 5 then pay 6", thread_id="t")
            await bob.decided("t", type="approve")
            await ann.until("t", "run_paused", after=(await ann.events("t"))[-1]["seq"] - 1)
            await ann.at_rest("t")
            (second,) = await ann.pending("t")
            await bob.decided(
                "t", decisions={second["approval_id"]: {"type": "edit", "args": {"amount": 4711}}}
            )
            await ann.at_rest("t")
            (third,) = await ann.paused("pay 8", thread_id="t")
            await problem(await bob.resume("t", type="edit", args={"amount": -1}), 422)
            await ann.cancel("/threads/t")
            await ann.at_rest("t")
            await expect(await ann.http.delete("/threads/t"), 204)
            rows = await audit(ann, thread_id="t")
            said = [
                (
                    row["action"],
                    row["actor"],
                    row["authentication"],
                    row["digest"],
                    row["detail"].get("decision"),
                )
                for row in rows
            ]
            assert said == [
                ("asked", "", "assent", first["digest"], None),
                ("decided", "bob", "api_key", first["digest"], "approve"),
                ("asked", "", "assent", second["digest"], None),
                ("decided", "bob", "api_key", second["digest"], "edit"),
                ("asked", "", "assent", third["digest"], None),
                ("cancelled", "ann", "api_key", third["digest"], None),
                ("erased", "ann", "api_key", "", None),
            ]
            assert [row["number"] for row in rows] == list(range(1, 8))
            assert "4711" not in json.dumps([row["detail"] for row in rows])
            assert [row["number"] for row in await audit(ann, actor="bob")] == [2, 4]
            assert [
                row["number"] for row in await audit(ann, approval_id=third["approval_id"])
            ] == [5, 6]
            assert [row["number"] for row in await audit(ann, since=rows[5]["at"])] == [6, 7]
            assert await audit(ann, actor="eve") == []
            assert await ann.get("/audit/head") == {
                "head": {name: rows[-1][name] for name in ("number", "mac", "key", "at")}
            }
            for wrong in (
                {"cursor": "x"},
                {"since": "2026-01-01T00:00:00"},
                {"limit": "0"},
                {"thread_id": "../t"},
            ):
                await problem(await ann.http.get("/audit", params=wrong), 422)
            told = assent_audit(server, "verify", ASSENT_AUDIT_KEY="")
            assert f"Its head: 7:{rows[-1]['mac']}" in told
            assert "is encrypted, with the key '2026'" in assent_audit(
                server, "verify", code=2, ASSENT_AUDIT_KEY="", ASSENT_ENCRYPTION_KEY=""
            )


async def test_the_command_looks_beside_a_server_and_finds_another_hand(server: Server) -> None:
    assert "no rows yet" in assent_audit(server, "verify")
    ended = await asyncio.to_thread(
        run, ["audit", "verify"], folder=server.folder, environment=server.environment
    )
    assert (ended.returncode, ended.stdout) == (
        0,
        "The audit chain is whole: it has no rows yet.\n",
    )
    async with asking(server) as api:
        assert await api.get("/audit/head") == {"head": None}
        for number in range(1, 7):
            await api.paused(f"pay {number}", thread_id=f"t{number}")
            await api.decided(f"t{number}", type="reject", message="=no")
            await api.at_rest(f"t{number}")
        rows = await audit(api)
    assert {row["authentication"] for row in rows if row["action"] == "decided"} == {"local"}
    assert [json.loads(line) for line in assent_audit(server, "export").splitlines()] == rows
    assert [
        json.loads(line)
        for line in assent_audit(server, "export", "--since", rows[9]["at"]).splitlines()
    ] == rows[9:]
    table = list(csv.DictReader(io.StringIO(assent_audit(server, "export", "--format", "csv"))))
    assert [
        {**row, "number": int(row["number"]), "detail": json.loads(row["detail"])} for row in table
    ] == rows
    assert "is not a time" in assent_audit(server, "export", "--since", "soon", code=2)
    head = server.folder / "head"
    head.write_text(f"{rows[-1]['number']}:{rows[-1]['mac']}\n")
    assert "12 row(s)" in assent_audit(server, "verify", "--head", str(head))
    # A wrong key, or none, says nothing against the chain.
    assert "is not the one that the chain" in assent_audit(
        server, "verify", code=2, ASSENT_AUDIT_KEY=key("2026", "b")
    )
    assert "12 row(s) with the key '2026' could not be checked" in assent_audit(
        server, "verify", code=2, ASSENT_AUDIT_KEY=""
    )
    assert "neither a number" in assent_audit(server, "verify", "--head", "none", code=2)

    edit(server, "DELETE FROM audit WHERE number > 10")
    assert "10 row(s)" in assent_audit(server, "verify")
    assert "Row 11 is missing, and all behind it" in assent_audit(
        server, "verify", "--head", str(head), code=1
    )
    assert "Row 11 is missing" in assent_audit(
        server, "verify", "--head", head.read_text().strip(), code=1
    )
    assert "Row 11 is missing" in assent_audit(
        server, "verify", code=1, ASSENT_AUDIT_HEAD_FILE=str(head)
    )
    edit(server, "UPDATE audit SET actor = 'mallory' WHERE number = 4")
    assert "Row 4 is not what Assent wrote there" in assent_audit(server, "verify", code=1)
    edit(server, "DELETE FROM audit WHERE number = 2")
    assert "Row 2 is missing" in assent_audit(server, "verify", code=1)
    edit(server, "UPDATE audit SET action = 'dreamt' WHERE number = 3")
    assert "Row 3 of the audit chain" in assent_audit(server, "export", code=2)


async def test_the_head_is_kept_in_a_file(tmp_path: Path) -> None:
    head = tmp_path / "elsewhere" / "head"
    head.parent.mkdir()
    settings = {
        "ASSENT_AUDIT_KEY": AUDIT_KEY,
        "ASSENT_AUDIT_HEAD_FILE": str(head),
        "ASSENT_AUDIT_HEAD_EVERY": "0.05s",
    }
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **settings) as server:
        async with asking(server) as api:
            await api.paused("pay 5", thread_id="t")
            await until(head.exists)
            await api.decided("t", type="reject")
            await api.at_rest("t")
            expected = (await api.get("/audit/head"))["head"]
        server.terminate()
        # The last one is written as the server ends.
        assert json.loads(head.read_text()) == expected
        assert expected["number"] == 2
        assert "2 row(s)" in assent_audit(server, "verify", "--head", str(head))
        edit(server, "DELETE FROM audit WHERE number = 2")
        assert "Row 2 is missing" in assent_audit(server, "verify", "--head", str(head), code=1)
        assert server.output.count("could not be sent") == 0


async def test_the_head_is_sent_to_a_webhook_whenever_it_has_moved(tmp_path: Path) -> None:
    async with receiving(Receiver(status=503)) as receiver:
        vault = {
            "url": f"http://127.0.0.1:{receiver.port}/",
            "secrets": [NEW_SECRET],
            "allow_http": True,
            "events": ["audit_head"],
        }
        (tmp_path / "assent.json").write_text(json.dumps({"notify": {"vault": vault}}))
        settings = {
            "ASSENT_CONFIG": str(tmp_path / "assent.json"),
            "ASSENT_AUDIT_HEAD_EVERY": "0.05s",
        }
        with serving(
            tmp_path, scripted_agents(tmp_path, "agent"), **settings, ASSENT_AUDIT_KEY=AUDIT_KEY
        ) as server:
            async with asking(server) as api:
                await api.paused("pay 5", thread_id="t")
                # It is not taken, so it is sent again; and with the same id.
                refused = list(await receiver.until(2))
                assert len({each.headers["webhook-id"] for each in refused}) == 1
                receiver.status = 204
                await api.decided("t", type="reject")
                while receiver.got[-1].json["data"]["head"]["number"] < 2:
                    await receiver.until(len(receiver.got) + 1)
                last = receiver.got[-1]
                assert last.json["data"] == await api.get("/audit/head")
                assert (last.json["type"], last.json["timestamp"]) == (
                    "audit_head",
                    last.json["data"]["head"]["at"],
                )
                Webhook(NEW_SECRET).verify(last.body, last.headers)
                assert (await api.get("/notifications"))["notifications"] == []
            await asyncio.to_thread(server.terminate)
            # What was taken is not sent again, also not at the end.
            assert receiver.got[-1] is last
            kept = f"{last.json['data']['head']['number']}:{last.json['data']['head']['mac']}"
            edit(server, "DELETE FROM audit WHERE number = 2")
            assert "Row 2 is missing" in assent_audit(server, "verify", "--head", kept, code=1)


async def test_very_many_decisions_at_once_leave_a_whole_chain(server: Server) -> None:
    async with asking(server) as api:
        asked = await asyncio.gather(
            *(
                api.paused(f"pay {number}", thread_id=f"t{number}")
                for number in range(1, DECISIONS + 1)
            )
        )
        approvals = [approval for (approval,) in asked]
        # Everybody twice: one of the two decides, and only that is audited.
        requests = [
            (f"/approvals/{each['approval_id']}/decide", {"type": type_})
            for each in approvals
            for type_ in ("approve", "reject")
        ]
        answers = await volley(server, requests)
        assert sorted({status for status, _ in answers}) == [202, 409]
        rows = [row for row in await audit(api) if row["action"] == "decided"]
        won = {
            (path.split("/")[2], body["type"])
            for (path, body), (status, _) in zip(requests, answers, strict=True)
            if status == 202
        }
    assert len(won) == DECISIONS
    assert {(row["approval_id"], row["detail"]["decision"]) for row in rows} == won
    assert len(rows) == DECISIONS
    assert f"{2 * DECISIONS} row(s)" in assent_audit(server, "verify")


KILLED_AFTER = (0, 1, 0, 3, 0, 5, 0, 2)
"""The decisions of each round that are acknowledged when the server is killed. They are counted,
not timed: on a busy machine every kill that is timed comes before the first of them."""


@pytest.mark.timeout(600)
async def test_a_kill_amid_decisions_leaves_a_whole_chain_that_agrees_with_the_approvals(
    server: Server,
) -> None:
    moments, acknowledged, each = random.Random(5), set[str](), 12
    count = len(KILLED_AFTER) * each
    one_more = asyncio.Event()

    async def decide(api: Api, approval_id: str) -> None:
        try:
            answer = await api.http.post(
                f"/approvals/{approval_id}/decide", json={"type": "reject"}
            )
        except httpx.TransportError:
            return
        assert answer.status_code == 202
        acknowledged.add(approval_id)
        one_more.set()

    for kill, killed_after in enumerate(KILLED_AFTER):
        enough = len(acknowledged) + killed_after
        async with asking(server) as api:
            threads = [f"k{kill}-{number}" for number in range(each)]
            asked = await asyncio.gather(
                *(api.paused("pay 5", thread_id=thread) for thread in threads)
            )
            deciding = asyncio.gather(
                *(decide(api, approval["approval_id"]) for (approval,) in asked)
            )
            while len(acknowledged) < enough:
                one_more.clear()
                await one_more.wait()
            if not killed_after:
                await asyncio.sleep(moments.uniform(0, 0.02))
            await asyncio.to_thread(server.kill)
            await deciding
        assent_audit(server, "verify")
        await asyncio.to_thread(server.start)
    async with asking(server) as api:
        approvals: list[Json] = []
        for status in ("rejected", "pending"):
            approvals += (await api.get("/approvals", status=status, limit=1000))["approvals"]
        rows = await audit(api)
    assert len(approvals) == count
    rejected = {
        approval["approval_id"] for approval in approvals if approval["status"] == "rejected"
    }
    decided = [row["approval_id"] for row in rows if row["action"] == "decided"]
    assert sorted(decided) == sorted(rejected)
    assert acknowledged <= rejected
    # Had all been decided before each kill, or none, it would have shown nothing.
    assert 0 < len(acknowledged) < count
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))


async def test_the_server_checks_its_own_chain_and_finds_another_hand(server: Server) -> None:
    async with asking(server) as api:
        assert await api.get("/audit/verify") == {"head": None, "broken": None, "unchecked": {}}
        for number in (1, 2):
            await api.paused(f"pay {number}", thread_id=f"t{number}")
            await api.decided(f"t{number}", type="reject", message="No.")
            await api.at_rest(f"t{number}")
        whole = await api.get("/audit/verify")
        head = (await api.get("/audit/head"))["head"]
        assert whole == {"head": head, "broken": None, "unchecked": {}}
        kept = f"{head['number']}:{head['mac']}"
        assert await api.get("/audit/verify", head=kept) == whole
        await problem(await api.http.get("/audit/verify", params={"head": "none"}), 422)

        edit(server, f"DELETE FROM audit WHERE number = {head['number']}")
        # Without a head that was kept elsewhere nobody can know that the end was cut off.
        assert (await api.get("/audit/verify"))["broken"] is None
        cut_off = (await api.get("/audit/verify", head=kept))["broken"]
        assert cut_off["number"] == head["number"] and "was cut off" in cut_off["sentence"]
        edit(server, "UPDATE audit SET actor = 'mallory' WHERE number = 2")
        changed = await api.get("/audit/verify")
        assert changed["broken"]["number"] == 2 and changed["head"]["number"] == 1
        assert "is not what Assent wrote there" in changed["broken"]["sentence"]
