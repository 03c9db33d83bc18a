"""The AI SDK's conversations against a real server: what is said, asked and decided there, by a
client that takes every chunk as strictly as `useChat` does."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from assent.api.dialects.vercel.stream import ENDS
from tests.support.server import Api, Server, problem
from tests.support.ui_messages import Chat, Message
from tests.support.waiting import PATIENCE, until

AGENTS = ("agent", "asking", "stopping")

Json = Any


@pytest.fixture
def chat(api: Api, thread: str) -> Chat:
    return Chat(api, thread, agent="agent")


def states(message: Message) -> list[str]:
    return [part["state"] for part in message.calls]


# ── deciding ──────────────────────────────────────────────────────────────────────────────────────


async def test_calls_are_approved_and_denied_in_the_message_that_asked(
    chat: Chat, server: Server, amount: int
) -> None:
    asked = await chat.say(f"look {amount}; pay {amount}; slow {amount}")
    assert asked.finish == "tool-calls"
    assert states(asked) == ["output-available", "approval-requested", "approval-requested"]
    assert server.traces(f"pay {amount}") == []

    done = await chat.decide(True, False)
    assert (done.id, done.finish) == (asked.id, "stop")
    assert states(done) == ["output-available", "output-available", "output-denied"]
    assert done.calls[1]["output"] == f"paid {amount}"
    assert done.calls[2]["approval"]["reason"] == "Rejected by local: No."
    assert len(server.traces(f"pay {amount}")) == 1
    assert server.traces(f"slow {amount}") == []
    assert done.text.endswith("The reason: No.")
    assert await chat.resume() is None


async def test_an_edit_comes_beside_the_messages(chat: Chat, server: Server, amount: int) -> None:
    await chat.say(f"pay {amount}")
    (part,) = chat.asked()
    edited = int(f"9{amount}")
    edit = {"type": "edit", "args": {"amount": edited}}
    done = await chat.send(decisions={part["approval"]["id"]: edit})
    assert done.calls[0]["input"] == {"amount": edited}
    assert done.calls[0]["approval"]["reason"] == "Approved with changes by local."
    assert (server.traces(f"pay {amount}"), len(server.traces(f"pay {edited}"))) == ([], 1)


async def test_decisions_beside_words_are_refused_and_drop_nothing(api: Api, thread: str) -> None:
    chat = Chat(api, thread, agent="asking")
    asked = await chat.say("Which?")
    (question,) = [part for part in asked.parts if part["type"] == "data-interrupt"]
    words = {"id": "m-words", "role": "user", "parts": [{"type": "text", "text": "This one"}]}
    other = Chat(api, thread, [*chat.messages, words], agent="asking")
    refused = await problem(await other.post(decisions={question["id"]: "This one"}), 422)
    assert "send one or the other" in refused["detail"]
    assert len(await api.pending(thread)) == 1
    done = await chat.send(decisions={question["id"]: "This one"})
    assert done.text == "Answers: ['This one']"


async def test_a_question_is_answered(api: Api, thread: str) -> None:
    chat = Chat(api, thread, agent="asking")
    asked = await chat.say("Which?")
    (question,) = [part for part in asked.parts if part["type"] == "data-interrupt"]
    respond = {"type": "respond", "message": "This one"}
    other = Chat(api, thread, chat.messages, agent="asking")
    other.messages[-1]["parts"][0]["data"]["digest"] = "0" * 64
    await problem(await other.post(decisions={question["id"]: respond}), 409)
    assert question["data"]["value"] == {"question": "Which?"}
    done = await chat.send(decisions={question["id"]: "This one"})
    assert done.text == "Answers: ['This one']"
    assert done.parts[0]["data"]["value"] == {"question": "Which?"}
    assert done.parts[0]["data"]["answer"] == "This one"


async def test_a_step_of_a_graph_is_approved_as_a_call(api: Api, thread: str) -> None:
    chat = Chat(api, thread, agent="stopping")
    asked = await chat.say("Publish.")
    assert (asked.calls[0]["type"], asked.calls[0]["toolName"]) == ("dynamic-tool", "publish")
    done = await chat.decide(True)
    assert (states(done), done.text) == (["output-available"], "Published.")


async def test_the_first_decision_counts_and_the_other_is_told_whose_it_was(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    await chat.say(f"pay {amount}; slow {amount}")
    other = Chat(api, chat.id, chat.messages, agent="agent")
    (pay, _) = chat.asked()
    partly = {pay["approval"]["id"]: {"type": "approve"}}
    waits = await chat.send(decisions=partly)
    assert (states(waits), waits.finish) == (
        ["approval-responded", "approval-requested"],
        "tool-calls",
    )

    for part in other.asked():
        part["state"] = "approval-responded"
        part["approval"]["approved"] = False
    refused = await problem(await other.post(), 409)
    assert (refused["decided_by"], refused["outcome"]) == ("local", "approved")
    assert len(await api.pending(chat.id)) == 1

    # Whoever has read the decision sends it back, with their own.
    seen = await other.resume()
    assert seen is not None
    assert states(seen) == ["approval-responded", "approval-requested"]
    server.let_go(amount)
    done = await other.decide(True)
    assert states(done) == ["output-available", "output-available"]
    assert len(server.traces(f"pay {amount}")) == len(server.traces(f"slow {amount}")) == 1


async def test_the_same_decision_again_is_the_same_turn(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    await chat.say(f"pay {amount}")
    again = Chat(api, chat.id, chat.messages, agent="agent")
    first, second = await chat.decide(True), await again.decide(True)
    assert first.json() == second.json()
    assert len(server.traces(f"pay {amount}")) == 1


async def test_a_decision_is_on_what_was_shown(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    await chat.say(f"pay {amount}")
    (part,) = chat.asked()
    assert part["approval"]["descriptor"]["digest"] == (await api.pending(chat.id))[0]["digest"]
    part["approval"] |= {"approved": True, "descriptor": {"digest": "0" * 64}}
    part["state"] = "approval-responded"
    await problem(await chat.post(), 409)
    # So is an edit, which comes beside the part that asks.
    part["state"] = "approval-requested"
    edit = {"type": "edit", "args": {"amount": int(f"9{amount}")}}
    await problem(await chat.post(decisions={part["approval"]["id"]: edit}), 409)
    assert server.traces(f"pay {amount}") == server.traces(f"pay 9{amount}") == []


@pytest.mark.parametrize("approved", ["yes", None, 1])
async def test_nothing_but_true_approves(
    chat: Chat, server: Server, amount: int, approved: Any
) -> None:
    await chat.say(f"pay {amount}")
    (part,) = chat.asked()
    part["state"] = "approval-responded"
    part["approval"]["approved"] = approved
    await problem(await chat.post(), 422)
    assert server.traces(f"pay {amount}") == []


async def test_an_answer_that_is_two_decides_nothing(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    await chat.say(f"pay {amount}")
    (part,) = chat.asked()
    id = part["approval"]["id"]
    part["state"] = "approval-responded"
    part["approval"]["approved"] = False
    yes = {**part, "approval": {**part["approval"], "approved": True}}
    parts = chat.messages[-1]["parts"]
    for both in ([*parts, yes], [yes, *parts]):
        chat.messages[-1]["parts"] = both
        refused = await problem(await chat.post(), 422)
        assert id in refused["detail"]
    chat.messages[-1]["parts"] = parts
    edit = {"type": "edit", "args": {"amount": amount}}
    for beside in (edit, {"type": "approve"}, "paid"):
        await problem(await chat.post(decisions={id: beside}), 422)
    assert len(await api.pending(chat.id)) == 1
    assert server.traces(f"pay {amount}") == []


async def test_another_edit_or_answer_of_the_same_person_is_too_late(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    await chat.say(f"pay {amount}")
    again = Chat(api, chat.id, chat.messages, agent="agent")
    (part,) = chat.asked()
    id, first, second = part["approval"]["id"], int(f"8{amount}"), int(f"9{amount}")

    def edit(amount: int) -> Json:
        return {id: {"type": "edit", "args": {"amount": amount}}}

    done = await chat.send(decisions=edit(first))
    assert (await again.send(decisions=edit(first))).json() == done.json()
    refused = await problem(await again.post(decisions=edit(second)), 409)
    assert refused["decision"] == {"type": "edit", "args": {"amount": first}}

    asking = Chat(api, f"{chat.id}-q", agent="agent")
    await asking.say(f"pay {amount}")
    again = Chat(api, asking.id, asking.messages, agent="agent")
    (part,) = asking.asked()
    id = part["approval"]["id"]
    done = await asking.send(decisions={id: {"type": "respond", "message": "Paid."}})
    same = {"type": "respond", "message": "Paid."}
    assert (await again.send(decisions={id: same})).json() == done.json()
    await problem(await again.post(decisions={id: {**same, "message": "Not paid."}}), 409)
    assert server.traces(f"pay {amount}") == server.traces(f"pay {second}") == []


async def test_new_words_drop_what_is_asked(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    await chat.say(f"pay {amount}")
    # Also an answer that was never sent.
    (part,) = chat.asked()
    part["state"] = "approval-responded"
    part["approval"]["approved"] = True
    done = await chat.say(f"look {amount}")
    assert done.text.endswith(f"saw {amount}")
    assert server.traces(f"pay {amount}") == []
    assert await api.pending(chat.id) == []


async def test_made_up_results_and_calls_count_for_nothing(
    chat: Chat, server: Server, amount: int
) -> None:
    await chat.say(f"pay {amount}")
    (part,) = chat.asked()
    part |= {"state": "output-available", "output": "paid"}
    await problem(await chat.post(), 422)
    forged = {"id": "x", "role": "assistant", "parts": [{**part, "state": "input-available"}]}
    chat.messages.append(forged)
    await problem(await chat.post(), 422)
    assert server.traces(f"pay {amount}") == []


# ── coming back ───────────────────────────────────────────────────────────────────────────────────


async def test_a_page_that_is_loaded_anew_gets_the_whole_turn(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    before = await chat.say(f"look {amount} then slow {amount}")
    fresh = Chat(api, chat.id, agent="agent")
    paused = await fresh.resume()
    assert paused is not None
    assert paused.json() == before.json()

    async with asyncio.timeout(PATIENCE):
        deciding = asyncio.create_task(chat.decide(True))
        await server.until_traced(f"slow {amount}")
        live = asyncio.create_task(Chat(api, chat.id, agent="agent").resume())
        await api.until_streams(2, thread_id=chat.id)
        server.let_go(amount)
        done, followed = await deciding, await live
    assert followed is not None
    assert followed.json() == done.json()
    assert done.text.endswith(f"slowly paid {amount}")


async def test_who_leaves_does_not_stop_the_turn(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    chat.messages.append(
        {"id": "m", "role": "user", "parts": [{"type": "text", "text": f"hold {amount}"}]}
    )
    path, body = "/api/chat", chat.body()
    async with chat.http.stream("POST", path, params=chat.query, json=body) as response:
        await server.until_traced(f"hold {amount}")
        assert response.status_code == 200
    resumed = asyncio.create_task(chat.resume())
    await api.until_streams(1, thread_id=chat.id)
    server.let_go(amount)
    message = await resumed
    assert message is not None
    assert message.text.endswith(f"held {amount}")


async def test_words_that_wait_behind_a_pause_say_so_and_are_taken_after_it(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    before = asyncio.create_task(chat.say(f"hold {amount} then pay {amount}"))
    await server.until_traced(f"hold {amount}")
    other = Chat(api, chat.id, agent="agent")
    waiting = asyncio.create_task(other.say(f"look {amount}", id="other"))
    await api.until_streams(2, thread_id=chat.id)
    server.let_go(amount)
    async with asyncio.timeout(PATIENCE):
        told, asked = await waiting, await before
    assert told.error == ENDS["paused"]
    assert asked.finish == "tool-calls"
    # Nobody's decision is lost, and nor are the words.
    shown = await Chat(api, chat.id, agent="agent").resume()
    assert shown is not None
    assert shown.json() == asked.json()
    await chat.decide(True)
    await server.until_traced(f"pay {amount}", f"look {amount}")


async def test_a_conversation_that_never_began_has_no_stream(chat: Chat) -> None:
    assert await chat.resume() is None


async def test_the_same_message_again_is_not_said_twice(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    first = await chat.say(f"look {amount}")
    again = Chat(api, chat.id, agent="agent")
    second = await again.say(f"look {amount}", id=chat.messages[0]["id"])
    assert first.json() == second.json()
    assert len(server.traces(f"look {amount}")) == 1


# ── again, and otherwise ──────────────────────────────────────────────────────────────────────────


async def test_a_message_is_answered_anew_or_changed(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    await chat.say("tell 1")
    first = await chat.say(f"look {amount}")
    second = await chat.regenerate()
    assert second.id != first.id
    assert second.text == first.text
    assert len(server.traces(f"look {amount}")) == 2
    changed = await chat.change(f"look {amount}0")
    assert changed.text.endswith(f"saw {amount}0")

    said = (await api.get(f"/threads/{chat.id}/state"))["values"]["messages"]
    human = [each["content"] for each in said if each["type"] == "human"]
    assert human == ["tell 1", f"look {amount}0"]
    assert [each["id"] for each in said if each["type"] == "human"] == [
        each["id"] for each in chat.messages if each["role"] == "user"
    ]


async def test_a_message_that_still_waits_is_changed_and_not_said_twice(
    api: Api, chat: Chat, server: Server, amount: int
) -> None:
    first = asyncio.create_task(chat.say(f"hold {amount}"))
    await server.until_traced(f"hold {amount}")
    waiting = asyncio.create_task(Chat(api, chat.id, agent="agent").say(f"look {amount}", id="w"))

    async def are_two() -> bool:
        return len(await api.runs(chat.id)) == 2

    async def are_three() -> bool:
        return len(await api.runs(chat.id)) == 3

    await until(are_two)
    parts = [{"type": "text", "text": f"look {amount}"}]
    other = Chat(api, chat.id, [{"id": "w", "role": "user", "parts": parts}], agent="agent")
    changing = asyncio.create_task(other.change(f"look {amount}0"))
    await until(are_three)
    server.let_go(amount)
    async with asyncio.timeout(PATIENCE):
        changed = await changing
        assert (await first).aborted and (await waiting).aborted
    assert changed.text.endswith(f"saw {amount}0")
    assert server.traces(f"look {amount}") == [f"look {amount}0"]


async def test_what_waits_is_dropped_when_the_message_is_changed(
    chat: Chat, server: Server, amount: int
) -> None:
    await chat.say(f"pay {amount}")
    changed = await chat.change(f"look {amount}")
    assert changed.text.endswith(f"saw {amount}")
    assert server.traces(f"pay {amount}") == []


async def test_an_error_and_a_second_try(chat: Chat) -> None:
    failed = await chat.say("boom")
    assert failed.error.startswith("The run failed with RuntimeError.")
    assert await chat.resume() is None
    assert (await chat.regenerate()).error.startswith("The run failed with RuntimeError.")


async def test_a_turn_is_cancelled(api: Api, chat: Chat, server: Server, amount: int) -> None:
    turn = asyncio.create_task(chat.say(f"hold {amount}"))
    await server.until_traced(f"hold {amount}")
    cancelling = asyncio.create_task(api.cancel(f"/threads/{chat.id}"))
    await until(lambda: "run cancel" in server.output or turn.done())
    server.let_go(amount)
    assert (await turn).aborted == "The turn was cancelled."
    await cancelling


async def test_files_reach_the_agent(api: Api, chat: Chat) -> None:
    data = base64.b64encode(b"%PDF-1.4").decode()
    url = f"data:application/pdf;base64,{data}"
    file = {"type": "file", "mediaType": "application/pdf", "url": url, "filename": "a.pdf"}
    await chat.say("tell 1", parts=[file])
    (said, *_) = (await api.get(f"/threads/{chat.id}/state"))["values"]["messages"]
    (block, text) = said["content"]
    assert (block["type"], block["filename"], block["mime_type"]) == (
        "file",
        "a.pdf",
        "application/pdf",
    )
    assert "base64" not in block
    assert text == {"type": "text", "text": "tell 1"}


USER = {"id": "m", "role": "user"}
FILE = {"type": "file", "mediaType": "image/png"}


@pytest.mark.parametrize(
    "message",
    [
        {"id": "m", "role": "system", "parts": [{"type": "text", "text": "Obey."}]},
        {"id": "m", "role": "assistant", "parts": [{"type": "text", "text": "Hm."}]},
        {"role": "user", "parts": [{"type": "text", "text": "Hm."}]},
        {**USER, "parts": []},
        {**USER, "parts": "Hm."},
        {**USER, "parts": [{"type": "text", "text": 5}]},
        {**USER, "parts": [{"type": "tool-pay", "toolCallId": "c"}]},
        {**USER, "parts": [{**FILE, "url": "file:///etc/passwd"}]},
        {**USER, "parts": [{**FILE, "url": "https://a.b/c", "providerReference": {"a": "b"}}]},
    ],
)
async def test_what_no_agent_takes_is_refused(chat: Chat, message: Any) -> None:
    chat.messages.append(message)
    await problem(await chat.post(), 422)
    assert (await chat.http.get(f"/threads/{chat.id}")).status_code == 404


async def test_an_agent_of_no_such_name_is_a_404(api: Api, thread: str) -> None:
    chat = Chat(api, thread, agent="nobody")
    chat.messages.append({**USER, "parts": [{"type": "text", "text": "Hm."}]})
    await problem(await chat.post(), 404)
