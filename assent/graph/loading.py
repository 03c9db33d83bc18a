"""Agents that users bring: from a file, a module, or an existing LangGraph project's
langgraph.json.

Where this differs from LangGraph's own server, on purpose:

1. A function that makes a graph is called once, at the start, with an empty config; not again for
   each run.
2. A file that belongs to no package may still say `from .tools import …`.
3. The langgraph.json of a project is read for `graphs`, `dependencies` and `env`. What else it sets
   is named in a warning.
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
from assent.graph.interrupts.resume import Agent

FORMS = "path/to/module.py:variable, package.module:variable, or a path to a langgraph.json"

IMAGE_KEYS = {
    *("$schema", "python_version", "node_version", "pip_config_file", "pip_installer"),
    *("base_image", "image_distro", "dockerfile_lines", "keep_pkg_tools", "api_version"),
}
"""What a langgraph.json says about building an image, which is nothing to us."""


@asynccontextmanager
async def open_agents(target: str) -> AsyncIterator[dict[str, Agent]]:
    """The agents that `target` names, by id, for as long as the context is entered.

    `target` is "path/to/module.py:variable", "package.module:variable", or the path of a
    langgraph.json. A variable may hold a compiled graph, a `StateGraph` that is not compiled yet, a
    function (sync or async, of no argument or of a config) that returns one, or a context manager
    (sync or async, or a function that returns one) that yields one and is closed at the end. The id
    is the graph's own name, or else the variable's; in a langgraph.json it is the key. A graph is
    not changed: it keeps the checkpointer it came with.

    While the context is entered, `sys.path` and `os.environ` hold what the target needs. Raises
    `AgentLoadError`, which names the file and the cause.
    """
    async with AsyncExitStack() as stack:
        if target.endswith(".json"):
            yield await _project_agents(Path(target), stack)
        else:
            source = _source(target, base=Path())
            agent = await _agent(source, stack)
            yield {source.variable if agent.name in (None, "LangGraph") else agent.name: agent}


# ── langgraph.json ────────────────────────────────────────────────────────────────────────────────


async def _project_agents(file: Path, stack: AsyncExitStack) -> dict[str, Agent]:
    config = _read_json(file)
    graphs = config.get("graphs")
    if not isinstance(graphs, Mapping) or not graphs:
        raise AgentLoadError(
            f'{file} names no graphs. Add for example: "graphs": {{"agent": "./agent.py:graph"}}.'
        )
    if unread := sorted(set(config) - {"graphs", "dependencies", "env"} - IMAGE_KEYS):
        structlog.get_logger(__name__).warning(
            "langgraph.json sets what Assent does not read", file=str(file), keys=unread
        )
    stack.enter_context(_environment(_project_env(file, config.get("env") or {})))
    for folder in reversed(
        [file.parent.resolve(), *_dependency_folders(file, config.get("dependencies") or [])]
    ):
        stack.enter_context(_on_path(folder))
    return {
        name: await _agent(_project_source(file, name, value), stack)
        for name, value in graphs.items()
    }


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
    """The variables of `env`: a mapping, or the path of a .env file."""
    if isinstance(env, Mapping):
        return {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in env.items()
        }
    if not isinstance(env, str):
        raise AgentLoadError(
            f'"env" in {file} must be an object of variables, or the path of a .env file.'
        )
    path = file.parent / env
    if not path.is_file():
        raise AgentLoadError(f'"env" in {file} names {path}, and there is no such file.')
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def _dependency_folders(file: Path, dependencies: Any) -> Iterator[Path]:
    """The folders of the project's own code. Packages from an index are not installed here: they
    must be in the environment."""
    if not isinstance(dependencies, list) or not all(
        isinstance(entry, str) for entry in dependencies
    ):
        raise AgentLoadError(f'"dependencies" in {file} must be a list of strings.')
    for entry in dependencies:
        folder = (file.parent / entry).resolve()
        if not folder.is_dir():
            if entry.startswith("."):
                raise AgentLoadError(
                    f'"dependencies" in {file} names {folder}, and there is no such folder.'
                )
            continue
        yield folder
        if (folder / "src").is_dir():
            yield folder / "src"


def _project_source(file: Path, name: str, value: Any) -> Source:
    path = value.get("path") if isinstance(value, Mapping) else value
    if not isinstance(path, str):
        raise AgentLoadError(
            f'The graph \'{name}\' in {file} must be "./path/file.py:variable" or {{"path": "./path/file.py:variable"}}.'
        )
    try:
        return _source(path, base=file.parent)
    except AgentLoadError as error:
        raise AgentLoadError(f"The graph '{name}' in {file} cannot be loaded. {error}") from error


# ── from a target to a module ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a graph is: a variable in a file, or in a module that is found on `sys.path`. `root` is
    the folder its imports start from."""

    variable: str
    root: Path
    file: Path | None = None
    module: str = ""

    def __str__(self) -> str:
        return str(self.file or self.module)


def _source(target: str, *, base: Path) -> Source:
    place, separator, variable = target.rpartition(":")
    if not separator or not variable.isidentifier():
        raise AgentLoadError(_no_variable(target, base))
    if not (place.endswith(".py") or "/" in place or os.sep in place):
        return Source(module=place, variable=variable, root=base.resolve())
    file = (base / place).resolve()
    if not file.is_file():
        raise AgentLoadError(f"There is no file {file}.")
    if file.suffix != ".py":
        raise AgentLoadError(
            f"{file} is not a Python file, and Assent runs graphs that are written in Python."
        )
    return Source(file=file, variable=variable, root=_package_root(file))


def _no_variable(target: str, base: Path) -> str:
    path = base / target
    if (path / "langgraph.json").is_file():
        return f"'{target}' is a folder. Name its {path / 'langgraph.json'}."
    if path.suffix == ".py":
        return (
            f"'{target}' does not say which variable holds the graph. Write for example {target}:agent."
            if path.is_file()
            else (f"There is no file {path.resolve()}.")
        )
    return f"'{target}' does not name an agent. Write {FORMS}."


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
    if (
        len(parts) > 1
        and all(part.isidentifier() for part in parts)
        and _is_found(parts[0], source.root)
    ):
        return importlib.import_module(".".join(parts).removesuffix(".__init__"))
    return _load_file(source.file)


def _is_found(package: str, root: Path) -> bool:
    """Whether an import of the package leads to this folder, and not to another of the same name
    that was there first."""
    spec = importlib.util.find_spec(package)
    return spec is not None and str(root / package) in (spec.submodule_search_locations or ())


def _load_file(file: Path) -> ModuleType:
    """The file as a module of a package of its own, which nothing else can be named like, and in
    which relative imports work."""
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
    """`folder` first on `sys.path`, as Python does for a script. Nodes may import as they run, so
    it stays until the end."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The variables that are not set yet are set."""
    new = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(new)
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
        # A module may call asyncio.run as it is imported, which it could not on the event loop's
        # own thread.
        module = await asyncio.to_thread(_load_module, source)
    except (Exception, SystemExit) as error:
        raise AgentLoadError(
            f"{source} cannot be imported: {_cause(error)}.{_advice(error, source)}"
        ) from error
    try:
        value = getattr(module, source.variable)
    except AttributeError:
        raise AgentLoadError(
            f"{source} has no variable '{source.variable}'. {_graphs_in(module)}"
        ) from None
    name = f"'{source.variable}' in {source}"
    try:
        made, how = await _made(value, name, stack)
        if isinstance(made, StateGraph):
            made = made.compile()
    except AgentLoadError:
        raise
    except (Exception, SystemExit) as error:
        raise AgentLoadError(
            f"{name} failed to make a graph: {_cause(error)}.{_advice(error, source)}"
        ) from error
    if not isinstance(made, CompiledStateGraph):
        raise AgentLoadError(f"{how} {_what_it_is(made)}. {_graphs_in(module)}")
    return made


async def _made(value: Any, name: str, stack: AsyncExitStack) -> tuple[Any, str]:
    """What `value` holds or makes, and how to speak of it."""
    how = f"{name} is not a graph but"
    if not isinstance(value, StateGraph | Pregel) and (
        inspect.isroutine(value) or isinstance(value, functools.partial)
    ):
        value, how = _called(value, name), f"{name} does not return a graph but"
        if inspect.isawaitable(value):
            value = await value
    if isinstance(value, AbstractAsyncContextManager):
        return await stack.enter_async_context(value), f"{name} does not yield a graph but"
    if isinstance(value, AbstractContextManager):
        return stack.enter_context(value), f"{name} does not yield a graph but"
    return value, how


def _called(make: Callable[..., Any], name: str) -> Any:
    parameters = inspect.signature(make).parameters.values()
    required = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    config = RunnableConfig(configurable={})
    if not required:
        return make()
    if len(required) > 1:
        raise AgentLoadError(
            f"{name} takes {len(required)} arguments ({', '.join(p.name for p in required)}), and a function that makes a graph is called "
            "with none, or with one config."
        )
    (parameter,) = required
    return (
        make(**{parameter.name: config})
        if parameter.kind is parameter.KEYWORD_ONLY
        else make(config)
    )


# ── sentences ─────────────────────────────────────────────────────────────────────────────────────


def _what_it_is(value: Any) -> str:
    if isinstance(value, Pregel):
        return "a workflow of LangGraph's functional API, which has no nodes to pause at; Assent runs state graphs"
    return f"the class {value.__name__}" if inspect.isclass(value) else f"a {type(value).__name__}"


def _graphs_in(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, StateGraph | CompiledStateGraph)
    ]
    return f"The graphs found there: {', '.join(names)}." if names else "No graph was found there."


def _cause(error: BaseException) -> str:
    """The error in one line, with the place in the user's code where it happened."""
    place = f" ({place})" if (place := _place(error)) else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(text.split())
    if len(text) > 500:
        text = f"{text[:499]}…"
    return f"{type(error).__name__}{f': {text}' if text else ''}".rstrip(".") + place


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    paths = sysconfig.get_paths()
    installed = (paths["purelib"], paths["platlib"])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", __file__))
    ]
    packages = [frame for frame in frames if frame.filename.startswith(installed)]
    theirs = [
        frame
        for frame in frames
        if not frame.filename.startswith((*installed, paths["stdlib"], paths["platstdlib"]))
    ]
    return next((f"{frame.filename}:{frame.lineno}" for frame in reversed(theirs or packages)), "")


def _advice(error: BaseException, source: Source) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    if source.module == error.name or source.module.startswith(f"{error.name}."):
        return f" It is looked for in {source.root} and among the installed packages."
    package = error.name.partition(".")[0]
    return (
        f" If '{package}' is a package that the agent needs, install it where Assent is installed (often: pip install {package}); "
        f"if it is the project's own, it is looked for in {source.root}."
    )
