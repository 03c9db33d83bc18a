"""The routes of the dialects that can be switched off (`ASSENT_DIALECTS`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Final

from assent.api.routes import (
    agui,
    human_input,
    langgraph_assistants,
    langgraph_crons,
    langgraph_protocol,
    langgraph_runs,
    langgraph_server,
    langgraph_stateless,
    langgraph_store,
    langgraph_threads,
    progress,
    query,
    tasks,
    vercel,
)

DIALECT_ROUTES: Final[Mapping[str, tuple[ModuleType, ...]]] = {
    "human-input": (human_input,),
    "progress": (progress,),
    "tasks": (tasks,),
    "query": (query,),
    "langgraph": (
        langgraph_runs,
        langgraph_stateless,
        langgraph_server,
        langgraph_threads,
        langgraph_assistants,
        langgraph_store,
        langgraph_protocol,
        langgraph_crons,
    ),
    "vercel": (vercel,),
    "agui": (agui,),
}
"""The modules of each dialect's routes, by its name."""
