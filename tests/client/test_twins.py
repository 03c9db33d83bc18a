"""The two clients are one: the same names, parameters and types, but for what asyncio makes of
them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assent.client import aio, aio_calls, aio_socket, sync, sync_calls, sync_socket

CODE = re.compile(r"`([^`]+)`")
PAIRS = [
    (aio.Client, sync.SyncClient),
    (aio_socket.ThreadSocket, sync_socket.SyncThreadSocket),
    *((getattr(aio_calls, name), getattr(sync_calls, name)) for name in vars(aio_calls) if name.endswith("Calls")),
]  # fmt: skip


def public(kind: type) -> dict[str, Callable[..., Any]]:
    own = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    return {"__init__": kind.__init__, **own}  # type: ignore[misc]


def spelled(function: Callable[..., Any]) -> str:
    """The signature, as the twin without asyncio has it."""
    text = re.sub(
        r"AsyncGenerator\[(.+?), None\]",
        r"Generator[\1, None, None]",
        str(inspect.signature(function)),
    )
    own = text.replace("httpx.AsyncClient", "httpx.Client")
    return re.sub(r"\bThreadSocket", "SyncThreadSocket", own)


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda kind: kind.__name__)
def test_the_twins_have_the_same_methods(one: type, other: type) -> None:
    assert list(public(one)) == list(public(other))
    for name, function in public(one).items():
        twin = public(other)[name]
        assert spelled(function) == spelled(twin), name
        assert function.__doc__ == twin.__doc__, name


@pytest.mark.parametrize("kind", [kind for kind, _ in PAIRS], ids=lambda kind: kind.__name__)
def test_each_method_says_what_it_does(kind: type) -> None:
    assert [name for name, function in public(kind).items() if not function.__doc__] in (
        [],
        ["__init__"],
    )


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "python.md"


def test_the_reference_names_every_operation() -> None:
    table = REFERENCE.read_text(encoding="utf-8").split("| of a `Client` |")[1].split("\n\n")[0]
    written = {row[0]: row[1:] for row in map(CODE.findall, table.splitlines()[2:])}
    for name, methods in written.items():
        if "(" in name:
            function = getattr(aio.Client, name.partition("(")[0])
            signature = inspect.signature(function)
            parameters = [
                each.replace(annotation=inspect.Parameter.empty)
                for each in signature.parameters.values()
                if each.name != "self"
            ]
            bare = signature.replace(parameters=parameters, return_annotation=signature.empty)
            assert name == f"{function.__name__}{bare}".replace("'", '"')
        else:
            group = type(getattr(aio.Client(), name))
            assert methods == [each for each in public(group) if each != "__init__"]
    own = [name.partition("(")[0] for name in written if "(" in name]
    assert own == [name for name in public(aio.Client) if name not in ("__init__", "close")]
