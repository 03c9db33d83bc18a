"""Settings that are there and do nothing: mostly slips of the pen, which would otherwise pass
without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple

from assent.config.file import Configuration
from assent.config.settings import Settings

PREFIX = "ASSENT_"

OF_CLIENTS = ("ASSENT_API_KEY", "ASSENT_URL")
"""Variables that `assent chat` and `assent approvals` read, and no server does."""


class WithoutEffect(NamedTuple):
    """A setting, and a sentence: why it does nothing."""

    setting: str
    reason: str


def without_effect(
    settings: Settings,
    configuration: Configuration,
    environment: Mapping[str, str],
    *,
    known_by_key: bool = True,
    stored_keys: bool = False,
) -> Iterator[WithoutEffect]:
    """Those of these settings that have no effect. Call it once the agents are loaded, since their
    modules may have the types that the settings name. Unless people are `known_by_key` of the
    settings alone, they may have any name. Keys may also be stored (`stored_keys`)."""
    yield from _unknown_variables(settings, environment)
    if known_by_key:
        yield from _names_without_key(settings, configuration)
    if configuration.tasks and "tasks" not in settings.dialects:
        yield WithoutEffect("tasks", "ASSENT_DIALECTS does not name 'tasks'.")
    if settings.allow_query_token and not settings.api_keys and not stored_keys:
        yield WithoutEffect("ASSENT_ALLOW_QUERY_TOKEN", "There are no keys that a URL could have.")
    for module, name in settings.state_types:
        if problem := _problem_of_type(module, name):
            yield WithoutEffect("ASSENT_STATE_TYPES", f"It names {module}:{name}, and {problem}.")


def _names_without_key(settings: Settings, configuration: Configuration) -> Iterator[WithoutEffect]:
    keys = settings.api_keys
    named = [("ASSENT_LINK_ISSUERS", "It names", settings.link_issuers)]
    named.append(("ASSENT_ROLES", "It names", tuple(settings.roles)))
    if keys and settings.public_url is None:
        named.append(("people", "It has roles for", tuple(configuration.people)))
    for setting, it_does, names in named:
        for name in names:
            if name not in keys:
                reason = f"{it_does} '{name}', and ASSENT_API_KEYS has no key of '{name}'."
                yield WithoutEffect(setting, reason)


def _unknown_variables(
    settings: Settings, environment: Mapping[str, str]
) -> Iterator[WithoutEffect]:
    settable = [name.upper() for name in type(settings).model_fields]
    known = {*OF_CLIENTS, *(f"{PREFIX}{name}" for name in settable)}
    mentioned = _mentioned(settings)
    for name in sorted(environment):
        written = name.upper()
        if not written.startswith(PREFIX) or written in known or name in mentioned:
            continue
        reason = "There is no such setting."
        if nearest := get_close_matches(written.removeprefix(PREFIX), settable, n=1):
            reason += f" Did you mean {PREFIX}{nearest[0]}?"
        yield WithoutEffect(name, reason)


def _mentioned(settings: Settings) -> frozenset[str]:
    """The variables whose values the configuration file takes."""
    text = ""
    # It has been read a moment ago. If it is gone now, the worst is a warning too many.
    with suppress(OSError, ValueError):
        text = settings.config.read_text(encoding="utf-8") if settings.config else ""
    return frozenset(re.findall(r"\benv:(\w+)", text))


def _problem_of_type(module: str, name: str) -> str:
    """Why there is no such type; "" if there is."""
    try:
        imported = import_module(module)
    except Exception as error:
        return f"the module cannot be imported ({type(error).__name__})"
    return "" if hasattr(imported, name) else f"the module has no '{name}'"
