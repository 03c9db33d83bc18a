"""Random histories, told to the saver and to LangGraph's `InMemorySaver`, which must never differ.

Twelve of them, or as many as ASSENT_SEEDS says. A failing one is told by its number: ASSENT_SEED
runs that one alone.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from assent.storage.sqlite import SqliteSaver
from tests.support.keys import KEY

STEPS = 60
THREADS = ("t0", "t1", "t2")
NAMESPACES = ("", "sub:1")
SEED = os.environ.get("ASSENT_SEED")
SEEDS = [int(SEED)] if SEED else range(int(os.environ.get("ASSENT_SEEDS", "12")))


class Model(InMemorySaver):
    """LangGraph's saver in memory, with the three methods that it lacks."""

    async def adelete_for_runs(self, run_ids: Any) -> None:
        for thread_id, namespaces in self.storage.items():
            for ns, checkpoints in namespaces.items():
                for each in [
                    key
                    for key, saved in checkpoints.items()
                    if self.serde.loads_typed(saved[1]).get("run_id") in run_ids
                ]:
                    self._remove(thread_id, ns, each)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        for ns, checkpoints in list(self.storage.get(source_thread_id, {}).items()):
            self.storage[target_thread_id][ns].update(checkpoints)
        for part in (self.writes, self.blobs):
            for key in [key for key in part if key[0] == source_thread_id]:
                part[(target_thread_id, *key[1:])] = copy.copy(part[key])

    async def aprune(
        self, thread_ids: Any, *, strategy: str = "keep_latest", keep: int = 1
    ) -> None:
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
                continue
            for ns, checkpoints in self.storage.get(thread_id, {}).items():
                for each in sorted(checkpoints)[:-keep]:
                    self._remove(thread_id, ns, each)

    def _remove(self, thread_id: str, ns: str, checkpoint_id: str) -> None:
        del self.storage[thread_id][ns][checkpoint_id]
        self.writes.pop((thread_id, ns, checkpoint_id), None)


class PutBack:
    """The saver, with ids of a clock that was put back before each of them: the later, the lower.
    Outside, they are those of the story."""

    def __init__(self, saver: SqliteSaver) -> None:
        self._saver = saver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._saver, name)

    async def aput(self, config: Any, checkpoint: Any, *args: Any) -> Any:
        checkpoint = {**checkpoint, "id": _turned(checkpoint["id"])}
        return _there(await self._saver.aput(_there(config), checkpoint, *args))

    async def aput_writes(self, config: Any, *args: Any) -> None:
        await self._saver.aput_writes(_there(config), *args)

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        return _back(await self._saver.aget_tuple(_there(config)))

    async def alist(self, config: Any, before: Any = None, **how: Any) -> AsyncIterator[Any]:
        async for found in self._saver.alist(_there(config), before=_there(before), **how):
            yield _back(found)


def _turned(checkpoint_id: str) -> str:
    return f"{10**8 - int(checkpoint_id):08}"


def _there(config: Any) -> Any:
    """The config with the other id, if it names any."""
    if config is None or "checkpoint_id" not in config["configurable"]:
        return config
    id = _turned(config["configurable"]["checkpoint_id"])
    return {"configurable": {**config["configurable"], "checkpoint_id": id}}


def _back(found: CheckpointTuple | None) -> Any:
    if found is None:
        return None
    checkpoint = {**found.checkpoint, "id": _turned(found.checkpoint["id"])}
    return found._replace(
        config=_there(found.config),
        checkpoint=checkpoint,
        parent_config=_there(found.parent_config),
    )


class Story:
    """Tells both the same. Each gets objects of its own, so that a change in place reaches only the
    one it is made in."""

    def __init__(self, seed: int, path: Path) -> None:
        self.random = random.Random(seed)
        self.path = path
        # Half of the stories are told to a file that is encrypted, and half with a clock that is
        # put back.
        self.key = KEY if seed % 2 else None
        self.is_put_back = seed % 4 > 1
        self.model = Model(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        self.stack = AsyncExitStack()
        self.number = 0
        # The values as a running graph holds them from one step to the next, without reading them
        # again.
        self.running: dict[tuple[str, str], tuple[str, dict[str, Any], Any, Any]] = {}

    async def __aenter__(self) -> Story:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def open(self) -> None:
        # Hardly any cache now and then, so that what it forgets is met too.
        size = self.random.choice([1 << 25, 1 << 25, 2_000])
        saver = await self.stack.enter_async_context(
            SqliteSaver.from_conn_string(self.path, cache_bytes=size, encryption_key=self.key)
        )
        self.saver: Any = PutBack(saver) if self.is_put_back else saver

    async def step(self) -> None:
        acts: dict[Callable[[], Any], int] = {
            self.go_on: 30,
            self.turn: 25,
            self.fork: 8,
            self.write: 12,
            self.spoil: 6,
            self.restart: 4,
            self.prune: 2,
            self.copy: 2,
            self.delete: 1,
            self.delete_runs: 2,
            self.look_back: 4,
        }
        await self.random.choices(list(acts), list(acts.values()))[0]()

    # ── what happens ──

    async def turn(self) -> None:
        """Read the head and put a checkpoint upon it."""
        thread_id, ns = self.place()
        await self.put(thread_id, ns, *await self.both(config(thread_id, ns)))

    async def go_on(self) -> None:
        """Put a checkpoint upon the last one that was put, with the very objects that were put
        there."""
        thread_id, ns = self.place()
        if (thread_id, ns) in self.running:
            parent, versions, ours, theirs = self.running[(thread_id, ns)]
            await self.store(thread_id, ns, parent, dict(versions), ours, theirs)

    async def fork(self) -> None:
        """Put a checkpoint upon an old one."""
        thread_id, ns = self.place()
        if old := self.any_checkpoint(thread_id, ns):
            await self.put(thread_id, ns, *await self.both(config(thread_id, ns, old)))

    async def write(self) -> None:
        """Write what a task wrote, perhaps twice."""
        thread_id, ns = self.place()
        if at := self.any_checkpoint(thread_id, ns):
            task, path = f"task-{self.random.randrange(3)}", self.random.choice(["", "~1", "~2"])
            special = self.random.random() < 0.3
            names = ["__interrupt__", "__resume__"] if special else ["messages", "notes", "value"]
            writes = [
                (
                    self.random.choice(names),
                    self.random.choice([self.message(), {"n": self.next()}, None]),
                )
                for _ in range(2)
            ]
            for saver in (self.saver, self.model):
                await saver.aput_writes(
                    config(thread_id, ns, at), copy.deepcopy(writes), task, path
                )

    async def spoil(self) -> None:
        """Read, and change what was read without putting it back."""
        thread_id, ns = self.place()
        pair = await self.both(config(thread_id, ns))
        if pair[0]:
            self.change_in_place(pair[0].checkpoint["channel_values"])
        await self.both(config(thread_id, ns))

    async def restart(self) -> None:
        await self.stack.aclose()
        await self.open()

    async def prune(self) -> None:
        thread_id, keep = self.random.choice(THREADS), self.random.choice([1, 1, 3])
        for saver in (self.saver, self.model):
            await saver.aprune([thread_id], keep=keep)

    async def copy(self) -> None:
        source, target = self.random.sample(THREADS, 2)
        self.running = {key: value for key, value in self.running.items() if key[0] != target}
        for saver in (self.saver, self.model):
            await saver.adelete_thread(target)
            await saver.acopy_thread(source, target)

    async def delete(self) -> None:
        thread_id = self.random.choice(THREADS)
        self.running = {key: value for key, value in self.running.items() if key[0] != thread_id}
        for saver in (self.saver, self.model):
            await saver.adelete_thread(thread_id)

    async def delete_runs(self) -> None:
        runs = [f"run-{self.random.randrange(12)}"]
        self.running = {}
        for saver in (self.saver, self.model):
            await saver.adelete_for_runs(runs)

    async def look_back(self) -> None:
        """List with filters, a limit and a place to begin before."""
        thread_id, ns = self.place()
        old = self.any_checkpoint(thread_id, ns)
        asked: dict[str, Any] = {
            "filter": self.random.choice(
                [
                    None,
                    {"source": "loop"},
                    {"step": 3, "source": "loop"},
                    {"parents": {}},
                    {"missing": None},
                ]
            ),
            "before": self.random.choice([None, config(thread_id, ns, old)]) if old else None,
            "limit": self.random.choice([None, 1, 5]),
        }
        await self.compare_lists(config(thread_id, ns), **asked)

    # ── how it is told ──

    async def put(
        self, thread_id: str, ns: str, ours: CheckpointTuple | None, theirs: CheckpointTuple | None
    ) -> None:
        if ours is None or theirs is None:
            await self.store(thread_id, ns, None, {}, {}, {})
        else:
            parent, versions = ours.checkpoint["id"], dict(ours.checkpoint["channel_versions"])
            await self.store(
                thread_id,
                ns,
                parent,
                versions,
                ours.checkpoint["channel_values"],
                theirs.checkpoint["channel_values"],
            )

    async def store(
        self,
        thread_id: str,
        ns: str,
        parent: str | None,
        versions: dict[str, Any],
        ours: Any,
        theirs: Any,
    ) -> None:
        seed = self.random.random()
        new = {}
        for values in (ours, theirs):
            # The same random choices for both.
            self.random.seed(seed)
            new = dict.fromkeys(self.change(values), self.next_version())
        self.number += 1
        versions.update(new)
        checkpoint_id = f"{self.number:08}"
        metadata = {
            "source": self.random.choice(["loop", "input"]),
            "step": self.number % 5,
            "parents": {},
        }
        metadata["run_id"] = f"run-{self.random.randrange(12)}"
        for saver, values in ((self.saver, ours), (self.model, theirs)):
            checkpoint = {
                "v": 4,
                "id": checkpoint_id,
                "ts": "2026-01-02T12:00:00+00:00",
                "channel_values": dict(values),
                "channel_versions": dict(versions),
                "versions_seen": {"node": dict(versions)},
                "updated_channels": sorted(new),
            }
            returned = await saver.aput(
                config(thread_id, ns, parent), checkpoint, dict(metadata), dict(new)
            )  # type: ignore[arg-type]
            assert returned == config(thread_id, ns, checkpoint_id)
        self.running[(thread_id, ns)] = (checkpoint_id, versions, ours, theirs)
        if self.random.random() < 0.5:
            await self.both(config(thread_id, ns))

    def change(self, values: dict[str, Any]) -> set[str]:
        """Change some channels as a step would; return their names."""
        changed = {"messages"}
        messages = values["messages"] = list(values.get("messages", []))
        match self.random.choice(
            [
                "append",
                "append",
                "append",
                "edit",
                "remove",
                "in place",
                "replace",
                "trim",
                "nothing",
            ]
        ):
            case "append":
                messages += [
                    self.message()
                    for _ in range(
                        self.random.choice([1, 1, 1, 1, 1, 2, 2, 150]) if len(messages) < 100 else 1
                    )
                ]
            case "edit" if messages:
                at = self.random.randrange(len(messages))
                messages[at] = messages[at].model_copy(
                    update={"content": f"edited {self.random.random()}"}
                )
            case "remove" if messages:
                del messages[self.random.randrange(len(messages))]
            case "in place":
                self.change_in_place(values)
            case "replace":
                values["messages"] = [self.message()]
            case "trim":
                del messages[: len(messages) // 2]
        if self.random.random() < 0.3:
            notes = values["notes"] = list(values.get("notes", []))
            notes.append(
                self.random.choice(["note", 1, True, None, {"k": [1, 2]}, b"bytes", "long " * 100])
            )
            changed.add("notes")
        if self.random.random() < 0.3:
            values["value"] = self.random.choice(
                [None, {"small": 1}, {"large": "x" * 1000}, "text", ["a"], []]
            )
            changed.add("value")
        if self.random.random() < 0.1 and "value" in values:
            del values["value"]
            changed.add("value")
        return changed

    def change_in_place(self, values: dict[str, Any]) -> None:
        """Change a message, old or new, so that it stays the same object."""
        messages = values.get("messages")
        if not messages:
            return
        message = self.random.choice(messages)
        match self.random.randrange(7):
            case 0:
                message.content = f"changed {self.random.random()}"
            case 1:
                message.additional_kwargs["k"] = self.random.choice(
                    [1, True, 1.0, None, {"deep": [1]}]
                )
            case 2:
                message.response_metadata.setdefault("list", []).append(
                    self.random.choice([0, False])
                )
            case 3:
                message.id = f"id-{self.random.random()}"
            case 4:
                message.extra_field = {"n": self.random.random()}
            case 5 if isinstance(message, AIMessage):
                message.tool_calls.append(
                    {
                        "name": "t",
                        "args": {"a": {"b": self.random.random()}},
                        "id": "1",
                        "type": "tool_call",
                    }
                )
            case _:
                message.__dict__.update(
                    content=[{"type": "text", "text": f"{self.random.random()}"}]
                )

    def message(self) -> AnyMessage:
        number = self.random.random()
        return self.random.choice(
            [
                HumanMessage(f"human {number}", id=f"h{number}"),
                HumanMessage([{"type": "text", "text": "héllo"}], id=f"h{number}", extra_field=1),
                AIMessage(
                    "a" * 300,
                    id=f"a{number}",
                    tool_calls=[{"name": "tool", "args": {"n": number}, "id": f"c{number}"}],
                ),
                ToolMessage(
                    "done",
                    tool_call_id=f"c{number}",
                    artifact={"rows": [1, 2, (3, 4)]},
                    id=f"t{number}",
                ),
            ]
        )

    def place(self) -> tuple[str, str]:
        return self.random.choice(THREADS), self.random.choice(NAMESPACES)

    def any_checkpoint(self, thread_id: str, ns: str) -> str | None:
        there = sorted(self.model.storage.get(thread_id, {}).get(ns, {}))
        return self.random.choice(there) if there else None

    def next(self) -> int:
        return self.random.randrange(1000)

    def next_version(self) -> str:
        # A number that nobody else uses: the model keeps values by it.
        return f"{self.number + 1:032}.{self.number}"

    # ── comparing ──

    async def both(self, asked: Any) -> tuple[CheckpointTuple | None, CheckpointTuple | None]:
        ours, theirs = await self.saver.aget_tuple(asked), await self.model.aget_tuple(asked)
        assert seen(ours) == seen(theirs)
        return ours, theirs

    async def compare_lists(self, asked: Any, **how: Any) -> None:
        ours = [seen(each) async for each in self.saver.alist(asked, **how)]
        theirs = [seen(each) async for each in self.model.alist(asked, **how)]
        if asked is None:
            ours, theirs = sorted(ours, key=str), sorted(theirs, key=str)
        assert ours == theirs


def config(thread_id: str, ns: str, checkpoint_id: str | None = None) -> Any:
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, **named}}


def seen(found: CheckpointTuple | None) -> Any:
    """What can be seen of a tuple, to the byte and the type."""
    if found is None:
        return None
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    values = {
        channel: serde.dumps_typed(value)
        for channel, value in found.checkpoint["channel_values"].items()
    }
    writes = [
        (task, channel, serde.dumps_typed(value))
        for task, channel, value in found.pending_writes or ()
    ]
    rest = {name: value for name, value in found.checkpoint.items() if name != "channel_values"}
    at = {
        name: found.config["configurable"].get(name)
        for name in ("thread_id", "checkpoint_ns", "checkpoint_id")
    }
    return at, rest, values, found.metadata, found.parent_config, writes


@pytest.fixture
async def story(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Story]:
    async with Story(request.param, tmp_path / "checkpoints.db") as story:
        yield story


@pytest.mark.slow
@pytest.mark.parametrize("story", SEEDS, indirect=True)
async def test_no_history_tells_the_saver_from_the_one_in_memory(story: Story) -> None:
    for _ in range(STEPS):
        await story.step()
    for thread_id in THREADS:
        for ns in NAMESPACES:
            await story.both(config(thread_id, ns))
            await story.compare_lists(config(thread_id, ns))
    await story.compare_lists(None)
