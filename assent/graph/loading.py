"""Agents that users bring: from a file, a module, or an existing LangGraph project's
langgraph.json.

On purpose, this differs from LangGraph's own server in three ways:

1. A function that makes a graph is called once, at the start, with an empty config; not again for
   each run.
2. A file that belongs to no package may still write `from .tools import …`.
3. Of a project's langgraph.json only `graphs`, `dependencies` and `env` are read. A warning names
   the other settings in it.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
import json
import os
import sys
import sysconfig
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog
from dotenv import dotenv_values
from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

from assent.core.clock import uuid7
from assent.core.errors import AgentLoadError
from assent.graph.interrupts.questions import Agent

KNOWN_KEYS = {
    *("graphs", "dependencies", "env"),
    # About building an image, which is not done here.
    *("$schema", "python_version", "node_version", "pip_config_file", "pip_installer"),
    *("base_image", "image_distro", "dockerfile_lines", "keep_pkg_tools", "api_version"),
}
"""The settings in a langgraph.json that are read, and those that do not matter here."""

MAX_CAUSE = 500
"""Characters of an exception's text in an error message."""


@asynccontextmanager
async def open_agents(target: str) -> AsyncIterator[dict[str, Agent]]:
    """The agents that `target` names, by id, for as long as the context is entered.

    `target` is "path/to/module.py:variable", "package.module:variable", or the path of a
    langgraph.json. A variable may hold a compiled graph, a `StateGraph` that is not compiled yet, a
    function (sync or async, of no argument or of a config) that returns one, or a context manager
    (sync or async, or a function that returns one) that yields one and is closed at the end. The id
    is the graph's own name, or else the variable's; in a langgraph.json it is the key. The graph
    keeps the checkpointer that it came with.

    While the context is entered, `sys.path` and `os.environ` hold what the target needs. Raises
    `AgentLoadError`, which names the file and the cause.
    """
    async with AsyncExitStack() as stack:
        if target.endswith(".json"):
            yield await _project_agents(Path(target), stack)
            return
        source = _source(target, base=Path())
        agent = await _agent(source, stack)
        is_named = agent.name not in (None, "LangGraph")
        yield {agent.name if is_named else source.variable: agent}


# ── langgraph.json ────────────────────────────────────────────────────────────────────────────────


async def _project_agents(file: Path, stack: AsyncExitStack) -> dict[str, Agent]:
    config = _read_json(file)
    graphs = config.get("graphs")
    if not isinstance(graphs, Mapping) or not graphs:
        raise AgentLoadError(
            f'{file} names no graphs. Add for example: "graphs": {{"agent": "./agent.py:graph"}}.'
        )
    unread = sorted(set(config) - KNOWN_KEYS)
    if unread:
        structlog.get_logger(__name__).warning(
            "langgraph.json has settings that Assent does not read", file=str(file), keys=unread
        )
    stack.enter_context(_environment(_project_env(file, config.get("env") or {})))
    dependencies = _dependency_folders(file, config.get("dependencies") or [])
    for folder in reversed([file.parent.resolve(), *dependencies]):
        stack.enter_context(_on_path(folder))
    agents: dict[str, Agent] = {}
    for name, value in graphs.items():
        agents[name] = await _agent(_project_source(file, name, value), stack)
    return agents


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AgentLoadError(f"There is no file {file}.") from None
    except OSError as error:
        raise AgentLoadError(f"{file} cannot be read: {error.strerror}.") from error
    except json.JSONDecodeError as error:
        raise AgentLoadError(
            f"{file} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except UnicodeDecodeError as error:
        raise AgentLoadError(f"{file} is not UTF-8 text.") from error
    if not isinstance(config, Mapping):
        raise AgentLoadError(f'{file} must hold a JSON object with "graphs".')
    return config


def _project_env(file: Path, env: Any) -> dict[str, str]:
    """The variables in `env`, which is a mapping or the path of a .env file."""
    variables: dict[str, str] = {}
    if isinstance(env, Mapping):
        for name, value in env.items():
            variables[name] = value if isinstance(value, str) else json.dumps(value)
        return variables
    if not isinstance(env, str):
        raise AgentLoadError(
            f'"env" in {file} must be an object of variables, or the path of a .env file.'
        )
    path = file.parent / env
    if not path.is_file():
        raise AgentLoadError(f'"env" in {file} names {path}, and there is no such file.')
    for name, text in dotenv_values(path).items():
        if text is not None:
            variables[name] = text
    return variables


def _dependency_folders(file: Path, dependencies: Any) -> Iterator[Path]:
    """The folders with the project's own code. Packages from an index must be installed already."""
    is_list = isinstance(dependencies, list)
    if not is_list or not all(isinstance(entry, str) for entry in dependencies):
        raise AgentLoadError(f'"dependencies" in {file} must be a list of strings.')
    for entry in dependencies:
        folder = (file.parent / entry).resolve()
        if folder.is_dir():
            yield folder
            if (folder / "src").is_dir():
                yield folder / "src"
        elif entry.startswith("."):
            raise AgentLoadError(
                f'"dependencies" in {file} names {folder}, and there is no such folder.'
            )


def _project_source(file: Path, name: str, value: Any) -> Source:
    path = value.get("path") if isinstance(value, Mapping) else value
    if not isinstance(path, str):
        raise AgentLoadError(
            f"The graph '{name}' in {file} must be \"./path/file.py:variable\" or "
            '{"path": "./path/file.py:variable"}.'
        )
    try:
        return _source(path, base=file.parent)
    except AgentLoadError as error:
        raise AgentLoadError(f"The graph '{name}' in {file} cannot be loaded. {error}") from error


# ── from a target to a module ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The place of a graph: a variable in a file, or in a module that is found on `sys.path`.
    `root` is the folder that its imports start from."""

    variable: str
    root: Path
    file: Path | None = None
    module: str = ""

    def __str__(self) -> str:
        return str(self.file or self.module)


def _source(target: str, *, base: Path) -> Source:
    place, separator, variable = target.rpartition(":")
    if not separator or not variable.isidentifier():
        raise AgentLoadError(_no_variable(target, base / target))
    is_file = place.endswith(".py") or "/" in place or os.sep in place
    if not is_file:
        return Source(module=place, variable=variable, root=base.resolve())
    file = (base / place).resolve()
    if not file.is_file():
        raise AgentLoadError(f"There is no file {file}.")
    if file.suffix != ".py":
        raise AgentLoadError(
            f"{file} is not a Python file, and Assent runs graphs that are written in Python."
        )
    return Source(file=file, variable=variable, root=_package_root(file))


def _no_variable(target: str, path: Path) -> str:
    project = path / "langgraph.json"
    if project.is_file():
        return f"'{target}' is a folder. Name its {project}."
    if path.suffix != ".py":
        return (
            f"'{target}' does not name an agent. Write path/to/module.py:variable, "
            "package.module:variable, or a path to a langgraph.json."
        )
    if not path.is_file():
        return f"There is no file {path.resolve()}."
    return (
        f"'{target}' does not say which variable holds the graph. Write for example {target}:agent."
    )


def _package_root(file: Path) -> Path:
    """The folder from which the file is imported: its own, or the one that holds its outermost
    package."""
    folder = file.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


def _load_module(source: Source) -> ModuleType:
    if source.file is None:
        return importlib.import_module(source.module)
    parts = source.file.relative_to(source.root).with_suffix("").parts
    in_package = len(parts) > 1 and all(part.isidentifier() for part in parts)
    if in_package and _is_found(parts[0], source.root):
        return importlib.import_module(".".join(parts).removesuffix(".__init__"))
    return _load_file(source.file)


def _is_found(package: str, root: Path) -> bool:
    """True if importing the package leads to this folder, and not to another package of the same
    name that comes first."""
    spec = importlib.util.find_spec(package)
    return spec is not None and str(root / package) in (spec.submodule_search_locations or ())


def _load_file(file: Path) -> ModuleType:
    """Load the file into a package of its own, with a name that nothing else has, so that relative
    imports work in it."""
    package = ModuleType(f"assent_agent_{uuid7().replace('-', '')}")
    package.__path__ = [str(file.parent)]
    spec = importlib.util.spec_from_file_location(f"{package.__name__}.{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package.__name__] = package
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Put `folder` first on `sys.path`, as Python does for a script. It stays until the end, since
    nodes may import while they run."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set those of the variables that are not set yet."""
    new = variables.keys() - os.environ.keys()
    for name in new:
        os.environ[name] = variables[name]
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


# ── from a module to a graph ──────────────────────────────────────────────────────────────────────


async def _agent(source: Source, stack: AsyncExitStack) -> Agent:
    if str(source.root) not in sys.path:
        stack.enter_context(_on_path(source.root))
    try:
        # In a thread, because a module may call asyncio.run as it is imported.
        module = await asyncio.to_thread(_load_module, source)
    except (Exception, SystemExit) as error:
        raise AgentLoadError(
            f"{source} cannot be imported: {_cause(error)}.{_advice(error, source)}"
        ) from error
    if not hasattr(module, source.variable):
        raise AgentLoadError(f"{source} has no variable '{source.variable}'. {_graphs_in(module)}")
    name = f"'{source.variable}' in {source}"
    try:
        graph, verb = await _graph_of(getattr(module, source.variable), name, stack)
        if isinstance(graph, StateGraph):
            graph = graph.compile()
    except AgentLoadError:
        raise
    except (Exception, SystemExit) as error:
        raise AgentLoadError(
            f"{name} failed to make a graph: {_cause(error)}.{_advice(error, source)}"
        ) from error
    if not isinstance(graph, CompiledStateGraph):
        raise AgentLoadError(
            f"{name} {verb} a graph but {_description(graph)}. {_graphs_in(module)}"
        )
    return graph


async def _graph_of(value: Any, name: str, stack: AsyncExitStack) -> tuple[Any, str]:
    """The graph that `value` is, returns or yields; and that verb, negated, for an error message if
    it is none."""
    verb = "is not"
    is_graph = isinstance(value, StateGraph | Pregel)
    if not is_graph and (inspect.isroutine(value) or isinstance(value, functools.partial)):
        verb = "does not return"
        value = _called(value, name)
        if inspect.isawaitable(value):
            value = await value
    if isinstance(value, AbstractAsyncContextManager):
        return await stack.enter_async_context(value), "does not yield"
    if isinstance(value, AbstractContextManager):
        return stack.enter_context(value), "does not yield"
    return value, verb


def _called(make: Callable[..., Any], name: str) -> Any:
    """Call a function that makes a graph, with an empty config if it needs an argument."""
    required: list[inspect.Parameter] = []
    for parameter in inspect.signature(make).parameters.values():
        is_variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not is_variadic:
            required.append(parameter)
    if not required:
        return make()
    if len(required) > 1:
        names = ", ".join(parameter.name for parameter in required)
        raise AgentLoadError(
            f"{name} takes {len(required)} arguments ({names}), and a function that makes a graph "
            "is called with none, or with one config."
        )
    config = RunnableConfig(configurable={})
    if required[0].kind is inspect.Parameter.KEYWORD_ONLY:
        return make(**{required[0].name: config})
    return make(config)


# ── error messages ────────────────────────────────────────────────────────────────────────────────


def _description(value: Any) -> str:
    if isinstance(value, Pregel):
        return (
            "a workflow of LangGraph's functional API, which has no nodes to pause at; "
            "Assent runs state graphs"
        )
    return f"the class {value.__name__}" if inspect.isclass(value) else f"a {type(value).__name__}"


def _graphs_in(module: ModuleType) -> str:
    names: list[str] = []
    for name, value in vars(module).items():
        if isinstance(value, StateGraph | CompiledStateGraph):
            names.append(name)
    return f"The graphs found there: {', '.join(names)}." if names else "No graph was found there."


def _cause(error: BaseException) -> str:
    """The error in one line, with the place in the user's code where it happened."""
    cause = type(error).__name__
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(text.split())
    if len(text) > MAX_CAUSE:
        text = f"{text[: MAX_CAUSE - 1]}…"
    if text:
        cause = f"{cause}: {text.rstrip('.')}"
    place = _place(error)
    return f"{cause} ({place})" if place else cause


def _place(error: BaseException) -> str:
    """The last line of the user's code that the error came through, or else of a package's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    paths = sysconfig.get_paths()
    in_package, in_agent = "", ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(("<frozen", __file__)):
            continue
        if frame.filename.startswith((paths["purelib"], paths["platlib"])):
            in_package = f"{frame.filename}:{frame.lineno}"
        elif not frame.filename.startswith((paths["stdlib"], paths["platstdlib"])):
            in_agent = f"{frame.filename}:{frame.lineno}"
    return in_agent or in_package


def _advice(error: BaseException, source: Source) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    if source.module == error.name or source.module.startswith(f"{error.name}."):
        return f" It is looked for in {source.root} and among the installed packages."
    package = error.name.partition(".")[0]
    return (
        f" If '{package}' is a package that the agent needs, install it where Assent is installed "
        f"(often: pip install {package}); if it is the project's own, it is looked for in "
        f"{source.root}."
    )
