"""The clerk end to end: a real graph over a real database, paused and decided."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from assent.core.approval import Approval
from assent.core.decisions import Approve, Edit, Reject, Respond
from assent.core.errors import ConfigurationError
from assent.demo import ClerkModel, Records, build_clerk, open_clerk
from assent.demo.samples import SAMPLE_COUNT
from assent.graph.interrupts.resume import apending_approvals, aresume
from tests.demo.conftest import Sql

CONFIG: RunnableConfig = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def clerk(records: Records) -> Any:
    agent = build_clerk(records, ClerkModel(delay=0))
    agent.checkpointer = InMemorySaver()
    return agent


async def say(clerk: Any, text: str) -> str:
    state = await clerk.ainvoke({"messages": [("user", text)]}, CONFIG, durability="sync")
    return str(state["messages"][-1].text)


async def decide(clerk: Any, decisions: Any) -> str:
    return str((await aresume(clerk, CONFIG, decisions))["messages"][-1].text)


async def waiting(clerk: Any) -> list[Approval]:
    return await apending_approvals(clerk, CONFIG)


def test_the_clerk_declares_what_its_tools_change(clerk: Any) -> None:
    """So that after a crash a search is simply made again, and a person is asked of a deletion."""
    declared = clerk.builder.gate.calls.effects
    assert {name for name, effects in declared.items() if effects == "none"} == {
        "search_records",
        "summarise_records",
    }


async def test_delete_all_records_older_than_2015(clerk: Any, sql: Sql) -> None:
    (old,) = sql("SELECT count(*) FROM records WHERE year < 2015")[0]
    assert old > 1000

    tokens = [
        chunk.text
        async for chunk, _ in clerk.astream(
            {"messages": [("user", "Delete all records older than 2015")]},
            CONFIG,
            stream_mode="messages",
            durability="sync",
        )
        if isinstance(chunk, AIMessageChunk) and chunk.text
    ]
    assert len(tokens) > 5
    assert "".join(tokens) == "I can delete the records from before 2015. This needs your approval."

    (approval,) = await waiting(clerk)
    assert (approval.tool, approval.args) == ("delete_records", {"before_year": 2015})
    preview = approval.preview
    assert (preview["sql"], preview["parameters"], preview["records"]) == (
        "DELETE FROM records WHERE year < ?",
        [2015],
        old,
    )
    assert len(preview["first"]) == 10
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT,)]

    answer = await decide(clerk, Approve())
    assert sql("SELECT count(*), min(year) FROM records") == [(SAMPLE_COUNT - old, 2015)]
    assert (
        answer == f"I deleted {old} records from before 2015. {SAMPLE_COUNT - old} records remain."
    )
    assert await waiting(clerk) == []


async def test_a_rejected_deletion_changes_nothing_and_the_reason_is_quoted(
    clerk: Any, sql: Sql
) -> None:
    before = sql("SELECT * FROM records")
    await say(clerk, "Delete all records older than 2015")
    answer = await decide(clerk, Reject("The auditors still need them."))
    assert sql("SELECT * FROM records") == before
    assert "nothing was changed" in answer
    assert "“The auditors still need them.”" in answer


async def test_an_edited_deletion_runs_as_edited_and_says_so(clerk: Any, sql: Sql) -> None:
    (older,) = sql("SELECT count(*) FROM records WHERE year < 2006")[0]
    await say(clerk, "Delete all records older than 2015")
    answer = await decide(clerk, Edit({"before_year": 2006}))
    assert sql("SELECT count(*), min(year) FROM records") == [(SAMPLE_COUNT - older, 2006)]
    assert "A person changed what I asked for" in answer
    assert f"I deleted {older} records from before 2006." in answer


async def test_a_deletion_that_a_person_answered_does_not_run(clerk: Any, sql: Sql) -> None:
    await say(clerk, "Delete all records older than 2015")
    assert "I archived them by hand." in await decide(clerk, Respond("I archived them by hand."))
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT,)]


async def test_an_approved_change_changes_one_record(clerk: Any, sql: Sql) -> None:
    await say(clerk, "change the status of record 17 to closed")
    (approval,) = await waiting(clerk)
    before = approval.preview["before"]
    assert approval.preview["after"] == {**before, "status": "closed"}
    assert sql("SELECT status FROM records WHERE id = 17") == [(before["status"],)]
    answer = await decide(clerk, Approve())
    assert sql("SELECT status FROM records WHERE id = 17") == [("closed",)]
    assert answer == f"I changed the status of record 17 from “{before['status']}” to “closed”."


async def test_searches_and_counts_ask_nobody(clerk: Any, sql: Sql) -> None:
    (contracts,) = sql(
        "SELECT count(*) FROM records WHERE category = 'contract' AND owner = 'Miller'"
    )[0]
    assert f"I found {contracts} contracts with “Miller”." in await say(
        clerk, "find contracts for Miller"
    )
    (year, count), *_ = sql("SELECT year, count(*) FROM records GROUP BY year ORDER BY year")
    answer = await say(clerk, "how many records are there per year?")
    assert answer.startswith(f"There are {SAMPLE_COUNT} records, worth ")
    assert f"By year: {year} {count}, " in answer
    assert await waiting(clerk) == []


async def test_a_search_does_not_wait_for_a_deletion(clerk: Any, sql: Sql) -> None:
    (found,) = sql("SELECT count(*) FROM records WHERE category = 'invoice'")[0]
    (old,) = sql("SELECT count(*) FROM records WHERE year < 2010")[0]
    await say(clerk, "search for invoices and delete records older than 2010")
    (approval,) = await waiting(clerk)
    assert approval.tool == "delete_records"
    answer = await decide(clerk, Approve())
    assert f"I found {found} invoices." in answer
    assert f"I deleted {old} records from before 2010." in answer


async def test_each_of_two_deletions_is_decided_alone(clerk: Any, sql: Sql) -> None:
    (letters,) = sql("SELECT count(*) FROM records WHERE category = 'letter'")[0]
    await say(clerk, "delete letters and delete reports")
    first, second = await waiting(clerk)
    answer = await decide(
        clerk, {first.approval_id: Approve(), second.approval_id: Reject("Keep them.")}
    )
    assert sql("SELECT count(*) FROM records WHERE category = 'letter'") == [(0,)]
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT - letters,)]
    assert f"I deleted {letters} letters." in answer
    assert "“Keep them.”" in answer


async def test_a_model_that_forgets_the_filter_deletes_nothing(clerk: Any, sql: Sql) -> None:
    await say(clerk, "delete record 17")
    answer = await decide(clerk, Edit({}))
    assert "Nothing was deleted" in answer
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT,)]


async def test_the_clerk_opens_over_a_path(tmp_path: Path, sql: Sql) -> None:
    async with open_clerk(tmp_path / "records.db", ClerkModel(delay=0)) as clerk:
        state = await clerk.ainvoke({"messages": [("user", "how many records are there?")]})
    assert f"There are {SAMPLE_COUNT} records" in state["messages"][-1].text


async def test_without_a_model_the_stand_in_answers_and_an_unknown_one_is_refused(
    records: Records,
) -> None:
    state = await build_clerk(records).ainvoke({"messages": [("user", "who are you?")]})
    assert "rule-based stand-in" in state["messages"][-1].text
    with pytest.raises(ConfigurationError, match="nobody:knows-it"):
        build_clerk(records, "nobody:knows-it")


async def test_a_model_string_makes_a_real_model(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    assert "agent" in build_clerk(records, "openai:gpt-4o-mini").nodes


async def test_two_threads_do_not_disturb_each_other(clerk: Any, sql: Sql) -> None:
    configs: list[RunnableConfig] = [
        {"configurable": {"thread_id": f"t{number}"}} for number in range(4)
    ]
    await asyncio.gather(
        *(
            clerk.ainvoke(
                {"messages": [("user", f"delete record {number + 1}")]}, config, durability="sync"
            )
            for number, config in enumerate(configs)
        )
    )
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT,)]
    await asyncio.gather(*(aresume(clerk, config, Approve()) for config in configs))
    assert sql("SELECT count(*) FROM records WHERE id <= 4") == [(0,)]
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT - 4,)]
