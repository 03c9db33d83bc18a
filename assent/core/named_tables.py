"""Tables of a configuration that the operator gives names to, such as one for each issuer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from assent.core.errors import ConfigurationError
from assent.core.json import Json

T = TypeVar("T")
W = TypeVar("W", bound=msgspec.Struct)

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_tables(
    value: Json, kind: str, written: type[W], read: Callable[[str, W], T]
) -> tuple[T, ...]:
    """The things of this kind that `read` makes of a table with one for each, given its name and
    its fields. Raises `ConfigurationError`, which says which one is wrong and repeats no value."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"It is no table. Write a table with one for each {kind}.")
    return tuple(_read(name, fields, kind, written, read) for name, fields in value.items())


def _read(name: str, fields: Json, kind: str, written: type[W], read: Callable[[str, W], T]) -> T:
    where = f"The {kind} '{name}'"
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where} has a bad name. Use 1 to 64 letters, digits, '_' and '-'."
        )
    try:
        return read(name, msgspec.convert(fields, written))
    except msgspec.ValidationError as error:
        there_are = ", ".join(written.__struct_fields__)
        raise ConfigurationError(
            f"{where} is wrong: {error}. Its fields are: {there_are}."
        ) from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{where} is wrong. {error.message}") from None
