"""The HTTP client of `assent chat` and `assent approvals`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import msgspec
import typer
from httpx_sse import ServerSentEvent, connect_sse

from assent.cli.terminal import fail
from assent.core.errors import AssentError
from assent.core.json import Json, JsonObject

ApiKey = Annotated[
    str | None,
    typer.Option(envvar="ASSENT_API_KEY", help="The secret of one of the server's keys."),
]
"""The option of every command that talks to a server."""

PAUSES = (0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8)
"""Seconds before each try to reconnect to a server that is gone: about a minute in all."""

JSON = "application/json"
EVENTS = "text/event-stream"

Params = Mapping[str, str | int]


class Refused(AssentError):
    """The server answered with an error. `details` has the `status` and its problem document."""


class Unreachable(AssentError):
    """The server does not answer."""


@dataclass(frozen=True, slots=True)
class Received:
    """An event, and its JSON exactly as it came."""

    body: str
    event: JsonObject

    @classmethod
    def read(cls, body: str) -> Received:
        """The event of this JSON."""
        return cls(body, msgspec.json.decode(body))

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def seq(self) -> int:
        return int(self.event["seq"])


class Client:
    """The server's HTTP API. Each method raises `Refused` or `Unreachable`."""

    def __init__(self, http: httpx.Client) -> None:
        self.on_drop: Callable[[], None] = lambda: None
        """Called when the connection of a stream has dropped, before each try to reconnect."""
        self._http = http

    def get(self, path: str, params: Params | None = None) -> Json:
        """The JSON of a GET."""
        return self.request("GET", path, params=params).json()

    def post(self, path: str, body: Json, *, headers: Mapping[str, str] | None = None) -> Json:
        """The JSON that answers a POST."""
        return self.request("POST", path, json=body, headers=headers).json()

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """The response to any request."""
        accepting = {"Accept": JSON, **(headers or {})}
        try:
            response = self._http.request(method, path, headers=accepting, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return _checked(response, JSON)

    def events(
        self, path: str, *, after: int | None = None, opening: tuple[str, Json] | None = None
    ) -> Iterator[Received]:
        """The events of the stream at `path` past `after`, without an end.

        A connection that drops is taken up again after the last event. The first events may be the
        answer to a POST, `opening`: a path and a body. They are all there is if it starts no run.
        """
        pauses = iter(PAUSES)
        while True:
            dropped: Exception | None = None
            try:
                with self._stream(path, after, opening) as (response, events):
                    posted, opening = opening is not None, None
                    for event in events:
                        pauses = iter(PAUSES)
                        received = Received.read(event.data)
                        after = max(after or 0, received.seq)
                        yield received
                    if posted and "x-run-id" not in response.headers:
                        return
            except httpx.TransportError as error:
                if opening is not None:
                    raise self._unreachable(error) from error
                dropped = error
            except Refused as error:
                if opening is not None or error.details["status"] != 503:
                    raise
                dropped = error

            pause = next(pauses, None)
            if pause is None:
                raise self._unreachable(dropped)
            self.on_drop()
            time.sleep(pause)

    @contextmanager
    def _stream(
        self, path: str, after: int | None, opening: tuple[str, Json] | None
    ) -> Iterator[tuple[httpx.Response, Iterator[ServerSentEvent]]]:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        if opening is None:
            connecting = connect_sse(self._http, "GET", path, headers=headers)
        else:
            connecting = connect_sse(self._http, "POST", opening[0], json=opening[1])

        with connecting as source:
            _checked(source.response, EVENTS)
            # Comments come as events without data, and the end as one of a type of its own.
            yield source.response, filter(_is_ours, source.iter_sse())

    def _unreachable(self, error: Exception | None) -> Unreachable:
        cause = f": {error}" if error and str(error) else ""
        return Unreachable(
            f"The server at {self._http.base_url} does not answer{cause}. Is it running?"
        )


def _is_ours(event: ServerSentEvent) -> bool:
    return event.event == "message" and bool(event.data)


@contextmanager
def connected(url: str, secret: str | None, *, trust_env: bool = True) -> Iterator[Client]:
    """A client of the server at `url`; a URL that is not valid ends the program.

    With `trust_env`, the proxies of the environment are used.
    """
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    timeout = httpx.Timeout(60, connect=10)
    _check_url(url)
    with httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=trust_env) as http:
        yield Client(http)


def _check_url(url: str) -> None:
    if _is_url(url):
        return
    example = "http://127.0.0.1:8000"
    if "://" not in url and _is_url(f"http://{url}"):
        example = f"http://{url}"
    fail(f"--url '{url}' is not a URL. Write {example}.", code=2)


def _is_url(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def _checked(response: httpx.Response, media_type: str) -> httpx.Response:
    """The response, if it is of this type, or `Refused` with what its problem document says."""
    if response.is_success and response.headers.get("content-type", "").startswith(media_type):
        return response

    response.read()
    try:
        problem = response.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        problem = {}
        status = f"{response.status_code} {response.reason_phrase}"
        detail = f"The server answered {status}: {response.text[:200].strip()}"
    if response.has_redirect_location:
        place = response.headers["location"]
        detail = f"The server sends on to {place}. Give its own address as --url."
    if response.status_code == 401:
        detail += " Set ASSENT_API_KEY, or give --api-key."
    raise Refused(detail, **{**problem, "status": response.status_code})
