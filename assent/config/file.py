"""The configuration file: what an operator says that is too much for the environment. TOML, or
JSON.

[people.ann]
roles = ["lead"]

[policies.agents.clerk.tools.delete_records]
roles = ["lead"]
quorum = 2

[budgets.run]
total_tokens = 100_000

[notify.pager]
url = "https://example.com/hook"
secrets = ["env:PAGER_SECRET"]
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from assent.core.errors import ConfigurationError
from assent.core.policy import Person, PolicyBook, policies_from_json
from assent.notify.endpoints import Endpoint, endpoints_from_json
from assent.runs.budgets import Rules, rules_from_json

Json = Any
"""Any JSON value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the file says: which roles `people` have, by name; the `policies` that calls are
    approved by; the `budgets` that runs are held to; and the `endpoints` that approvals are told
    to."""

    people: Mapping[str, Person] = field(default_factory=dict)
    policies: PolicyBook = field(default_factory=PolicyBook)
    budgets: Rules = field(default_factory=Rules)
    endpoints: tuple[Endpoint, ...] = ()


def read_configuration(path: Path, environment: Mapping[str, str]) -> Configuration:
    """What is in the file; `env:NAME` stands for a variable of the environment where a value may be
    secret. Raises `ConfigurationError`."""
    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(
            f"The configuration {path} cannot be read: {error.strerror}. Correct ASSENT_CONFIG."
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"The configuration {path} is not right: {error}. Correct it, and start again."
        ) from error
    if not isinstance(said, dict):
        raise ConfigurationError(
            f"The configuration {path} is no table. It may have: {', '.join(_SECTIONS)}."
        )
    if unknown := sorted(set(said) - set(_SECTIONS)):
        raise ConfigurationError(
            f"The configuration {path} has a part '{unknown[0]}'. It may have: {', '.join(_SECTIONS)}."
        )
    read = {
        field: _section(path, name, said[name], read, environment)
        for name, (field, read) in _SECTIONS.items()
        if name in said
    }
    return Configuration(**read)


Read = Callable[[Json, Mapping[str, str]], Any]
"""How a section is read, given what it says and the environment. Raises `ConfigurationError`."""


def _section(path: Path, name: str, said: Json, read: Read, environment: Mapping[str, str]) -> Any:
    try:
        return read(said, environment)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"The configuration {path} is not right in its part '{name}'. {error.message}"
        ) from None


class _Roles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of somebody."""

    roles: tuple[str, ...] = ()


def _people(said: Json, environment: Mapping[str, str]) -> dict[str, Person]:
    people = {}
    for name, of_him in _table(said).items():
        try:
            people[name] = Person(name=name, roles=msgspec.convert(of_him, _Roles).roles)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"What it says of '{name}' is wrong: {error}. Write his roles, as in roles = [\"lead\"]."
            ) from None
    return people


def _policies(said: Json, environment: Mapping[str, str]) -> PolicyBook:
    return policies_from_json(_table(said))


def _table(said: Json) -> Mapping[str, Json]:
    if not isinstance(said, dict):
        raise ConfigurationError("It is no table. Write one.")
    return said


_SECTIONS: Mapping[str, tuple[str, Read]] = {
    "people": ("people", _people),
    "policies": ("policies", _policies),
    "budgets": ("budgets", lambda said, environment: rules_from_json(said)),
    "notify": ("endpoints", endpoints_from_json),
}
"""The parts of the file: the field that each is for, and how it is read."""
