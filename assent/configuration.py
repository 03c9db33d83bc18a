"""The configuration file: what an operator says that is too much for the environment. TOML, or JSON.

[notify.pager]
url = "https://example.com/hook"
secrets = ["env:PAGER_SECRET"]
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assent.approvals.endpoints import Endpoint, endpoints_from_json
from assent.errors import ConfigurationError

Json = Any
"""Any JSON value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the file says. `endpoints` are whom approvals are told of."""

    endpoints: tuple[Endpoint, ...] = ()


def read_configuration(path: Path, environment: Mapping[str, str]) -> Configuration:
    """What is in the file; `env:NAME` stands for a variable of the environment where a value may be secret. Raises `ConfigurationError`."""
    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"The configuration {path} cannot be read: {error.strerror}. Correct ASSENT_CONFIG.") from error
    except ValueError as error:
        raise ConfigurationError(f"The configuration {path} is not right: {error}. Correct it, and start again.") from error
    if not isinstance(said, dict):
        raise ConfigurationError(f"The configuration {path} is no table. It may have: {', '.join(_SECTIONS)}.")
    if unknown := sorted(set(said) - set(_SECTIONS)):
        raise ConfigurationError(f"The configuration {path} has a part '{unknown[0]}'. It may have: {', '.join(_SECTIONS)}.")
    try:
        return Configuration(**{field: read(said[name], environment) for name, (field, read) in _SECTIONS.items() if name in said})
    except ConfigurationError as error:
        raise ConfigurationError(f"The configuration {path} is not right. {error.message}") from None


_SECTIONS: Mapping[str, tuple[str, Callable[[Json, Mapping[str, str]], Any]]] = {"notify": ("endpoints", endpoints_from_json)}
"""The parts of the file: the field that each is for, and how it is read."""
