"""Agents that users bring, from real files."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from assent.core.errors import AgentLoadError
from assent.graph.loading import open_agents

Write = Callable[[str, str], Path]

GRAPH = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

builder = StateGraph(MessagesState)
builder.add_node("answer", lambda state: {"messages": [AIMessage("hello")]})
builder.add_edge(START, "answer")
"""

RUNTIME = """
from langgraph_sdk.runtime import ServerRuntime

def made(runtime):
    assert runtime.access_context == "assistants.read"
    assert runtime.user is None and runtime.execution_runtime is None
    return builder.compile()

"""

NAMED = f"{GRAPH}\nagent = builder.compile(name='greeter')\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write


@pytest.fixture(autouse=True)
def _the_process_is_left_as_it_was() -> object:
    path, env, modules = list(sys.path), dict(os.environ), set(sys.modules)
    yield
    assert sys.path == path
    assert {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"} == {
        name: value for name, value in env.items() if name != "PYTEST_CURRENT_TEST"
    }
    # Two tests may have modules of one name.
    for name in set(sys.modules) - modules:
        del sys.modules[name]


async def answer_of(target: str) -> dict[str, str]:
    """What each agent of the target says, by its id."""
    async with open_agents(target) as agents:
        return {
            name: (await agent.ainvoke({"messages": [("user", "hi")]}))["messages"][-1].text
            for name, agent in agents.items()
        }


async def failure_of(target: object) -> str:
    with pytest.raises(AgentLoadError) as caught:
        async with open_agents(str(target)):
            pass
    assert "\n" not in caught.value.message
    return caught.value.message


# ── what a variable may hold ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("variable", "code"),
    [
        ("compiled", "compiled = builder.compile()"),
        ("builder", ""),
        ("retried", "retried = builder.compile().with_retry(stop_after_attempt=2)"),
        (
            "flow",
            "from langgraph.func import entrypoint\n@entrypoint()\nasync def flow(given): return await builder.compile().ainvoke(given)",
        ),
        ("make", "def make(): return builder.compile()"),
        ("make", "def make(): return builder"),
        (
            "make",
            "def make(config): return builder.compile() if config == {'configurable': {}} else None",
        ),
        (
            "make",
            "def make(*, config): return builder.compile() if config == {'configurable': {}} else None",
        ),
        ("make", "def make(config=None): return builder.compile() if config is None else None"),
        ("make", "async def make(): return builder.compile()"),
        ("make", "async def make(config): return builder.compile()"),
        ("make", f"{RUNTIME}def make(runtime: ServerRuntime): return made(runtime)"),
        ("make", f"{RUNTIME}def make(given: ServerRuntime[dict]): return made(given)"),
        ("make", f"{RUNTIME}def make(given: 'ServerRuntime'): return made(given)"),
        ("make", f"{RUNTIME}async def make(runtime): return made(runtime)"),
        (
            "make",
            f"{RUNTIME}import contextlib\n@contextlib.asynccontextmanager\nasync def make(runtime): yield made(runtime)",
        ),
        (
            "Opening",
            "class Opening:\n async def __aenter__(self): return builder\n async def __aexit__(self, *_): pass",
        ),
        (
            "make",
            "import functools\nmake = functools.partial(lambda graph: graph.compile(), builder)",
        ),
        (
            "make",
            "import contextlib\n@contextlib.contextmanager\ndef make(): yield builder.compile()",
        ),
        (
            "make",
            "import contextlib\n@contextlib.asynccontextmanager\nasync def make(config): yield builder",
        ),
        ("opened", "import contextlib\nopened = contextlib.nullcontext(builder.compile())"),
        # Only off the event loop's thread can a module do this as it is imported.
        (
            "made",
            "import asyncio\nasync def make(): return builder.compile()\nmade = asyncio.run(make())",
        ),
    ],
)
async def test_a_variable_may_hold_a_graph_or_what_makes_one(
    write: Write, variable: str, code: str
) -> None:
    file = write("module.py", f"{GRAPH}\n{code}\n")
    assert await answer_of(f"{file}:{variable}") == {variable: "hello"}


async def test_an_agent_is_called_by_its_graphs_own_name(write: Write) -> None:
    file = write("module.py", NAMED)
    assert await answer_of(f"{file}:agent") == {"greeter": "hello"}


async def test_a_context_manager_is_closed_at_the_end(write: Write, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    file = write(
        "module.py",
        f"""{GRAPH}
import contextlib, pathlib

@contextlib.asynccontextmanager
async def make():
    yield builder.compile()
    pathlib.Path({str(closed)!r}).touch()
""",
    )
    async with open_agents(f"{file}:make"):
        assert not closed.exists()
    assert closed.exists()


@pytest.mark.parametrize(
    "code",
    [
        "builder.compile()",
        "builder.compile(checkpointer=InMemorySaver())",
        "builder.compile(checkpointer=InMemorySaver()).with_config(tags=['mine'])",
        "builder.compile(checkpointer=False)",
        "builder.compile(checkpointer=True)",
        "outer(builder.compile(checkpointer=InMemorySaver()))",
    ],
)
async def test_a_servers_checkpointer_takes_the_place_of_any_that_the_graph_came_with(
    write: Write, code: str
) -> None:
    file = write(
        "module.py",
        f"""{GRAPH}
from langgraph.checkpoint.memory import InMemorySaver

def outer(inner):
    around = StateGraph(MessagesState)
    around.add_node("inner", inner)
    around.add_edge(START, "inner")
    return around.compile()

agent = {code}
""",
    )
    saver = InMemorySaver()
    async with open_agents(f"{file}:agent") as agents:
        (agent,) = agents.values()
        before = agent.checkpointer
        served = agent.copy(update={"checkpointer": saver})
        await served.ainvoke({"messages": [("user", "hi")]}, {"configurable": {"thread_id": "1"}})
        assert [
            message.text
            for message in saver.get_tuple({"configurable": {"thread_id": "1"}}).checkpoint[
                "channel_values"
            ]["messages"]
        ] == [
            "hi",
            "hello",
        ]
        assert agent.checkpointer is before
        inner = agent.nodes["inner"].bound if "inner" in agent.nodes else agent
        assert not isinstance(inner.checkpointer, InMemorySaver) or not list(
            inner.checkpointer.list(None)
        )


# ── where modules are, and what they import ───────────────────────────────────────────────────────


async def test_a_file_imports_its_siblings(write: Write) -> None:
    write("my_words.py", "WORD = 'sibling'")
    file = write(
        "module.py",
        GRAPH.replace('"hello"', "my_words.WORD") + "import my_words\nfrom .my_words import WORD\n",
    )
    assert await answer_of(f"{file}:builder") == {"builder": "sibling"}


async def test_a_node_may_import_a_sibling_as_it_runs(write: Write) -> None:
    write("late_words.py", "WORD = 'late'")
    file = write("module.py", GRAPH.replace('"hello"', "__import__('late_words').WORD"))
    assert await answer_of(f"{file}:builder") == {"builder": "late"}


async def test_a_file_in_a_package_is_that_packages_module(write: Write) -> None:
    write("my_office/__init__.py", "")
    write("my_office/words.py", "WORD = 'parent'")
    write("my_office/agents/__init__.py", "")
    file = write(
        "my_office/agents/clerk.py",
        GRAPH.replace('"hello"', "words.WORD")
        + "from .. import words\nimport my_office.words\nassert words is my_office.words\n",
    )
    assert await answer_of(f"{file}:builder") == {"builder": "parent"}


async def test_a_package_that_is_named_like_one_already_there_still_loads(write: Write) -> None:
    write("json/__init__.py", "")
    write("json/words.py", "WORD = 'mine'")
    file = write("json/agent.py", GRAPH.replace('"hello"', "WORD") + "from .words import WORD\n")
    assert await answer_of(f"{file}:builder") == {"builder": "mine"}


async def test_two_files_of_one_name_are_two_agents(write: Write, tmp_path: Path) -> None:
    write("one/agent.py", GRAPH.replace("hello", "one"))
    write("two/agent.py", GRAPH.replace("hello", "two"))
    file = write(
        "langgraph.json",
        json.dumps({"graphs": {"1": "./one/agent.py:builder", "2": "./two/agent.py:builder"}}),
    )
    assert await answer_of(str(file)) == {"1": "one", "2": "two"}


async def test_a_file_of_no_package_has_its_own_name(write: Write) -> None:
    file = write("my_clerk.py", GRAPH.replace('"hello"', "__name__"))
    assert await answer_of(f"{file}:builder") == {"builder": "my_clerk"}
    assert "my_clerk" not in sys.modules


@pytest.mark.parametrize("name", ["json", "sched", "structlog"])
async def test_a_file_named_like_a_module_that_is_there_already_has_a_name_below_our_own(
    write: Write, name: str
) -> None:
    file = write(f"{name}.py", GRAPH.replace('"hello"', "__name__"))
    there = sys.modules.get(name)
    assert await answer_of(f"{file}:builder") == {"builder": f"assent_agent.{name}"}
    assert sys.modules.get(name) is there


@pytest.mark.parametrize("names", [["a", "b", "c"], ["c", "b", "a"], ["b"]])
async def test_a_file_of_a_project_has_the_same_name_whatever_else_is_loaded(
    write: Write, names: list[str]
) -> None:
    graphs = {"a": "./one/agent.py:graph", "b": "./two/agent.py:graph", "c": "./src/agent.py:graph"}
    for path in graphs.values():
        write(path.removesuffix(":graph"), f"{GRAPH}\ngraph = builder.compile(name=__name__)\n")
    file = write(
        "langgraph.json",
        json.dumps({"graphs": {name: graphs[name] for name in names}, "dependencies": ["."]}),
    )
    async with open_agents(str(file)) as agents:
        modules = {name: agent.name for name, agent in agents.items()}
    expected = {"a": "one.agent", "b": "two.agent", "c": "agent"}
    assert modules == {name: expected[name] for name in names}


async def test_the_types_of_a_file_are_the_same_for_all_who_import_it(write: Write) -> None:
    write("my_words.py", "from .my_agent import Word\nWORDS = [Word('relatively')]\n")
    write("my_letters.py", "from my_agent import Word\nWORDS = [Word('absolutely')]\n")
    write(
        "my_agent.py",
        f"""{GRAPH}
class Word(str): pass
from .my_words import WORDS as relative
from my_letters import WORDS as absolute
assert type(relative[0]) is type(absolute[0]) is Word
first, second = builder, builder
""",
    )
    file = write(
        "langgraph.json",
        json.dumps({"graphs": {"1": "./my_agent.py:first", "2": "./my_agent.py:second"}}),
    )
    async with open_agents(str(file)) as agents:
        first, second = agents.values()
        assert first.builder is second.builder


async def test_a_module_is_found_from_the_current_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("my_bureau/__init__.py", "")
    write("my_bureau/clerk.py", NAMED)
    monkeypatch.chdir(tmp_path)
    assert await answer_of("my_bureau.clerk:agent") == {"greeter": "hello"}
    assert await answer_of("my_bureau/clerk.py:agent") == {"greeter": "hello"}


# ── langgraph.json ────────────────────────────────────────────────────────────────────────────────


async def test_a_langgraph_project_runs_unchanged(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SET_WORD", "from outside")
    monkeypatch.delenv("MY_NEW_WORD", raising=False)
    write(".env", "MY_SET_WORD=from the file\nMY_NEW_WORD='quoted'\n")
    write("src/my_project/__init__.py", "")
    write(
        "src/my_project/graph.py",
        GRAPH.replace('"hello"', "my_library.WORDS") + "import my_library, my_project\n",
    )
    write(
        "libs/my_library.py",
        "import os\nWORDS = os.environ['MY_SET_WORD'] + ', ' + os.environ['MY_NEW_WORD']",
    )
    file = write(
        "langgraph.json",
        json.dumps(
            {
                "dependencies": [".", "./libs", "langchain_openai"],
                "graphs": {
                    "by path": "./src/my_project/graph.py:builder",
                    "by object": {
                        "path": "./src/my_project/graph.py:builder",
                        "description": "the same",
                    },
                    "by module": "my_project.graph:builder",
                },
                "env": ".env",
                "python_version": "3.12",
            }
        ),
    )
    assert await answer_of(str(file)) == dict.fromkeys(
        ["by path", "by object", "by module"], "from outside, quoted"
    )


async def test_a_langgraph_project_may_hold_its_variables(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_OTHER_WORD", raising=False)
    write("agent.py", GRAPH.replace('"hello"', "os.environ['MY_OTHER_WORD']") + "import os\n")
    file = write(
        "langgraph.json",
        json.dumps({"graphs": {"a": "./agent.py:builder"}, "env": {"MY_OTHER_WORD": "inline"}}),
    )
    assert await answer_of(str(file)) == {"a": "inline"}


# ── every failure names the file and the cause ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "target", "sentence"),
    [
        ("", "nowhere.py:agent", r"There is no file {folder}/nowhere\.py\."),
        ("", "nowhere.py", r"There is no file {folder}/nowhere\.py\."),
        (
            "",
            "module.py",
            r"'{folder}/module\.py' does not say which variable holds the graph\. Write for example {folder}/module\.py:agent\.",
        ),
        (
            "",
            "module.py:",
            r"'{folder}/module\.py:' does not name an agent\. Write path/to/module\.py:variable, .*",
        ),
        (
            "",
            "module.ts:agent",
            r"{folder}/module\.ts is not a Python file, and Assent runs graphs that are written in Python\.",
        ),
        (
            NAMED,
            "module.py:clerk",
            r"{folder}/module\.py has no variable 'clerk'\. The graphs found there: builder, agent\.",
        ),
        (
            "x = 1",
            "module.py:clerk",
            r"{folder}/module\.py has no variable 'clerk'\. No graph was found there\.",
        ),
        (
            f"{GRAPH}\nagent = 3",
            "module.py:agent",
            r"'agent' in {folder}/module\.py is not a graph but a int\. The graphs found there: builder\.",
        ),
        (
            "class Agent: pass",
            "module.py:Agent",
            r"'Agent' in {folder}/module\.py is not a graph but the class Agent\. No graph .*",
        ),
        (
            "def make(): return None",
            "module.py:make",
            r"'make' in {folder}/module\.py does not return a graph but a NoneType\. .*",
        ),
        (
            "import contextlib\n@contextlib.contextmanager\ndef make(): yield 'x'",
            "module.py:make",
            r"'make' in {folder}/module\.py does not yield a graph but a str\. .*",
        ),
        (
            "def make(config, runtime): pass",
            "module.py:make",
            r"'make' in {folder}/module\.py takes 2 arguments \(config, runtime\), and a function that makes .*",
        ),
        (
            f"{GRAPH}\nbound = builder.compile().bind(x=1)",
            "module.py:bound",
            r"'bound' in {folder}/module\.py is not a graph but a RunnableBinding, as \.bind\(\) and "
            r"\.with_listeners\(\) make of one; name the graph itself, or what its \.with_config\(\) or "
            r"\.with_retry\(\) returns\. The graphs found there: builder\.",
        ),
        (
            "from langgraph.func import entrypoint\n@entrypoint()\ndef flow(x): return x",
            "module.py:agent",
            r"{folder}/module\.py has no variable 'agent'\. The graphs found there: flow\.",
        ),
        (
            "\nx = = 1",
            "module.py:agent",
            r"{folder}/module\.py cannot be imported: SyntaxError: invalid syntax \({folder}/module\.py:2\)\.",
        ),
        (
            "x = 1\n\nx.nothing",
            "module.py:agent",
            r"{folder}/module\.py cannot be imported: AttributeError: 'int' object has no attribute 'nothing' \({folder}/module\.py:3\)\.",
        ),
        (
            "import json\njson.loads('[')",
            "module.py:a",
            r".* JSONDecodeError: Expecting value: .* \({folder}/module\.py:2\)\.",
        ),
        (
            "raise ValueError('several\\nlines.')",
            "module.py:a",
            r".*: ValueError: several lines \({folder}/module\.py:1\)\.",
        ),
        (
            "raise KeyError",
            "module.py:a",
            r".* cannot be imported: KeyError \({folder}/module\.py:1\)\.",
        ),
        (
            "import sys\nsys.exit('set a key')",
            "module.py:a",
            r".* cannot be imported: SystemExit: set a key \({folder}/module\.py:2\)\.",
        ),
        (
            "import no_such_thing.at_all",
            "module.py:a",
            r".*: ModuleNotFoundError: No module named 'no_such_thing' \({folder}/module\.py:1\)\. If 'no_such_thing' is a package that "
            r"the agent needs, install it where Assent is installed \(often: pip install no_such_thing\); if it is the project's own, it "
            r"is looked for in {folder}\.",
        ),
        (
            "def make():\n    return {}['key']",
            "module.py:make",
            r"'make' in {folder}/module\.py failed to make a graph: KeyError: 'key' \({folder}/module\.py:2\)\.",
        ),
        (
            "import contextlib\n@contextlib.asynccontextmanager\nasync def make():\n    raise OSError('refused')\n    yield",
            "module.py:make",
            r"'make' in {folder}/module\.py failed to make a graph: OSError: refused \({folder}/module\.py:4\)\.",
        ),
        (
            "from langgraph.graph import MessagesState, StateGraph\nempty = StateGraph(MessagesState)",
            "module.py:empty",
            r"'empty' in {folder}/module\.py failed to make a graph: ValueError: Graph must have an entrypoint.*",
        ),
    ],
)
async def test_a_file_that_fails_to_load(
    write: Write, tmp_path: Path, code: str, target: str, sentence: str
) -> None:
    write("module.py", code)
    write("module.ts", "")
    message = await failure_of(tmp_path / target)
    assert re.fullmatch(sentence.format(folder=re.escape(str(tmp_path))), message), message


async def test_a_failure_in_an_import_of_an_import_names_its_place(write: Write) -> None:
    deep = write("my_deep.py", "\n\n1 / 0\n")
    file = write("module.py", "import my_deep")
    assert (
        await failure_of(f"{file}:agent")
        == f"{file} cannot be imported: ZeroDivisionError: division by zero ({deep}:3)."
    )


async def test_a_module_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert await failure_of("no_such.module:agent") == (
        "no_such.module cannot be imported: ModuleNotFoundError: No module named 'no_such'. "
        f"It is looked for in {tmp_path} and among the installed packages."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '{\n"graphs": {,}\n}',
            r"{file} is not valid JSON: Expecting property name .* at line 2, column 12\.",
        ),
        ("[]", r'{file} must hold a JSON object with "graphs"\.'),
        (
            "{}",
            r'{file} names no graphs\. Add for example: "graphs": \{{"agent": "./agent\.py:graph"\}}\.',
        ),
        ('{"graphs": {}}', r"{file} names no graphs\. .*"),
        ('{"graphs": {"a": 1}}', r"The graph 'a' in {file} must be .*"),
        (
            '{"graphs": {"a": "./nowhere.py:g"}}',
            r"The graph 'a' in {file} cannot be loaded\. There is no file {folder}/nowhere\.py\.",
        ),
        ('{"graphs": {"a": "./b.py"}}', r"The graph 'a' in {file} cannot be loaded\. .*"),
        (
            '{"graphs": {"a": "./b.py:g"}, "dependencies": "."}',
            r'"dependencies" in {file} must be a list of strings\.',
        ),
        (
            '{"graphs": {"a": "./b.py:g"}, "dependencies": ["./nowhere"]}',
            r'"dependencies" in {file} names {folder}/nowhere, and there is no such folder\.',
        ),
        (
            '{"graphs": {"a": "./b.py:g"}, "env": 3}',
            r'"env" in {file} must be an object of variables, or the path of a \.env file\.',
        ),
    ],
)
async def test_a_langgraph_json_that_fails_to_load(
    write: Write, tmp_path: Path, text: str, sentence: str
) -> None:
    file = write("langgraph.json", text)
    message = await failure_of(file)
    assert re.fullmatch(
        sentence.format(file=re.escape(str(file)), folder=re.escape(str(tmp_path))), message
    ), message


async def test_a_langgraph_json_that_is_not_there(tmp_path: Path, write: Write) -> None:
    assert (
        await failure_of(tmp_path / "langgraph.json")
        == f"There is no file {tmp_path / 'langgraph.json'}."
    )
    write("langgraph.json", "{}")
    assert (
        await failure_of(tmp_path)
        == f"'{tmp_path}' is a folder. Name its {tmp_path / 'langgraph.json'}."
    )
