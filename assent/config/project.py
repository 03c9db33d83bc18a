"""What a project's langgraph.json says for the server's settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import structlog
from langgraph.store.base import IndexConfig, TTLConfig

from assent.config.settings import Settings, StoreIndex
from assent.core.errors import ConfigurationError
from assent.graph.langgraph_json import Checkpointer, Cors, Http, ProjectFile, Serde, ThreadTtl
from assent.graph.langgraph_json import StoreIndex as ProjectIndex
from assent.graph.langgraph_json import StoreOptions as ProjectStore
from assent.graph.loading import Project, open_embeddings
from assent.storage.store import StoreOptions

log = structlog.get_logger(__name__)


def with_project(settings: Settings, agents: Mapping[str, Any]) -> Settings:
    """The settings, with what the langgraph.json of the agents says, if they have one. A setting
    that was made goes before it, and a warning says so."""
    file = agents.file if isinstance(agents, Project) else None
    if file is None:
        return settings
    update: dict[str, Any] = {}
    for name, (place, value) in _settings_in(file).items():
        if name not in settings.model_fields_set:
            update[name] = value
        elif getattr(settings, name) != value:
            log.warning(
                "a setting goes before that of the project",
                setting=f"ASSENT_{name.upper()}",
                key=place,
            )
    types = {*settings.state_types, *_state_types(file)}
    return settings.model_copy(update={**update, "state_types": tuple(sorted(types))})


def descriptions_of(agents: Mapping[str, Any]) -> dict[str, str]:
    """What the agents are for, as far as their langgraph.json says so."""
    file = agents.file if isinstance(agents, Project) else None
    graphs = {} if file is None else file.graphs
    return {name: graph.description for name, graph in graphs.items() if graph.description}


def _settings_in(file: ProjectFile) -> dict[str, tuple[str, Any]]:
    """The settings that the file makes, by name: the place in it, and the value."""
    settings: dict[str, tuple[str, Any]] = {}
    cors = (file.http or Http()).cors or Cors()
    if cors.allow_origins:
        settings["cors_origins"] = ("http.cors.allow_origins", cors.allow_origins)
    ttl = (file.checkpointer or Checkpointer()).ttl or ThreadTtl()
    if ttl.default_ttl is not None and ttl.strategy == "keep_latest":
        settings["checkpoints_keep"] = ("checkpointer.ttl.strategy", 1)
    elif ttl.default_ttl is not None:
        kept = timedelta(minutes=ttl.default_ttl)
        settings["threads_ttl"] = ("checkpointer.ttl.default_ttl", kept)
    return settings


def _state_types(file: ProjectFile) -> set[tuple[str, str]]:
    serde = (file.checkpointer or Checkpointer()).serde or Serde()
    types: set[tuple[str, str]] = set()
    for listed in (serde.allowed_msgpack_modules, serde.allowed_json_modules):
        for parts in listed if isinstance(listed, tuple) else ():
            types.add((".".join(parts[:-1]), parts[-1]))
    return types


@asynccontextmanager
async def open_store_options(
    settings: Settings, agents: Mapping[str, Any]
) -> AsyncIterator[StoreOptions]:
    """The options of the store that agents get, for as long as the context is entered: those of
    their langgraph.json, if they have one, and of the settings.

    Raises `ConfigurationError` if the two name different embeddings, and `AgentLoadError` if those
    of the settings cannot be loaded.
    """
    project = agents if isinstance(agents, Project) else None
    file = project.file if project else None
    store = (file.store if file else None) or ProjectStore()
    ttl = None
    if store.ttl is not None:
        given = store.ttl
        ttl = TTLConfig(refresh_on_read=given.refresh_on_read, default_ttl=given.default_ttl)
    theirs, ours = store.index, settings.store_index
    if project is not None and theirs is not None:
        _check_same_index(theirs, ours)
        index = _index(theirs, project.embed)
        yield StoreOptions(index=index, ttl=ttl)
    elif ours is not None:
        async with open_embeddings(ours.embed) as embeddings:
            yield StoreOptions(index=_index(ours, embeddings), ttl=ttl)
    else:
        yield StoreOptions(ttl=ttl)


def _check_same_index(theirs: ProjectIndex, ours: StoreIndex | None) -> None:
    if ours is not None and ours.model_dump() != msgspec.structs.asdict(theirs):
        raise ConfigurationError(
            'ASSENT_STORE_INDEX and "store.index" in langgraph.json name different embeddings, and '
            "a store has one index. Leave one of them."
        )


def _index(named: ProjectIndex | StoreIndex, embeddings: Any) -> IndexConfig:
    fields = list(named.fields) if named.fields else None
    return IndexConfig(dims=named.dims, embed=embeddings, fields=fields)
