"""What a project's langgraph.json says for the server's settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog

from assent.config.settings import Settings
from assent.graph.langgraph_json import Checkpointer, ProjectFile, Serde, ThreadTtl
from assent.graph.loading import Project

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
                "a setting goes before that of langgraph.json",
                setting=f"ASSENT_{name.upper()}",
                key=place,
            )
    types = {*settings.state_types, *_state_types(file)}
    return settings.model_copy(update={**update, "state_types": tuple(sorted(types))})


def _settings_in(file: ProjectFile) -> dict[str, tuple[str, Any]]:
    """The settings that the file makes, by name: the place in it, and the value."""
    ttl = (file.checkpointer or Checkpointer()).ttl or ThreadTtl()
    if ttl.default_ttl is None:
        return {}
    if ttl.strategy == "keep_latest":
        return {"checkpoints_keep": ("checkpointer.ttl.strategy", 1)}
    kept = timedelta(minutes=ttl.default_ttl)
    return {"threads_ttl": ("checkpointer.ttl.default_ttl", kept)}


def _state_types(file: ProjectFile) -> set[tuple[str, str]]:
    serde = (file.checkpointer or Checkpointer()).serde or Serde()
    types: set[tuple[str, str]] = set()
    for listed in (serde.allowed_msgpack_modules, serde.allowed_json_modules):
        for parts in listed if isinstance(listed, tuple) else ():
            types.add((".".join(parts[:-1]), parts[-1]))
    return types
