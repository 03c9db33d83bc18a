"""Agents that users bring: from a file, a module, or an existing LangGraph project's
langgraph.json.

On purpose, this differs from LangGraph's own server in two ways:

1. A function that makes a graph is called once, at the start, not again for each run: with an empty
   config, or with a `ServerRuntime` that has no user, for no run.
2. A file that belongs to no package may still write `from .tools import …`. It has the same module
   name at every start, since states are stored with the names of their types.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
import json
import os
import re
import shlex
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
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog
from dotenv import dotenv_values
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore

from assent.core.errors import AgentLoadError
from assent.core.text import clipped
from assent.graph.kinds import Agent, is_workflow
from assent.graph.langgraph_json import ProjectFile, read_project
from assent.graph.late_store import LateStore
from assent.graph.retrying import unwrapped

MAX_CAUSE = 500
"""Characters of an exception's text in an error message."""


class Project(dict[str, Agent]):
    """The agents of a target, by id, and what its langgraph.json says besides: the `file`, and the
    code that it names: `auth`, `app` of `http.app`, and `embed` of `store.index`, which is a
    function, or "provider:model" as it stands there.

    Functions that make graphs are given the `store`. Whoever runs the agents opens it.
    """

    def __init__(self, agents: Mapping[str, Agent], store: LateStore) -> None:
        super().__init__(agents)
        self.store = store
        self.file: ProjectFile | None = None
        self.app: Any = None
        self.auth: Any = None
        self.embed: Any = None


@asynccontextmanager
async def open_agents(target: str) -> AsyncIterator[Project]:
    """The agents that `target` names, by id, for as long as the context is entered.

    `target` is "path/to/module.py:variable", "package.module:variable", or the path of a
    langgraph.json. A variable may hold a compiled graph, a workflow of LangGraph's functional API,
    a `StateGraph` that is not compiled yet, or what `with_retry()` makes of one; a function (sync
    or async; of no argument, of a config, or of a `ServerRuntime`) that returns one; or a context
    manager (sync or async; or a class or function that makes one) that yields one and is closed at
    the end. The id is the graph's own name, or else the variable's; in a langgraph.json it is the
    key. The graph keeps the checkpointer that it came with.

    While the context is entered, `sys.path` and `os.environ` hold what the target needs. Raises
    `AgentLoadError`, which names the file and the cause.
    """
    async with AsyncExitStack() as stack:
        if target.endswith(".json"):
            yield await _open_project(Path(target), stack)
            return
        source = _source(target, base=Path())
        store = LateStore()
        agent = await _agent(source, stack, store)
        is_named = agent.name not in (None, "LangGraph")
        yield Project({agent.name if is_named else source.variable: agent}, store)


def has_auth(target: str | None) -> bool:
    """True if the target is a langgraph.json with an `auth`: then nothing is served without it.
    Raises `AgentLoadError` for one that cannot be read."""
    is_project = target is not None and target.endswith(".json")
    return is_project and read_project(Path(str(target))).auth is not None


@asynccontextmanager
async def open_embeddings(named: str) -> AsyncIterator[Any]:
    """The embeddings of a store, as a setting names them, for as long as the context is entered:
    "provider:model" as it stands there, as LangChain's `init_embeddings` takes it, or the function
    that "path/to/file.py:function" names. Raises `AgentLoadError`."""
    async with AsyncExitStack() as stack:
        is_function = ".py:" in named
        yield await _variable_of(_source(named, base=Path()), stack) if is_function else named


# ── langgraph.json ────────────────────────────────────────────────────────────────────────────────


async def _open_project(path: Path, stack: AsyncExitStack) -> Project:
    file = read_project(path)
    _say_what_is_not_used(path, file)
    stack.enter_context(_environment(_variables(path, file.env)))
    folders = [path.parent.resolve(), *_dependency_folders(path, file.dependencies)]
    for folder in reversed(folders):
        stack.enter_context(_on_path(folder))
    project = Project({}, LateStore())
    for name, graph in file.graphs.items():
        source = _project_source(path, f"The graph '{name}'", graph.path, folders)
        project[name] = await _agent(source, stack, project.store)
    project.file = file
    if file.http is not None and file.http.app is not None:
        source = _project_source(path, '"http.app"', file.http.app, folders)
        project.app = await _variable_of(source, stack)
    if file.auth is not None:
        source = _project_source(path, '"auth.path"', file.auth.path, folders)
        project.auth = await _variable_of(source, stack, called=False)
    if file.store is not None and file.store.index is not None:
        project.embed = embed = file.store.index.embed
        if ".py:" in embed:
            source = _project_source(path, '"store.index.embed"', embed, folders)
            project.embed = await _variable_of(source, stack)
    return project


def _say_what_is_not_used(path: Path, file: ProjectFile) -> None:
    log = structlog.get_logger(__name__)
    if file.without_effect:
        log.debug(
            "langgraph.json has settings that have no effect here",
            file=str(path),
            keys=list(file.without_effect),
        )
    ours = sys.version_info[:2]
    wanted = tuple(map(int, re.findall(r"\d+", file.python_version or "")[:2]))
    if wanted > ours:
        log.warning(
            "the project asks for a newer version",
            file=str(path),
            python_version=file.python_version,
            running=".".join(map(str, ours)),
        )


def _variables(path: Path, env: Mapping[str, Any] | str) -> dict[str, str]:
    """The variables in `env`, which is a mapping or the path of a .env file. A file that is not
    there has none: projects keep theirs out of version control."""
    variables: dict[str, str] = {}
    if isinstance(env, Mapping):
        for name, value in env.items():
            variables[name] = value if isinstance(value, str) else json.dumps(value)
        return variables
    if not env:
        return variables
    env_file = path.parent / env
    if not env_file.is_file():
        structlog.get_logger(__name__).warning(
            "the file of variables is not there", file=str(path), env=str(env_file)
        )
        return variables
    for name, text in dotenv_values(env_file).items():
        if text is not None:
            variables[name] = text
    return variables


def _dependency_folders(path: Path, dependencies: Sequence[str]) -> Iterator[Path]:
    """The folders with the project's own code. Packages from an index must be installed already."""
    for entry in dependencies:
        folder = (path.parent / entry).resolve()
        if folder.is_dir():
            yield folder
            if (folder / "src").is_dir():
                yield folder / "src"
        elif entry.startswith("."):
            raise AgentLoadError(
                f'"dependencies" in {path} names {folder}, and there is no such folder.'
            )
        elif _is_missing(entry):
            structlog.get_logger(__name__).warning(
                "a package of the project is not installed",
                file=str(path),
                package=entry,
                install=f"pip install {shlex.quote(entry)}",
            )


PACKAGE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^]]*\]\s*)?([<>=!~;].*)?")
"""A package by its name, and maybe with extras and versions; not by a URL."""


def _is_missing(requirement: str) -> bool:
    package = PACKAGE.fullmatch(requirement)
    if package is None:
        return False
    try:
        distribution(package[1])
    except PackageNotFoundError:
        return True
    return False


def _project_source(path: Path, what: str, target: str, folders: Sequence[Path]) -> Source:
    try:
        return _source(target, base=path.parent, folders=folders)
    except AgentLoadError as error:
        raise AgentLoadError(f"{what} in {path} cannot be loaded. {error}") from error


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


async def _module(source: Source, stack: AsyncExitStack) -> ModuleType:
    if str(source.root) not in sys.path:
        stack.enter_context(_on_path(source.root))
    try:
        # In a thread, because a module may call asyncio.run as it is imported.
        return await asyncio.to_thread(_load_module, source, stack)
    except (Exception, SystemExit) as error:
        raise AgentLoadError(
            f"{source} cannot be imported: {_cause(error)}.{_advice(error, source)}"
        ) from error


async def _variable_of(source: Source, stack: AsyncExitStack, *, called: bool = True) -> Any:
    """What a variable holds that is no graph; something to be `called`, or an object."""
    module = await _module(source, stack)
    value = getattr(module, source.variable, None)
    if value is None or (called and not callable(value)):
        raise AgentLoadError(
            f"{source} has no '{source.variable}' that can be called, as an app or a function can."
        )
    return value


async def _agent(source: Source, stack: AsyncExitStack, store: BaseStore) -> Agent:
    module = await _module(source, stack)
    if not hasattr(module, source.variable):
        raise AgentLoadError(f"{source} has no variable '{source.variable}'. {_graphs_in(module)}")
    name = f"'{source.variable}' in {source}"
    try:
        graph, verb = await _graph_of(getattr(module, source.variable), name, stack, store)
        graph = unwrapped(graph.compile() if isinstance(graph, StateGraph) else graph)
    except AgentLoadError:
        raise
    except (Exception, SystemExit) as error:
        raise AgentLoadError(
            f"{name} failed to make a graph: {_cause(error)}.{_advice(error, source)}"
        ) from error
    if not isinstance(graph, CompiledStateGraph) and not _is_a_workflow(graph):
        raise AgentLoadError(
            f"{name} {verb} a graph but {_description(graph)}. {_graphs_in(module)}"
        )
    agent: Agent = graph
    return agent


def _is_a_workflow(graph: Any) -> bool:
    return isinstance(graph, Pregel) and is_workflow(graph)


async def _graph_of(
    value: Any, name: str, stack: AsyncExitStack, store: BaseStore
) -> tuple[Any, str]:
    """The graph that `value` is, returns or yields; and that verb, negated, for an error message if
    it is none."""
    verb = "is not"
    is_graph = isinstance(value, StateGraph | Pregel | RunnableBindingBase)
    if not is_graph and _makes_a_graph(value):
        verb = "does not return"
        value = _called(value, name, store)
        if inspect.isawaitable(value):
            value = await value
    if isinstance(value, AbstractAsyncContextManager):
        return await stack.enter_async_context(value), "does not yield"
    if isinstance(value, AbstractContextManager):
        return stack.enter_context(value), "does not yield"
    return value, verb


def _makes_a_graph(value: Any) -> bool:
    if inspect.isclass(value):
        return issubclass(value, AbstractAsyncContextManager | AbstractContextManager)
    return inspect.isroutine(value) or isinstance(value, functools.partial)


def _called(make: Callable[..., Any], name: str, store: BaseStore) -> Any:
    """Call a function that makes a graph, with an empty config or a runtime if it needs an
    argument."""
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
            "is called with none, with one config, or with one runtime."
        )
    argument: Any = RunnableConfig(configurable={})
    if _takes_a_runtime(required[0]):
        argument = _server_runtime(store)
    if required[0].kind is inspect.Parameter.KEYWORD_ONLY:
        return make(**{required[0].name: argument})
    return make(argument)


def _takes_a_runtime(parameter: inspect.Parameter) -> bool:
    """True for a parameter that is annotated with LangGraph's `ServerRuntime`, also as text, or
    that has no annotation and is called `runtime`."""
    if parameter.annotation is parameter.empty:
        return parameter.name == "runtime"
    return "ServerRuntime" in str(parameter.annotation)


def _server_runtime(store: BaseStore) -> Any:
    """LangGraph's runtime for a function that makes a graph: of no run, and so of nobody."""
    from langgraph_sdk.runtime import _ReadRuntime

    return _ReadRuntime(access_context="assistants.read", user=None, store=store)


# ── error messages ────────────────────────────────────────────────────────────────────────────────


def _description(value: Any) -> str:
    if isinstance(value, RunnableBindingBase):
        return (
            f"a {type(value).__name__}, as .bind() and .with_listeners() make of one; name the "
            "graph itself, or what its .with_config() or .with_retry() returns"
        )
    return f"the class {value.__name__}" if inspect.isclass(value) else f"a {type(value).__name__}"


def _graphs_in(module: ModuleType) -> str:
    names: list[str] = []
    for name, value in vars(module).items():
        if isinstance(value, StateGraph | CompiledStateGraph) or _is_a_workflow(value):
            names.append(name)
    return f"The graphs found there: {', '.join(names)}." if names else "No graph was found there."


def _cause(error: BaseException) -> str:
    """The error in one line, with the place in the user's code where it happened."""
    cause = type(error).__name__
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    if text := clipped(" ".join(text.split()), MAX_CAUSE):
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
