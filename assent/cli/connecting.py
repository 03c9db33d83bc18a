"""The connection of a command to a server: a running one, or one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from assent.cli.terminal import fail
from assent.client import Link, SyncClient, Unauthorized, Unreachable
from assent.core.errors import ConfigurationError

ApiKey = Annotated[
    str | None,
    typer.Option(envvar="ASSENT_API_KEY", help="The secret of one of the server's keys."),
]
"""The option of every command that talks to a server."""

PATIENCE = 60.0
"""Seconds for which a server that is gone is waited for."""


class Patience:
    """Waits for a connection that is lost, tells of it once, and gives up after `PATIENCE`."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._waited = 0.0
        self._is_told = False

    def __call__(self, link: Link) -> None:
        """Take the news of a connection. Raises `Unreachable`."""
        if link.state == "up":
            self._waited, self._is_told = 0.0, False
            return
        if self._waited >= PATIENCE:
            raise Unreachable(link.error)
        self._waited += link.pause
        if not self._is_told:
            self._is_told = True
            self._tell("The connection dropped. Trying to come back …")


@contextmanager
def connected(
    url: str, key: str | None, *, tell: Callable[[str], None], trust_env: bool = True
) -> Iterator[SyncClient]:
    """A client of the server at `url`; a URL or a key that is not valid ends the program.

    With `trust_env`, the proxies of the environment are used.
    """
    try:
        client = SyncClient(url, key=key, trust_env=trust_env, on_link=Patience(tell))
    except ConfigurationError as error:
        named = "--url " if error.details.get("parameter") == "url" else ""
        fail(f"{named}{error.message}", code=2)
    try:
        with client:
            yield client
    except Unauthorized as error:
        raise Unauthorized(f"{error.message} Set ASSENT_API_KEY, or give --api-key.") from error


@contextmanager
def connected_or_serving(
    url: str | None, key: str | None, serve: str | None, *, tell: Callable[[str], None]
) -> Iterator[SyncClient]:
    """A client of the server at `url`; without it, of one that is started here, and ends with the
    context."""
    if url:
        with connected(url, key, tell=tell) as client:
            yield client
        return

    # It takes ten times as long to import as a client of a server that runs.
    from assent.cli.serve import server_in_thread

    with (
        server_in_thread(serve) as (own, secret),
        # No proxy stands between this process and itself.
        connected(own, key or secret, tell=tell, trust_env=False) as client,
    ):
        yield client
