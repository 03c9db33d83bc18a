"""A project's langgraph.json as values: every setting that LangGraph's CLI reads is honoured, has
no effect here, or is refused by its name.

| setting | here |
|---|---|
| `graphs`, `dependencies`, `env` | honoured |
| `python_version` | a warning if it is newer than the one that runs |
| `store.index`, `store.ttl` | read |
| `checkpointer.ttl`, `checkpointer.serde` | settings of the server, unless it has its own |
| `http.app`, `http.cors`, `http.mount_prefix`, `http.enable_custom_route_auth` | read |
| how an image is built, the versions of other programs | no effect: no image is built |
| what would replace Assent's database, keys or notifications | refused, with what there is |
| anything else | refused: it is a slip of the pen |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from assent.core.errors import AgentLoadError

WITHOUT_EFFECT = frozenset(
    {
        "$schema",
        "_INTERNAL_docker_tag",
        "api_version",
        "base_image",
        "dockerfile_lines",
        "image_distro",
        "keep_pkg_tools",
        "node_version",
        "pip_config_file",
        "pip_installer",
        "source",
    }
)
"""Settings for building an image, and for LangGraph's own server. No image is built here."""

NESTED_WITHOUT_EFFECT = ("auth.cache", "auth.openapi")

NOT_HERE: Mapping[str, str] = {
    "encryption": "is not supported. Set ASSENT_ENCRYPTION_KEY, and everything is encrypted",
    "webhooks": "is not supported. Name the hosts that may be told of runs, with the secrets that "
    'sign, in the section "webhooks" of ASSENT_CONFIG',
    "ui": "is not supported: Assent serves no pages of a project's",
    "ui_config": "is not supported: Assent serves no pages of a project's",
    "checkpointer.path": "is not supported. Assent keeps checkpoints in its own database, with the "
    "approvals that they belong to",
    "checkpointer.serde.pickle_fallback": "cannot be true: Assent makes no objects of pickles, "
    "which run any code that somebody writes into the file",
    "http.disable_runs": "is not supported: runs are cancelled and followed there",
    "http.disable_threads": "is not supported: approvals are decided there",
    "http.disable_meta": "is not supported. Set ASSENT_DOCS=false",
    "http.configurable_headers": 'is not supported. Send "config": {"configurable": …} instead',
    "http.middleware_order": "is not supported: middleware of the project's app is not put around "
    "Assent's routes, where it would come before the keys",
    "http.cors.allow_credentials": "cannot be true: Assent takes keys in a header, and no cookies",
}
"""Settings that are refused when they are there and not false, and what is there instead."""

Minutes = Annotated[float, msgspec.Meta(gt=0)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object without other keys than its own."""


class GraphPlace(_Strict, frozen=True):
    """The place of a graph: `./path/file.py:variable`. `description` says what it is for."""

    path: str
    description: str | None = None


class StoreIndex(_Strict, frozen=True):
    """The way in which a store's items are found by meaning: `embed` is "provider:model" or
    "path/file.py:function", `dims` the size of its vectors, `fields` the parts of a value that are
    embedded."""

    embed: str
    dims: Annotated[int, msgspec.Meta(ge=1)]
    fields: tuple[str, ...] | None = None


class StoreTtl(_Strict, frozen=True):
    """The time in minutes that items of a store are kept."""

    refresh_on_read: bool = True
    default_ttl: Minutes | None = None
    sweep_interval_minutes: Minutes | None = None


class StoreOptions(_Strict, frozen=True):
    """The options of the store that graphs without one of their own get."""

    index: StoreIndex | None = None
    ttl: StoreTtl | None = None


class ThreadTtl(_Strict, frozen=True):
    """The time in minutes that a thread is kept after its last run; or, with `keep_latest`, its
    older checkpoints. The sweep has its own pace here."""

    strategy: Literal["delete", "keep_latest"] = "delete"
    default_ttl: Minutes | None = None
    sweep_interval_minutes: Minutes | None = None
    sweep_limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Serde(_Strict, frozen=True):
    """The types that are made again from stored states: each as the parts of its module's name and
    its own."""

    allowed_msgpack_modules: tuple[tuple[str, ...], ...] | bool | None = None
    allowed_json_modules: tuple[tuple[str, ...], ...] | bool | None = None
    pickle_fallback: bool = False


class Checkpointer(_Strict, frozen=True):
    """The options of the server's checkpointer."""

    path: str | None = None
    ttl: ThreadTtl | None = None
    serde: Serde | None = None


class Cors(_Strict, frozen=True):
    """The pages that may use the server from a browser: exact origins, and a pattern that a whole
    origin must match. Methods and headers are those of the server."""

    allow_origins: tuple[str, ...] = ()
    allow_origin_regex: str | None = None
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age: int | None = None


class HeaderChoice(_Strict, frozen=True):
    """Names of headers, with `*` for any characters."""

    includes: tuple[str, ...] | None = None
    excludes: tuple[str, ...] | None = None


class Http(_Strict, frozen=True):
    """The project's own routes, `app`, and what it asks of the server's. The routes that
    `disable_assistants` and so on name are not here anyway; no header is logged."""

    app: str | None = None
    cors: Cors | None = None
    mount_prefix: str | None = None
    enable_custom_route_auth: bool = False
    disable_a2a: bool = False
    disable_assistants: bool = False
    disable_mcp: bool = False
    disable_meta: bool = False
    disable_runs: bool = False
    disable_store: bool = False
    disable_threads: bool = False
    disable_ui: bool = False
    disable_webhooks: bool = False
    logging_headers: HeaderChoice | None = None
    configurable_headers: HeaderChoice | None = None
    middleware_order: str | None = None


class AuthPlace(_Strict, frozen=True):
    """The place of the project's `Auth`: `./path/file.py:variable`. Nobody comes from a studio
    here, what `openapi` says is not in the document, and nobody is remembered in a `cache`."""

    path: str
    disable_studio_auth: bool = False
    openapi: Mapping[str, Any] | None = None
    cache: Any = None


class ProjectFile(_Strict, frozen=True):
    """The contents of a langgraph.json."""

    graphs: Mapping[str, GraphPlace]
    dependencies: tuple[str, ...] = ()
    env: Mapping[str, Any] | str = ""
    python_version: str | None = None
    store: StoreOptions | None = None
    checkpointer: Checkpointer | None = None
    http: Http | None = None
    auth: AuthPlace | None = None
    without_effect: tuple[str, ...] = ()


READ = frozenset(ProjectFile.__struct_fields__) - {"without_effect"}
"""The settings whose values are read."""


def read_project(file: Path) -> ProjectFile:
    """The contents of the file.

    Raises `AgentLoadError`, which names the file and the setting.
    """
    contents = _read_json(file)
    _refuse_what_is_not_here(file, contents)
    fields: dict[str, Any] = {}
    for key, value in contents.items():
        if key in READ and value is not None and (key, value) != ("auth", {}):
            fields[key] = value
    _check_own_code(file, fields)
    fields["graphs"] = _graphs(file, fields.get("graphs"))
    nested = [path for path in NESTED_WITHOUT_EFFECT if _is_set(contents, path)]
    fields["without_effect"] = sorted([*(contents.keys() & WITHOUT_EFFECT), *nested])
    try:
        project = msgspec.convert(fields, ProjectFile)
    except msgspec.ValidationError as error:
        raise AgentLoadError(f"{file} is wrong: {error}. Correct it.") from None
    _check_values(file, project)
    return project


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
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
    if not isinstance(contents, Mapping):
        raise AgentLoadError(f'{file} must hold a JSON object with "graphs".')
    return contents


def _refuse_what_is_not_here(file: Path, contents: Mapping[str, Any]) -> None:
    known = READ | WITHOUT_EFFECT | NOT_HERE.keys()
    for key in contents:
        if key not in known:
            nearest = get_close_matches(key, known, n=1)
            hint = f" Did you mean '{nearest[0]}'?" if nearest else " Remove it."
            raise AgentLoadError(f"{file} has a key '{key}' that nobody knows.{hint}")
    for path, reason in NOT_HERE.items():
        if _is_set(contents, path):
            raise AgentLoadError(f'"{path}" in {file} {reason}.')


def _is_set(contents: Mapping[str, Any], path: str) -> bool:
    """True if the setting is there, and is neither null nor false nor empty."""
    value: Any = contents
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return bool(value)


def _graphs(file: Path, graphs: Any) -> dict[str, Any]:
    if not isinstance(graphs, Mapping) or not graphs:
        raise AgentLoadError(
            f'{file} names no graphs. Add for example: "graphs": {{"agent": "./agent.py:graph"}}.'
        )
    places: dict[str, Any] = {}
    for name, value in graphs.items():
        place = value if isinstance(value, Mapping) else {"path": value}
        if not isinstance(place.get("path"), str):
            raise AgentLoadError(
                f"The graph '{name}' in {file} must be \"./path/file.py:variable\" or "
                '{"path": "./path/file.py:variable"}.'
            )
        places[name] = place
    return places


def _check_own_code(file: Path, fields: Mapping[str, Any]) -> None:
    dependencies = fields.get("dependencies", [])
    is_list = isinstance(dependencies, list)
    if not is_list or not all(isinstance(entry, str) for entry in dependencies):
        raise AgentLoadError(f'"dependencies" in {file} must be a list of strings.')
    if not isinstance(fields.get("env", ""), Mapping | str):
        raise AgentLoadError(
            f'"env" in {file} must be an object of variables, or the path of a .env file.'
        )


def _check_values(file: Path, project: ProjectFile) -> None:
    serde = (project.checkpointer and project.checkpointer.serde) or Serde()
    for name in ("allowed_msgpack_modules", "allowed_json_modules"):
        types = getattr(serde, name)
        place = f'"checkpointer.serde.{name}" in {file}'
        if types is True:
            raise AgentLoadError(
                f"{place} cannot be true: Assent makes only objects of types that a state declares "
                "or a setting names. List them."
            )
        if isinstance(types, tuple) and any(len(each) < 2 for each in types):
            raise AgentLoadError(f'{place} must list types as ["package", "module", "Name"].')
    cors = (project.http and project.http.cors) or Cors()
    for origin in cors.allow_origins:
        if not re.fullmatch(r"https?://[^/?#\s*]+", origin):
            raise AgentLoadError(
                f"\"http.cors.allow_origins\" in {file} has '{origin}', which is no origin. "
                "Name each as scheme://host:port; '*' is not taken."
            )
    for name in ("allow_methods", "allow_headers"):
        named = getattr(cors, name)
        if named and "*" not in named:
            raise AgentLoadError(
                f'"http.cors.{name}" in {file} is not supported: pages get the methods and headers '
                "of Assent's own routes. Remove it."
            )
    _check_pattern(file, cors.allow_origin_regex)
    prefix = (project.http and project.http.mount_prefix) or "/"
    if not prefix.startswith("/"):
        raise AgentLoadError(f'"http.mount_prefix" in {file} must begin with "/".')


def _check_pattern(file: Path, pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise AgentLoadError(
            f'"http.cors.allow_origin_regex" in {file} is no regular expression: {error}.'
        ) from None
