"""Merging: the same text in fewer events, whatever comes between; and only when the writer has
fallen behind."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from assent.core.events import Done, Event, Reasoning, Token, ToolCallDelta, decode
from assent.core.rows import Lease
from assent.storage.base import Change, Storage
from assent.storage.sqlite.merging import MAX_CHARACTERS, MERGE_FROM, Append, merged
from tests.storage.samples import NOON, piece


@dataclass(frozen=True)
class Commit:
    """Something that may add events to these threads."""

    threads: tuple[str, ...] | None


def ignore(error: Exception) -> None: ...


def tell(error: Exception) -> None: ...


def appends(*events: Event) -> list[Append | Commit]:
    return [Append((event,), ignore) for event in events]


def texts(items: list[Append | Commit]) -> list[Any]:
    """What each item says: a piece's text, another event's type, or the commit."""
    said: list[Any] = []
    for item in items:
        if isinstance(item, Commit):
            said.append(item)
        else:
            said += [
                getattr(
                    event, "args" if isinstance(event, ToolCallDelta) else "content", type(event)
                )
                for event in item.events
            ]
    return said


# ── what is merged, as values ──


def test_pieces_that_follow_each_other_are_one_with_the_first_ones_time() -> None:
    words = [
        structs.replace(piece(word), ts=NOON + n * timedelta(seconds=1))
        for n, word in enumerate(["The ", "größte ", "☃"])
    ]
    (whole,) = merged(appends(*words))
    assert isinstance(whole, Append)
    assert whole.events == (structs.replace(words[0], content="The größte ☃"),)
    assert whole.on_error is ignore


def test_threads_do_not_come_between_each_other() -> None:
    both = appends(
        piece("a1"),
        piece("b1", "u"),
        piece("a2"),
        piece("b2", "u"),
        Done(thread_id="v"),
        piece("a3"),
    )
    assert texts(merged(both)) == ["a1a2a3", "b1b2", Done]


@pytest.mark.parametrize(
    "field", ["message_id", "index", "task_id", "run_id", "node", "ns", "attempt"]
)
def test_another_messages_piece_begins_anew(field: str) -> None:
    other = structs.replace(
        piece("b"), **{field: {"index": 1, "attempt": 2, "ns": ("sub",)}.get(field, "other")}
    )
    assert texts(merged(appends(piece("a"), other, piece("c"), piece("d")))) == ["a", "b", "cd"]


def test_another_kind_of_event_of_the_thread_ends_it() -> None:
    thought = Reasoning(thread_id="t", run_id="r", message_id="m", content="b")
    assert texts(merged(appends(piece("a"), thought, thought, piece("c")))) == ["a", "bb", "c"]
    assert texts(merged(appends(piece("a"), Done(thread_id="t"), piece("b")))) == ["a", Done, "b"]
    several = Append((Done(thread_id="u"), Done(thread_id="t")), ignore)
    assert texts(merged([*appends(piece("a")), several, *appends(piece("b"))])) == [
        "a",
        Done,
        Done,
        "b",
    ]
    two = Append((piece("b"), piece("c")), ignore)
    assert texts(merged([*appends(piece("a")), two, *appends(piece("d"), piece("e"))])) == [
        "a",
        "b",
        "c",
        "de",
    ]


def test_a_commit_ends_it_where_it_may_add_events() -> None:
    for commit, said in (
        (Commit(None), ["a", "b"]),
        (Commit(("t",)), ["a", "b"]),
        (Commit(("u",)), ["ab"]),
        (Commit(()), ["ab"]),
    ):
        assert [
            text
            for text in texts(merged([*appends(piece("a")), commit, *appends(piece("b"))]))
            if text != commit
        ] == said


def test_the_arguments_of_a_call_are_merged_and_two_calls_are_not() -> None:
    def delta(args: str, **fields: Any) -> ToolCallDelta:
        return ToolCallDelta(
            ts=NOON, thread_id="t", run_id="r", message_id="m", args=args, **fields
        )

    begun = delta("", tool_call_id="c1", tool="pay")
    first, second = merged(
        appends(
            begun,
            delta('{"a":'),
            delta("1}"),
            delta("", tool_call_id="c2", tool="pay"),
            delta("{}"),
        )
    )
    assert isinstance(first, Append)
    assert isinstance(second, Append)
    assert first.events == (structs.replace(begun, args='{"a":1}'),)
    assert second.events == (delta("{}", tool_call_id="c2", tool="pay"),)


def test_who_is_told_of_failures_stays_who_is_told() -> None:
    mixed = [
        Append((piece("a"),), ignore),
        Append((piece("b"),), tell),
        Append((piece("c"),), tell),
    ]
    assert [(item.on_error, item.events[0].content) for item in merged(mixed)] == [
        (ignore, "a"),
        (tell, "bc"),
    ]  # type: ignore[attr-defined]


def test_pieces_are_merged_under_one_lease_and_keep_it() -> None:
    leases = [Lease("r", 1), Lease("r", 1), Lease("r", 2), None]
    items = [
        Append((piece(letter),), ignore, lease)
        for letter, lease in zip("abcd", leases, strict=True)
    ]
    assert [(item.events[0].content, item.lease) for item in merged(items)] == [  # type: ignore[attr-defined]
        ("ab", Lease("r", 1)),
        ("c", Lease("r", 2)),
        ("d", None),
    ]


def test_what_cannot_be_stored_takes_no_neighbour_down() -> None:
    half = piece("\ud83d")
    assert texts(
        merged(appends(piece("a"), piece("b"), half, piece("c"), half, half, piece("d")))
    ) == [
        *("ab", "\ud83d", "c", "\ud83d", "\ud83d", "d"),
    ]


def test_a_merged_piece_has_a_size() -> None:
    sizes = [len(text) for text in texts(merged(appends(*[piece("x" * 1000)] * 50)))]
    assert sum(sizes) == 50_000
    assert max(sizes) <= MAX_CHARACTERS
    assert len(sizes) == 4


Pieces = st.builds(piece, st.text("ab☃", max_size=3), st.sampled_from("tu"), st.sampled_from("mn"))
Thoughts = Pieces.map(
    lambda p: Reasoning(
        thread_id=p.thread_id, run_id="r", message_id=p.message_id, content=p.content
    )
)
Events = st.one_of(
    Pieces, Pieces, Pieces, Thoughts, st.builds(Done, thread_id=st.sampled_from("tu"))
)
Items = st.one_of(
    st.lists(Events, min_size=1, max_size=1).map(lambda events: Append(events, ignore)),
    st.lists(Events, max_size=3).map(lambda events: Append(events, ignore)),
    st.sampled_from([Commit(None), Commit(("t",)), Commit(("t", "u")), Commit(())]),
)


def folded(items: list[Append | Commit], thread_id: str) -> list[Any]:
    """The thread's story with neighbouring pieces put together, which merging must not change."""
    story: list[Any] = []
    for item in items:
        if isinstance(item, Commit):
            if item.threads is None or thread_id in item.threads:
                story.append(item)
            continue
        for event in item.events:
            if event.thread_id != thread_id:
                continue
            if isinstance(event, Done):
                story.append(Done)
            else:
                assert isinstance(event, Token | Reasoning)
                key = (type(event), event.message_id)
                if story and isinstance(story[-1], list) and story[-1][0] == key:
                    story[-1][1] += event.content
                else:
                    story.append([key, event.content])
    return story


@pytest.mark.slow
@settings(max_examples=300)
@given(items=st.lists(Items, max_size=30))
def test_each_thread_tells_the_same_story(items: list[Append | Commit]) -> None:
    result = merged(items)
    for thread_id in "tu":
        assert folded(result, thread_id) == folded(items, thread_id)
    assert [item for item in result if isinstance(item, Commit)] == [
        item for item in items if isinstance(item, Commit)
    ]
    # Nothing is left apart that could be one.
    for before, after in pairwise(
        item for item in result if isinstance(item, Append) or item.threads != ()
    ):
        if (
            isinstance(before, Append)
            and isinstance(after, Append)
            and len(before.events) == len(after.events) == 1
        ):
            first, second = before.events[0], after.events[0]
            if (
                isinstance(first, Token)
                and isinstance(second, Token)
                and first.thread_id == second.thread_id
            ):
                assert first.message_id != second.message_id


# ── through the storage ──


def fail(error: Exception) -> None:
    raise error


async def contents(storage: Storage, thread_id: str) -> tuple[int, dict[str, str]]:
    """How many events the thread has, and the text of each of its messages."""
    count, said = 0, defaultdict(str)
    while entries := await storage.read_log(thread_id, count):
        assert [entry.seq for entry in entries] == list(range(count + 1, count + 1 + len(entries)))
        count += len(entries)
        for event in (decode(entry.body) for entry in entries):
            if isinstance(event, Token):
                said[event.message_id] += event.content
    return count, dict(said)


async def test_a_writer_that_keeps_up_merges_nothing(storage: Storage) -> None:
    for number in range(2 * MERGE_FROM):
        storage.append([piece(f"{number} ")], fail)
        if number % 100 == 99:
            await storage.commit(Change())
    await storage.commit(Change())
    assert (await contents(storage, "t"))[0] == 2 * MERGE_FROM


async def test_a_writer_that_has_fallen_behind_stores_the_same_text_in_fewer_events(
    storage: Storage,
) -> None:
    total = 20_000
    expected: dict[str, dict[str, str]] = {name: defaultdict(str) for name in "tuv"}
    for number in range(total):
        word, thread_id, message_id = f"{number} ", "tuv"[number % 3], f"m{number // 5000}"
        expected[thread_id][message_id] += word
        storage.append([piece(word, thread_id, message_id)], fail)
        if number % 1000 == 999:
            storage.append([Done(thread_id="t")], fail)
    (last,) = await storage.commit(Change(events=(Done(thread_id="t"),)))
    counts = {}
    for thread_id, said in expected.items():
        counts[thread_id], found = await contents(storage, thread_id)
        assert found == said
    assert counts["t"] == last
    assert sum(counts.values()) < total / 10


async def test_a_piece_that_cannot_be_stored_fails_alone_in_a_crowd(storage: Storage) -> None:
    errors: list[Exception] = []
    for number in range(5000):
        storage.append([piece("\ud83d" if number % 1000 == 500 else "x")], errors.append)
    await storage.commit(Change())
    assert (await contents(storage, "t"))[1] == {"m": "x" * 4995}
    await asyncio.sleep(0)
    assert [type(error) for error in errors] == [UnicodeEncodeError] * 5


async def test_commits_in_between_see_the_numbers_before_and_behind_them(storage: Storage) -> None:
    commits = []
    for number in range(3000):
        storage.append([piece("a" if number < 1500 else "b")], fail)
        if number in (1000, 1499):
            commits.append(
                asyncio.ensure_future(storage.commit(Change(events=(Done(thread_id="t"),))))
            )
            await asyncio.sleep(0)
    await storage.commit(Change())
    numbers = [(await commit)[0] for commit in commits]
    events = [decode(entry.body) for entry in await storage.read_log("t", limit=100_000)]
    assert [event.seq for event in events if isinstance(event, Done)] == numbers
    before = "".join(event.content for event in events[: numbers[1]] if isinstance(event, Token))
    behind = "".join(event.content for event in events[numbers[1] :] if isinstance(event, Token))
    assert (before, behind) == ("a" * 1500, "b" * 1500)
