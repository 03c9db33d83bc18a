"""What is said to an agent, as the options of `assent run` and `assent chat` have it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from assent.cli.terminal import fail
from assent.client import SyncClient
from assent.core.blocks import MAX_NAME, MEDIA
from assent.core.json import Json, JsonObject, read_typed

Url = Annotated[
    str | None,
    typer.Option(
        help="A running server, such as http://127.0.0.1:8000. Without it, one is started."
    ),
]
AgentName = Annotated[
    str | None, typer.Option(help="The server's agent to talk to, if it has several.")
]
ThreadId = Annotated[str | None, typer.Option(metavar="ID", help="Go on with this thread.")]
Input = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help="Send this input of the graph's own in place of a message. @FILE "
        "reads it from a file.",
    ),
]
Files = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Send this file with the message; also several times."),
]
Context = Annotated[
    str | None, typer.Option(metavar="JSON", help="The graph's context, as JSON or @FILE.")
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="JSON", help="configurable, tags and metadata of its config, as JSON or @FILE."
    ),
]
Served = Annotated[
    str | None,
    typer.Option(
        metavar="AGENT", help="The agent to serve without --url, as in `assent serve AGENT`."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A `message` with files, or an `input` of the graph's own, or neither; what is `given` with
    each message; and the options that come back to the same place."""

    message: str | None = None
    input: JsonObject | None = None
    files: Mapping[Path, bytes] = field(default_factory=dict)
    given: JsonObject = field(default_factory=dict)
    options: Sequence[str] = ()

    def first(self, client: SyncClient) -> JsonObject | None:
        """The fields of the first message, its files uploaded; None if there is none."""
        if self.message is None or not self.files:
            return self.input if self.message is None else {"message": self.message}
        uploaded = [_upload(client, path, data) for path, data in self.files.items()]
        return {"message": [{"type": "text", "text": self.message}, *uploaded]}


def read_said(
    message: str | None,
    *,
    url: str | None,
    serve: str | None,
    agent: str | None,
    input: str | None,
    file: Sequence[Path] | None,
    context: str | None,
    config: str | None,
) -> Said:
    """The options, read. What makes no sense ends the program."""
    if url and serve:
        fail(
            "Give --url for a running server, or --serve for a server of its own, but not both.",
            code=2,
        )
    if message is not None and input is not None:
        fail("Give a message or an --input, but not both.", code=2)
    if file and message is None:
        fail("Give a message with a --file.", code=2)

    named = (("--url", url), ("--serve", serve), ("--agent", agent))
    options = [shlex.join([name, value]) for name, value in named if value]
    given: JsonObject = {}
    for name, value in (("context", context), ("config", config)):
        if value is not None:
            given[name] = _json_of(f"--{name}", value)
            options.append(shlex.join([f"--{name}", value]))
    return Said(
        message=message,
        input=None if input is None else {"input": _json_of("--input", input)},
        files={path: _bytes_of(path) for path in file or ()},
        given=given,
        options=options,
    )


def _json_of(option: str, value: str) -> Json:
    """The value of an option that takes JSON, or `@` and the name of a file with it."""
    try:
        text = Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
        return read_typed(text)
    except OSError as error:
        fail(f"{option}: the file {value[1:]} cannot be read: {error.strerror}.", code=2)
    except ValueError as error:
        fail(f"{option} is not JSON: {error}. Quote it, or write @FILE.", code=2)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"--file: the file {path} cannot be read: {error.strerror}.", code=2)


def _upload(client: SyncClient, path: Path, data: bytes) -> JsonObject:
    """Send the file; the content block that names it."""
    uploaded = client.files.upload(data, path.name[:MAX_NAME])
    kind = uploaded.mime_type.partition("/")[0]
    return {"type": kind if kind in MEDIA else "file", "file_id": uploaded.file_id}
