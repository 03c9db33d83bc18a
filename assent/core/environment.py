"""Values that a configuration takes from the environment, so that no secret has to be in a file."""

from __future__ import annotations

from collections.abc import Mapping

from assent.core.errors import ConfigurationError


def value_of(written: str, environment: Mapping[str, str]) -> str:
    """The text as written, or the value of the environment variable that it names. Raises
    `ConfigurationError`."""
    if not written.startswith("env:"):
        return written
    variable = written.removeprefix("env:")
    value = environment.get(variable)
    if not value:
        raise ConfigurationError(f"It reads the environment variable {variable}, which is not set.")
    return value
