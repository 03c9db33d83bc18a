"""Builds Assent with its web page: a hook of hatchling's, and the backend that pip asks.

A wheel and an sdist have the page built, and an sdist its sources too, so whoever builds a wheel
from an sdist needs no Node.js. An editable installation has what `make page` builds, and needs none
either. Where the page cannot be built, the wheel has the reason in its place, which the server
shows; `make dist` builds the page before, and fails.
"""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import hatchling.build as backend
from hatchling.build import *  # noqa: F403
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent

Settings = dict[str, Any]


class WebPage(BuildHookInterface[Any]):
    """Builds the page before its files are taken, unless it is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        page = page_builder()
        try:
            page.build()
        except page.NotBuilt as error:
            self.app.display_warning(f"{error.output}\nThis is built without the web page: {error}")
        # Git ignores it, and so does hatchling.
        build_data["force_include"][str(page.UI)] = "assent/ui"


def get_requires_for_build_wheel(config_settings: Settings | None = None) -> list[str]:
    """What a wheel is built with: Node.js too, if the page is not built yet."""
    return [*backend.get_requires_for_build_wheel(config_settings), *node()]


def get_requires_for_build_sdist(config_settings: Settings | None = None) -> list[str]:
    """The same for an sdist."""
    return [*backend.get_requires_for_build_sdist(config_settings), *node()]


def node() -> list[str]:
    """The requirement that the page is built with, if it is not built yet."""
    if page_builder().is_built():
        return []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    required: list[str] = project["dependency-groups"]["node"]
    return required


def page_builder() -> ModuleType:
    """`web/build.py`, as a module."""
    spec = importlib.util.spec_from_file_location("web_build", ROOT / "web" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
