"""Agents that users bring: from a file, a module, or an existing LangGraph project's
langgraph.json.

On purpose, this differs from LangGraph's own server in three ways:

1. A function that makes a graph is called once, at the start, with an empty config; not again for
   each run.
2. A file that belongs to no package may still write `from .tools import …`. It has the same module
   name at every start, since states are stored with the names of their types.
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
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
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
    folders = [file.parent.resolve(), *dependencies]
    for folder in reversed(folders):
        stack.enter_context(_on_path(folder))
    agents: dict[str, Agent] = {}
    for name, value in graphs.items():
        agents[name] = await _agent(_project_source(file, name, value, folders), stack)
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


def _project_source(file: Path, name: str, value: Any, folders: Sequence[Path]) -> Source:
    path = value.get("path") if isinstance(value, Mapping) else value
    if not isinstance(path, str):
        raise AgentLoadError(
            f"The graph '{name}' in {file} must be \"./path/file.py:variable\" or "
            '{"path": "./path/file.py:variable"}.'
        )
    try:
        return _source(path, base=file.parent, folders=folders)
    except AgentLoadError as error:
        raise AgentLoadError(f"The graph '{name}' in {file} cannot be loaded. {error}") from error


# ── from a target to a module ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The place of a graph: a variable in a module, which is in `file` or found on `sys.path`.
    `root` is the folder that its imports start from."""

    variable: str
    module: str
    root: Path
    file: Path | None = None

    def __str__(self) -> str:
        return str(self.file or self.module)


def _source(target: str, *, base: Path, folders: Sequence[Path] = ()) -> Source:
    """The place that a target names. `folders` are those of a project, which its modules are
    imported from."""
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
    root = _package_root(file)
    named_from = root if root != file.parent else _nearest(file, folders)
    return Source(file=file, module=_module_name(file, named_from), variable=variable, root=root)


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


def _nearest(file: Path, folders: Sequence[Path]) -> Path:
    """The innermost of the folders that holds the file; the file's own if none does.

    So two files of one project that are called the same have different names, whichever of them is
    loaded first, or was there first.
    """
    holding = [folder for folder in folders if file.is_relative_to(folder)]
    return max(holding, key=lambda folder: len(folder.parts), default=file.parent)


def _module_name(file: Path, folder: Path) -> str:
    """The name under which the file would be imported from the folder."""
    name = ".".join(file.relative_to(folder).with_suffix("").parts)
    return name.removesuffix(".__init__")


def _load_module(source: Source, stack: AsyncExitStack) -> ModuleType:
    if source.file is None or _is_in_its_package(source):
        return importlib.import_module(source.module)
    return _load_file(source.file, source.module, stack)


def _is_in_its_package(source: Source) -> bool:
    """True if the file belongs to a package, and importing that leads to the file's folder, and not
    to another package of the same name that comes first."""
    assert source.file is not None
    parts = source.module.split(".")
    if source.file.parent == source.root or not all(part.isidentifier() for part in parts):
        return False
    spec = importlib.util.find_spec(parts[0])
    folder = str(source.root / parts[0])
    return spec is not None and folder in (spec.submodule_search_locations or ())


def _load_file(file: Path, name: str, stack: AsyncExitStack) -> ModuleType:
    """Load the file as a package of its own, so that relative imports work in it.

    It has this name, or, if another module has it, that name below `assent_agent`. A state that is
    stored names its types by their module, so the name must not depend on what was loaded before.
    """
    loaded = sys.modules.get(name)
    if loaded is not None and _is_of(loaded, file):
        return loaded
    if loaded is not None or name in sys.stdlib_module_names:
        return _load_file(file, f"assent_agent.{name}", stack)
    folder = str(file.parent)
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[folder])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    stack.callback(_forget, name)
    sys.modules[name] = module
    # A sibling that imports this file relatively gets the same module, and so the same types.
    sys.modules[f"{name}.{file.stem}"] = module
    spec.loader.exec_module(module)
    return module


def _is_of(module: ModuleType, file: Path) -> bool:
    """True if the module was loaded from the file."""
    loaded_from = getattr(module, "__file__", None)
    return loaded_from is not None and Path(loaded_from).resolve() == file


def _forget(name: str) -> None:
    """Remove the module, and those that were loaded below it."""
    for each in list(sys.modules):
        if each == name or each.startswith(f"{name}."):
            del sys.modules[each]


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
        module = await asyncio.to_thread(_load_module, source, stack)
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
    is_target = source.module == error.name or source.module.startswith(f"{error.name}.")
    if source.file is None and is_target:
        return f" It is looked for in {source.root} and among the installed packages."
    package = error.name.partition(".")[0]
    return (
        f" If '{package}' is a package that the agent needs, install it where Assent is installed "
        f"(often: pip install {package}); if it is the project's own, it is looked for in "
        f"{source.root}."
    )
