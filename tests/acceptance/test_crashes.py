"""SIGKILL, at chosen moments: nothing that was acknowledged is lost, and nothing that happened in
the world happens twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from assent.runs.worker import LEASE_SECONDS
from tests.support.server import (
    Api,
    Event,
    Server,
    asking,
    only,
    scripted_agents,
    serving,
    types_of,
    without_tokens,
)
from tests.support.waiting import PATIENCE, until

AGENTS = ("agent", "slow_agent", "asking", "foreign", "noted")
LOST_AND_ASKED = ["run_recovered", "tool_unknown", "approval_required", "run_paused"]
GOES_ON = ["approval_decided", "run_resumed"]


async def test_killed_while_paused_it_completes_once(server: Server) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("pay 5", thread_id="t")
        server.restart()
        assert (await api.get("/threads/t"))["status"] == "interrupted"
        assert await api.pending("t") == [approval]
        await api.decided("t", type="approve")
        assert await api.last_words("t") == "Results: paid 5"
        server.restart()
        assert await api.last_words("t") == "Results: paid 5"
        assert without_tokens(await api.events("t")) == [
            *("run_start", "approval_required", "run_paused"),
            *("approval_decided", "run_resumed", "tool_start", "tool_end", "done"),
        ]
    assert server.traces() == ["pay 5"]


async def test_killed_between_two_decisions_it_keeps_the_first(server: Server) -> None:
    async with asking(server) as api:
        first, second = await api.paused("pay 1; pay 2", thread_id="t")
        await api.decided("t", decisions={first["approval_id"]: {"type": "approve"}})
        server.restart()
        assert await api.pending("t") == [second]
        assert server.traces() == []
        await api.decided("t", type="reject", message="enough")
        assert (await api.last_words("t")).startswith("Results: paid 1 | ")
    assert server.traces() == ["pay 1"]


async def test_killed_while_a_gated_tool_runs_a_person_is_asked_what_became_of_it(
    server: Server,
) -> None:
    """Five threads are cut off by one kill, and a person says something else of each."""
    async with asking(server) as api:
        threads = {number: f"t{number}" for number in range(1, 6)}
        for number, thread in threads.items():
            await api.paused(
                f"slow {number}" if number < 5 else "pay 50; slow 5; look 500", thread_id=thread
            )
            await api.decided(thread, type="approve", all=True)
        await api.paused("slow 61; slow 62", thread_id="t6")
        await api.decided("t6", type="approve", all=True)
        await server.until_traced(
            *(f"slow {number}" for number in threads), "pay 50", "slow 61", "slow 62"
        )
        # The payment beside the slow one has ended, and its outcome is known.
        await api.until("t5", "tool_end", after=await _seq_of(api, "t5", "run_resumed"))
        before = {thread: len(await api.events(thread)) for thread in threads.values()}
        server.restart()

        asked = {}
        for number, thread in threads.items():
            assert (await api.at_rest(thread))["status"] == "interrupted"
            events = await api.events(thread, after=before[thread])
            assert [
                kind for kind in without_tokens(events) if kind not in ("tool_start", "tool_end")
            ] == LOST_AND_ASKED
            assert only(events, "run_recovered")["attempt"] == 2
            assert only(events, "tool_unknown")["tool"] == "slow"
            (approval,) = await api.pending(thread)
            required = only(events, "approval_required")
            assert required["approval_id"] == approval["approval_id"]
            assert (approval["kind"], approval["tool"], approval["args"]) == (
                "unknown_outcome",
                "slow",
                {"amount": number},
            )
            assert sorted(approval["allowed"]) == ["approve", "reject", "respond"]
            assert (
                only(events, "tool_unknown")["tool_call_id"]
                == approval["tool_call_id"]
                == required["tool_call_id"]
            )
            asked[thread] = approval
        assert sorted(server.traces()) == sorted(
            ["look 500", "pay 50", "slow 61", "slow 62", *(f"slow {number}" for number in threads)]
        )

        # It did not happen, run it: with a person's consent there is a second start.
        server.let_go(1)
        await api.decided("t1", type="approve")
        assert await api.last_words("t1") == "Results: slowly paid 1"
        # It happened, and this is what came of it.
        await api.decided("t2", type="respond", message="the bank says it was paid")
        assert await api.last_words("t2") == "Results: the bank says it was paid"
        # Leave it.
        await api.decided("t3", type="reject", message="we will never know")
        assert "we will never know" in await api.last_words("t3")
        # An edit makes no sense here.
        refused = await api.resume("t4", type="edit", args={"amount": 9})
        assert refused.status_code == 422
        # In a turn with others, only the one that was cut off is asked for, and all results reach
        # the model.
        await api.decided("t5", type="respond", message="paid by hand")
        assert await api.last_words("t5") == "Results: paid 50 | paid by hand | saw 500"

        # Two that were cut off side by side are asked for one by one, and nothing runs before both
        # are decided.
        both = await api.pending("t6")
        assert sorted(approval["args"]["amount"] for approval in both) == [61, 62]
        server.let_go(61)
        said = {61: {"type": "approve"}, 62: {"type": "respond", "message": "62 went through"}}
        await api.decided("t6", decisions={both[0]["approval_id"]: said[both[0]["args"]["amount"]]})
        assert await api.pending("t6") == [both[1]]
        assert server.traces().count("slow 61") == 1
        await api.decided("t6", decisions={both[1]["approval_id"]: said[both[1]["args"]["amount"]]})
        assert await api.last_words("t6") == "Results: slowly paid 61 | 62 went through"
        assert (server.traces().count("slow 61"), server.traces().count("slow 62")) == (2, 1)

        # Killed again and again, in the starts that a person consented to: the person is asked
        # again, of that start.
        questions = {asked["t4"]["approval_id"]}
        for starts in (2, 3):
            await api.decided("t4", type="approve")
            await server.until_traced("slow 4", times=starts)
            server.restart()
            assert (await api.at_rest("t4"))["status"] == "interrupted"
            (again,) = await api.pending("t4")
            assert again["kind"] == "unknown_outcome"
            assert again["approval_id"] not in questions
            questions.add(again["approval_id"])
        server.let_go(4)
        await api.decided("t4", type="approve")
        assert await api.last_words("t4") == "Results: slowly paid 4"

    assert [server.traces().count(f"slow {number}") for number in threads] == [2, 1, 1, 4, 1]
    assert server.traces("pay") == ["pay 50"]
    assert server.traces("look") == ["look 500"]


async def test_a_new_message_may_leave_a_call_that_was_cut_off_behind(server: Server) -> None:
    async with asking(server) as api:
        await api.paused("slow 1", thread_id="t")
        await api.decided("t", type="approve")
        await server.until_traced("slow 1")
        server.restart()
        assert (await api.at_rest("t"))["status"] == "interrupted"
        assert (
            await api.http.post("/agent/stream", json={"message": "tell 2", "thread_id": "t"})
        ).status_code == 409
        await api.stream("tell 2", thread_id="t", if_paused="reject")
        messages = (await api.at_rest("t"))["values"]["messages"]
        assert [message["content"] for message in messages if message["type"] == "human"] == [
            "slow 1",
            "tell 2",
        ]
        assert messages[-1]["content"] == "word0 word1"
    assert server.traces() == ["slow 1"]


async def test_a_tool_that_had_ended_is_not_run_again_when_the_model_dies_after_it(
    server: Server,
) -> None:
    async with asking(server) as api:
        await api.paused("pay 5 then die", thread_id="t")
        await api.decided("t", type="approve")
        server.wait_for_death()
        server.restart()
        assert await api.last_words("t") == "You said: die"
        assert "run_recovered" in types_of(await api.events("t"))
    assert server.traces() == ["pay 5"]


async def test_killed_amid_its_words_it_says_which_to_discard_and_says_them_anew(
    server: Server,
) -> None:
    async with asking(server) as api:
        async with api.http.stream(
            "POST",
            "/agent/stream",
            json={"message": "tell 60", "agent": "slow_agent", "thread_id": "t"},
        ):
            cut_off = await _tokens(api, "t", 5)
            server.kill()
        started_at = datetime.now(UTC)
        server.start()
        events = await api.until("t", "done")
        recovered = only(events, "run_recovered")
        # At once, and not when the lease of the dead one ends.
        waited = datetime.fromisoformat(recovered["ts"]) - started_at
        assert waited < timedelta(seconds=LEASE_SECONDS)
        # The step that was cut off began twice, and is one.
        assert only(events, "done")["steps"] == 1
        (message_id,) = {token["message_id"] for token in cut_off}
        assert (recovered["attempt"], recovered["message_ids"]) == (2, [message_id])
        words = " ".join(f"word{number}" for number in range(60))
        kept = [
            event
            for event in events
            if event["type"] == "token" and event["message_id"] not in recovered["message_ids"]
        ]
        assert "".join(event["content"] for event in kept) == words
        assert await api.last_words("t") == words


async def test_killed_right_after_a_decision_was_acknowledged_it_is_honoured_once(
    server: Server,
) -> None:
    """Eight decisions are sent at once, and the process dies as the first answer arrives."""
    async with asking(server) as api:
        approvals = {
            number: (await api.paused(f"pay {number}", thread_id=f"t{number}"))[0]
            for number in range(1, 9)
        }
        decisions = {number: "approve" if number % 2 else "reject" for number in approvals}
        acknowledged = set()

        async def decide(number: int) -> None:
            try:
                response = await api.resume(f"t{number}", type=decisions[number])
            except Exception:
                return
            assert response.status_code == 202
            acknowledged.add(number)
            server.kill()

        await asyncio.gather(*(decide(number) for number in approvals))
        assert acknowledged
        server.restart()

        for number, approval in approvals.items():
            thread = await api.at_rest(f"t{number}")
            stored = await api.approval(approval["approval_id"])
            paid = server.traces().count(f"pay {number}")
            if number in acknowledged:
                assert stored["decision"]["type"] == decisions[number]
            if stored["decision"] is None:
                assert (thread["status"], paid) == ("interrupted", 0)
            elif decisions[number] == "reject":
                assert (thread["status"], paid) == ("idle", 0)
            elif thread["status"] == "idle":
                assert paid == 1
            else:
                assert [pending["kind"] for pending in await api.pending(f"t{number}")] == [
                    "unknown_outcome"
                ]
                assert paid <= 1


async def test_an_answer_that_a_crash_cuts_off_is_not_taken_for_the_answer_to_the_next_question(
    server: Server,
) -> None:
    async with asking(server) as api:
        (first,) = await api.paused("Which? then die then How many?", thread_id="t", agent="asking")
        assert first["args"] == {"question": "Which?"}
        await api.decided("t", type="respond", message="the red one")
        server.wait_for_death()
        server.restart()
        assert (await api.at_rest("t"))["status"] == "interrupted"
        (second,) = await api.pending("t")
        assert second["args"] == {"question": "How many?"}
        await api.decided("t", type="respond", message=3)
        assert await api.last_words("t") == "Answers: ['the red one', 3]"
    assert server.traces() == ["answered ['the red one', 3]"]


async def test_the_same_question_again_is_not_answered_by_a_crash_either(server: Server) -> None:
    """Of two tasks one has asked its next question, which is the same, when the other one's process
    dies."""
    async with asking(server) as api:
        approvals = await api.paused(
            "Sure? then Sure?; Where? then die", thread_id="t", agent="asking"
        )
        # The answers are the same too: what the first task has been given is not what the second
        # one is waiting for.
        await api.decided(
            "t",
            decisions={
                approval["approval_id"]: {"type": "respond", "message": "yes"}
                for approval in approvals
            },
        )
        server.wait_for_death()
        server.restart()
        assert (await api.at_rest("t"))["status"] == "interrupted"
        (again,) = await api.pending("t")
        assert again["args"] == {"question": "Sure?"}
        await api.decided("t", type="respond", message="no")
        await api.at_rest("t")
    assert sorted(server.traces()) == ["answered ['yes', 'no']", "answered ['yes']"]


async def test_a_server_that_is_asked_to_stop_leaves_its_runs_to_the_next(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_DRAIN_SECONDS="2") as server:
        async with asking(server) as api:
            await api.paused("slow 1", thread_id="long")
            await api.paused("slow 2", thread_id="short")
            for thread in ("long", "short"):
                await api.decided(thread, type="approve")
            await server.until_traced("slow 1", "slow 2")
            async with api.following("long"):
                server.let_go(2)
                # A reader that is connected holds up nothing, and the step that can end in time
                # does.
                await asyncio.to_thread(server.terminate)
            server.start()
            assert await api.last_words("short") == "Results: slowly paid 2"
            assert (await api.at_rest("long"))["status"] == "interrupted"
            assert [approval["kind"] for approval in await api.pending("long")] == [
                "unknown_outcome"
            ]
    assert sorted(server.traces()) == ["slow 1", "slow 2"]


# ── helpers ───────────────────────────────────────────────────────────────────────────────────────


async def _tokens(api: Api, thread: str, count: int) -> list[Event]:
    """The first tokens of a thread, as they come."""
    seen: list[Event] = []
    async with asyncio.timeout(PATIENCE), api.following(thread, types="token") as events:
        async for event in events:
            seen.append(event)
            if len(seen) == count:
                break
    return seen


async def _seq_of(api: Api, thread: str, kind: str) -> int:
    return int(only(await api.events(thread), kind)["seq"])


async def test_killed_in_a_node_of_somebody_elses_graph_a_person_is_asked_again(
    server: Server,
) -> None:
    """Its tools pass no gate, so it is the node that is asked about: it is not run again in
    silence."""
    async with asking(server) as api:
        await api.paused("die 9; pay 3", thread_id="t", agent="foreign")
        await api.decided("t", type="approve")
        server.wait_for_death()
        server.restart()
        assert (await api.at_rest("t"))["status"] == "interrupted"
        (approval,) = await api.pending("t")
        assert (approval["kind"], approval["node"], approval["allowed"]) == (
            "unknown_outcome",
            "tools",
            ["approve", "reject"],
        )
        traces = server.traces()
        assert traces.count("die 9") == 1
        server.restart()
        assert await api.pending("t") == [approval]
        assert server.traces() == traces
        await api.decided("t", type="approve")
        await api.last_words("t")
    assert server.traces().count("die 9") == 2


async def test_killed_in_a_noted_call_of_somebody_elses_graph_a_person_is_asked_what_became_of_it(
    server: Server,
) -> None:
    """All calls of the turn are made in one node, which runs again from its beginning."""
    async with asking(server) as api:
        for thread, message in (("t1", "pay 50; slow 5; look 500"), ("t2", "slow 61; slow 62")):
            await api.run(thread, message, agent="noted")
        await server.until_traced("pay 50", "slow 5", "look 500", "slow 61", "slow 62")
        finished = "SELECT 1 FROM effects WHERE tool = 'pay' AND status = 'finished'"
        await until(lambda: server.sql(finished))
        server.restart()
        assert (await api.at_rest("t1"))["status"] == "interrupted"
        (approval,) = await api.pending("t1")
        assert (approval["kind"], approval["tool"], approval["args"]) == (
            "unknown_outcome",
            "slow",
            {"amount": 5},
        )
        assert (
            only(await api.events("t1"), "tool_unknown")["tool_call_id"] == approval["tool_call_id"]
        )
        await api.decided("t1", type="respond", message="it went through")
        assert await api.last_words("t1") == "Results: paid 50 | it went through | saw 500"

        # Of two in one node, one is asked about after the other.
        asked = []
        for _ in range(2):
            assert (await api.at_rest("t2"))["status"] == "interrupted"
            (approval,) = await api.pending("t2")
            assert (approval["kind"], approval["tool"]) == ("unknown_outcome", "slow")
            amount = approval["args"]["amount"]
            asked.append(amount)
            await api.decided("t2", type="respond", message=f"{amount} went through")
        assert sorted(asked) == [61, 62]
        assert await api.last_words("t2") == "Results: 61 went through | 62 went through"
    assert [line for line in sorted(server.traces()) if not line.startswith("look")] == [
        "pay 50",
        "slow 5",
        "slow 61",
        "slow 62",
    ]
