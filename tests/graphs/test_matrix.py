"""One graph of each kind, served by its path: streamed, paused, killed, decided and ended, each has
the state and the traces that it has in LangGraph alone.

Each is run twice over one server. The first time it is killed while all graphs wait for a person;
the second time also amid what they do next.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic_core import to_jsonable_python

from tests.graphs import (
    context_defaults,
    context_required,
    factory,
    fan_out,
    map_reduce,
    own_state,
    structured,
    supervisor,
    swarm,
    with_middleware,
    with_store,
    workflow,
)
from tests.support.server import Api, Event, Server, asking, serving, types_of

IDS = re.compile(
    r"(?:lc_)?(?:run-+)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-\d+)?|call_[0-9a-f]{24}"
)
"""Made anew by each run: of messages, and of calls."""


@dataclass(frozen=True, slots=True)
class Case:
    """A graph, what it is given, the answers at each of its pauses, and the traces that a kill amid
    what comes after the last of them leaves once more."""

    name: str
    module: ModuleType
    input: Any
    answers: Sequence[Sequence[Any]]
    again: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.module.__file__}:graph"

    def traces(self, lines: Sequence[str]) -> list[str]:
        """Those of these lines that are this graph's."""
        prefixes = ("begin", "draft ", "send ") if self.name == "workflow" else f"{self.name}: "
        return [line for line in lines if line.startswith(prefixes)]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        """The graph as LangGraph runs it, in this process."""
        if self.name == "factory":
            async with self.module.graph() as graph:
                yield in_memory(graph)
        else:
            yield in_memory(self.module.graph)


def in_memory(graph: Any) -> Any:
    return graph.copy(update={"checkpointer": InMemorySaver(), "store": InMemoryStore()})


def of_template() -> ModuleType:
    """The module of LangGraph's template, whose package only the server's loader finds."""
    file = Path(__file__).with_name("template") / "src/agent/graph.py"
    spec = spec_from_file_location("tests.graphs.template.src.agent.graph", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def case_of(module: ModuleType) -> Case:
    name = module.__name__.rpartition(".")[2]
    context = getattr(module, "CONTEXT", None)
    options = {} if context is None else {"context": context}
    return Case(name, module, module.INPUT, module.ANSWERS, module.AGAIN, options)


CASES = [
    *map(
        case_of,
        [
            *(own_state, context_defaults, context_required, with_middleware, structured),
            *(with_store, supervisor, swarm, fan_out, map_reduce, workflow, factory),
        ],
    ),
    # It asks nobody, so whoever starts the run has it stop.
    Case(
        "template",
        of_template(),
        {"changeme": "hello"},
        [[None]],
        [],
        {"interrupt_before": ["call_model"], "context": {"my_configurable_param": "care"}},
    ),
]


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a case: its state, its traces and, over the server, its last event."""

    values: Any
    traces: list[str]
    last_event: str = ""


# ── in LangGraph alone ────────────────────────────────────────────────────────────────────────────


async def end_in_process(case: Case) -> Any:
    """The state in which LangGraph leaves the thread, if the same is said."""
    config = {"configurable": {"thread_id": "t"}}
    # As a server runs it: without a context, the one of all defaults.
    options = {"context": {}, **case.options}
    async with case.opened() as graph:
        given = case.input
        for answers in (*case.answers, None):
            async for _ in graph.astream(given, config, stream_mode=["messages"], **options):
                pass
            state = await graph.aget_state(config)
            assert (answers is None) == (not state.next)
            if answers and state.interrupts:
                asked = [each.id for each in state.interrupts]
                given = Command(resume=dict(zip(asked, answers, strict=True)))
            else:
                given = None
        return state.values


def normal(values: Any) -> Any:
    """The values as JSON, their ids replaced by their order: what has one id still has one."""
    text = json.dumps(to_jsonable_python(values), sort_keys=True)
    numbers: dict[str, int] = {}
    return json.loads(
        IDS.sub(lambda found: f"id {numbers.setdefault(found[0], len(numbers))}", text)
    )


# ── over the server ───────────────────────────────────────────────────────────────────────────────


Story = Callable[[Server, Api], Awaitable[dict[str, Ended]]]


async def begin(api: Api, case: Case, thread_id: str) -> None:
    events = await api.stream(
        agent=case.name, thread_id=thread_id, input=case.input, **case.options
    )
    assert types_of(events)[0] == "run_start", case.name
    assert types_of(events)[-1] == "run_paused", (case.name, events[-1])
    assert events == await api.events(thread_id)


async def answer(api: Api, thread_id: str, answers: Sequence[Any]) -> Event:
    """Give the answers to all that is asked, in its order; what the server says to that."""
    if isinstance(answers[0], dict) and "decisions" in answers[0]:
        return await api.decided(thread_id, **answers[0])
    decisions = {
        approval["approval_id"]: {"type": "approve"}
        if approval["kind"] == "node"
        else {"type": "respond", "message": each}
        for approval, each in zip(await api.pending(thread_id), answers, strict=True)
    }
    return await api.decided(thread_id, decisions=decisions)


async def ended(api: Api, case: Case, thread_id: str, server: Server) -> Ended:
    await api.at_rest(thread_id)
    (*_, last) = await api.events(thread_id)
    values = (await api.get(f"/threads/{thread_id}/state"))["values"]
    return Ended(values, case.traces(server.traces()), last["type"])


async def killed_while_all_wait(server: Server, api: Api) -> dict[str, Ended]:
    server.let_go(1)
    for case in CASES:
        await begin(api, case, case.name)
    asked = {case.name: await api.pending(case.name) for case in CASES}
    server.restart()
    for case in CASES:
        assert await api.pending(case.name) == asked[case.name]
        for answers in case.answers:
            seen = (await api.events(case.name))[-1]["seq"]
            await answer(api, case.name, answers)
            await api.until(case.name, "run_paused", "done", "error", after=seen)
    return {case.name: await ended(api, case, case.name, server) for case in CASES}


async def killed_amid_a_node(server: Server, api: Api) -> dict[str, Ended]:
    for file in server.folder.glob("ledger*"):
        file.unlink()
    cases = [case for case in CASES if case.again]
    for case in cases:
        thread_id = f"{case.name}-again"
        await begin(api, case, thread_id)
        for answers in case.answers:
            run = await answer(api, thread_id, answers)
            if answers is not case.answers[-1]:
                await api.ended(run["run_id"])
        await server.until_traced(*case.again)
    server.restart()
    server.let_go(1)
    return {case.name: await ended(api, case, f"{case.name}-again", server) for case in cases}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("matrix")
    target = folder / "langgraph.json"
    target.write_text(json.dumps({"graphs": {case.name: case.path for case in CASES}}))
    with serving(folder, str(target)) as server:
        yield server


async def asked(server: Server, story: Story) -> dict[str, Ended]:
    async with asking(server) as api:
        return await story(server, api)


@pytest.fixture(scope="module")
def waited(server: Server) -> dict[str, Ended]:
    return asyncio.run(asked(server, killed_while_all_wait))


@pytest.fixture(scope="module")
def cut_off(server: Server, waited: dict[str, Ended]) -> dict[str, Ended]:
    return asyncio.run(asked(server, killed_amid_a_node))


@pytest.fixture
async def alone(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """What becomes of it in this process."""
    ledger = tmp_path / "ledger"
    ledger.touch()
    (tmp_path / "ledger.go-1").touch()
    monkeypatch.setenv("LEDGER", str(ledger))
    values = await end_in_process(case)
    return Ended(values, ledger.read_text().splitlines())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_graph_that_is_killed_while_it_waits_ends_as_in_langgraph_alone(
    case: Case, waited: dict[str, Ended], alone: Ended
) -> None:
    ended = waited[case.name]
    assert ended.last_event == "done"
    assert normal(ended.values) == normal(alone.values)
    assert Counter(ended.traces) == Counter(alone.traces)


@pytest.mark.parametrize("case", [case for case in CASES if case.again], ids=lambda case: case.name)
def test_a_graph_that_is_killed_amid_a_node_runs_that_again_and_nothing_else(
    case: Case, cut_off: dict[str, Ended], alone: Ended
) -> None:
    ended = cut_off[case.name]
    assert ended.last_event == "done"
    assert normal(ended.values) == normal(alone.values)
    assert Counter(ended.traces) == Counter(alone.traces) + Counter(case.again)
