"""The routes of the dialects that can be switched off (`ASSENT_DIALECTS`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Final

from assent.api.routes import human_input, progress, query, tasks

DIALECT_ROUTES: Final[Mapping[str, tuple[ModuleType, ...]]] = {
    "human-input": (human_input,),
    "progress": (progress,),
    "tasks": (tasks,),
    "query": (query,),
}
"""The modules of each dialect's routes, by its name."""
