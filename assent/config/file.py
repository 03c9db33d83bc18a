"""The configuration file, for all that is too much for the environment. TOML, or JSON.

[people.ann]
roles = ["lead"]
aliases = ["corp:ann@example.com"]

[policies.agents.clerk.tools.delete_records]
roles = ["lead"]
quorum = 2

[recursion_limits]
clerk = 50

[configurable]
clerk = ["model"]

[tasks.clerk]
instructions = true
models = {"gpt-4" = "openai:gpt-4"}

[budgets.run]
total_tokens = 100_000

[notify.pager]
url = "https://example.com/hook"
secrets = ["env:PAGER_SECRET"]

[webhooks.ci]
url = "https://hooks.example.com"
secrets = ["env:CI_SECRET"]

[slack]
token = "env:SLACK_TOKEN"
signing_secret = "env:SLACK_SIGNING_SECRET"
team = "T012AB3CD"
people = {U012AB3CD = "ann"}

[issuers.corp]
issuer = "https://login.example.com"
audience = "assent"
algorithm = "RS256"
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from assent.config.issuers import Issuer, issuers_from_json
from assent.core.access import check_role
from assent.core.config_keys import is_own_key
from assent.core.errors import ConfigurationError
from assent.core.json import Json, JsonObject
from assent.core.policy import Person, PolicyBook, policies_from_json
from assent.graph.task_options import TaskRules
from assent.notify.endpoints import Endpoint, endpoints_from_json
from assent.notify.run_webhooks import RunReceiver, run_receivers_from_json
from assent.notify.slack import SlackApp, slack_from_json
from assent.runs.budgets import Budgets, budgets_from_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The file's contents: `people` by name with their roles, and their `aliases`, the `policies`
    that calls are approved by, the `recursion_limits` of agents, the `configurable` keys of their
    config that clients may set, what `tasks` may choose of them, the `budgets` of runs, the
    `endpoints` that are notified of approvals, the `run_receivers` that may be told of the ends of
    runs, the `slack` app that posts approvals and knows who clicks, and the `issuers` whose tokens
    say who somebody is."""

    people: Mapping[str, Person] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    policies: PolicyBook = field(default_factory=PolicyBook)
    recursion_limits: Mapping[str, int] = field(default_factory=dict)
    configurable: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tasks: Mapping[str, TaskRules] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)
    endpoints: tuple[Endpoint, ...] = ()
    run_receivers: tuple[RunReceiver, ...] = ()
    slack: SlackApp | None = None
    issuers: tuple[Issuer, ...] = ()


def read_configuration(path: Path, environment: Mapping[str, str]) -> Configuration:
    """The contents of the file. `env:NAME` stands for an environment variable where a value may be
    secret.

    Raises `ConfigurationError`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        contents = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(
            f"The configuration {path} cannot be read: {error.strerror}. Correct ASSENT_CONFIG."
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"The configuration {path} is wrong: {error}. Correct it, and start again."
        ) from error

    sections = ", ".join(_SECTIONS)
    if not isinstance(contents, dict):
        raise ConfigurationError(
            f"The configuration {path} is not a table. It may have: {sections}."
        )

    read: JsonObject = {}
    for name, value in contents.items():
        if name not in _SECTIONS:
            raise ConfigurationError(
                f"The configuration {path} has a section '{name}'. It may have: {sections}."
            )
        try:
            for target, read_section in _SECTIONS[name].items():
                read[target] = read_section(value, environment)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The configuration {path} is wrong in its section '{name}'. {error.message}"
            ) from None
    return Configuration(**read)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    roles: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def _people(section: Json, environment: Mapping[str, str]) -> dict[str, Person]:
    people: dict[str, Person] = {}
    for name, entry in _entries(section):
        for role in entry.roles:
            check_role(role)
        people[name] = Person(name=name, roles=entry.roles)
    return people


def _aliases(section: Json, environment: Mapping[str, str]) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for name, entry in _entries(section):
        for alias in entry.aliases:
            if aliases.setdefault(alias, name) != name:
                raise ConfigurationError(
                    f"'{alias}' is an alias of '{aliases[alias]}' and of '{name}'. Leave one."
                )
    return aliases


def _entries(section: Json) -> Iterator[tuple[str, _Entry]]:
    for name, entry in _table(section).items():
        try:
            yield name, msgspec.convert(entry, _Entry)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"The entry for '{name}' is wrong: {error}. Write their roles, as in "
                'roles = ["lead"], and their other names, as in aliases = ["corp:ann"].'
            ) from None


def _policies(section: Json, environment: Mapping[str, str]) -> PolicyBook:
    return policies_from_json(_table(section))


def _recursion_limits(section: Json, environment: Mapping[str, str]) -> dict[str, int]:
    try:
        return msgspec.convert(section, dict[str, Annotated[int, msgspec.Meta(ge=1)]])
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{error}. Write a number from 1 for each agent, as in clerk = 50."
        ) from None


def _configurable(section: Json, environment: Mapping[str, str]) -> dict[str, list[str]]:
    try:
        keys = msgspec.convert(section, dict[str, list[str]])
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f'{error}. Write a list of keys for each agent, as in clerk = ["model"].'
        ) from None
    for agent, names in keys.items():
        own = [name for name in names if is_own_key(name)]
        if own:
            raise ConfigurationError(
                f"The agent '{agent}' is to take '{own[0]}' from clients. LangGraph and Assent "
                "find threads and runs by it, so no client may set it."
            )
    return keys


def _tasks(section: Json, environment: Mapping[str, str]) -> dict[str, TaskRules]:
    tasks: dict[str, TaskRules] = {}
    for agent, entry in _table(section).items():
        try:
            tasks[agent] = msgspec.convert(entry, TaskRules)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"The entry for '{agent}' is wrong: {error}. It may have 'enable_streaming' and "
                "'instructions', which are true or false, and 'models', as in "
                'models = {"gpt-4" = "openai:gpt-4"}.'
            ) from None
    return tasks


def _budgets(section: Json, environment: Mapping[str, str]) -> Budgets:
    return budgets_from_json(section)


def _table(section: Json) -> JsonObject:
    if not isinstance(section, dict):
        raise ConfigurationError("It is not a table. Write one.")
    return section


Read = Callable[[Json, Mapping[str, str]], Any]
"""Reads a section, given the environment. Raises `ConfigurationError`."""

_SECTIONS: Mapping[str, Mapping[str, Read]] = {
    "people": {"people": _people, "aliases": _aliases},
    "policies": {"policies": _policies},
    "recursion_limits": {"recursion_limits": _recursion_limits},
    "configurable": {"configurable": _configurable},
    "tasks": {"tasks": _tasks},
    "budgets": {"budgets": _budgets},
    "notify": {"endpoints": endpoints_from_json},
    "webhooks": {"run_receivers": run_receivers_from_json},
    "slack": {"slack": slack_from_json},
    "issuers": {"issuers": issuers_from_json},
}
"""The sections of the file: the fields of `Configuration` that each is for, and their readers."""
