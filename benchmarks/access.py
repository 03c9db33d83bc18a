"""The cost of knowing who asks, and of showing them only what is theirs: a thread that is read by
each kind of credential, a thread that is made, runs and their tokens, and the first page of one of
many owners.

Run alone with `python -m benchmarks access`. CPU is user and system time of the server's process,
for each request of a connection that stays open. The contenders take turns, and what is printed are
medians. With `ASSENT_BENCH_BEFORE=FOLDER`, a checkout of Assent as it was, a server of that tree
takes part, and is what the others are held to; else it is our own server without keys.

The pages are read from a storage in this process: of an owner whose threads lie among those of a
thousand others, and of one who has the file to themselves.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread as SystemThread
from typing import Any

import jwt
import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from rich.console import Console
from rich.table import Table

from assent.core.access import APPROVES_NOTHING, Owner, Sight
from assent.core.rows import Thread, ThreadStatus
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from benchmarks import client
from benchmarks.server import served
from benchmarks.sizes import sized

ROUNDS = sized(7, 1)
WARM_UP = sized(1, 0)
REQUESTS = sized(1500, 5)
OWNERS = sized(1000, 4)
THREADS_EACH = sized(100, 3)
PAGES = sized(200, 2)
STREAMS = sized(50, 2)
TOKENS = sized(400, 5)
RUNS = sized(8, 1)

READ, MAKE = "GET /threads/{id}", "POST /threads"
RUN, TOKEN = f"a run of 1 token, of {STREAMS} at once", f"a token of {STREAMS} streams"
BEFORE, NOBODY, SETTINGS, STORED, SESSION, JWT = (
    "the tree before",
    "no keys",
    "key of the settings",
    "stored key",
    "session",
    "JWT",
)
SECRET = "of-the-benchmark-0123456789abcdef"
KNOWN_RATIO = 1.25
TARGETS = {
    READ: {NOBODY: 1.05} | dict.fromkeys((SETTINGS, STORED, SESSION, JWT), KNOWN_RATIO),
    MAKE: {NOBODY: 1.1},
    RUN: {NOBODY: 1.05, STORED: 1.1},
    TOKEN: {NOBODY: 1.05, STORED: 1.05},
}
"""For each of what is measured, who takes part, and the most that it may cost them."""

PAGE_RATIO = 1.3

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Contender:
    """A server, as somebody asks it with these headers for a thread of theirs."""

    name: str
    connection: http.client.HTTPConnection
    process: psutil.Process
    headers: Headers
    thread_id: str

    def cpu_of(self, what: str) -> float:
        """The seconds of the server's CPU for a request, a run or a token."""
        before = _cpu_seconds(self.process)
        times = self._do(what)
        return (_cpu_seconds(self.process) - before) / times

    def _do(self, what: str) -> int:
        """Do it, and return how many times."""
        if what in (RUN, TOKEN):
            tokens, times = (1, RUNS) if what == RUN else (TOKENS, 1)
            port = self.connection.port
            asyncio.run(client.measure(port, STREAMS, tokens, times, headers=self.headers))
            return STREAMS * tokens * times
        path = f"/threads/{self.thread_id}" if what == READ else "/threads"
        method, body = ("GET", None) if what == READ else ("POST", "{}")
        for _ in range(REQUESTS):
            ask(self.connection, method, path, self.headers, body)
        return REQUESTS


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Headers,
    body: str | None = None,
) -> tuple[Any, http.client.HTTPMessage]:
    """The answer to a request, and its headers. Raises if it was refused."""
    connection.request(method, path, body, {"content-type": "application/json", **headers})
    response = connection.getresponse()
    answer = response.read()
    if response.status >= 300:
        raise RuntimeError(f"{method} {path} gave {response.status}: {answer[:300]!r}")
    return json.loads(answer), response.headers


@contextmanager
def issuer(folder: Path) -> Iterator[tuple[Path, str]]:
    """A configuration that names an issuer, and a token of theirs; the issuer answers meanwhile."""
    key = ec.generate_private_key(ec.SECP256R1())
    published = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k1", "use": "sig"}
    keys = json.dumps({"keys": [published]}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(keys)))
            self.end_headers()
            self.wfile.write(keys)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        path = folder / "assent.toml"
        path.write_text(
            f'[issuers.corp]\nissuer = "{url}"\njwks = "{url}/keys"\naudience = "assent"\n'
            'algorithm = "ES256"\nallow_http = true\nrole_map = {users = "operator"}\n'
        )
        until = datetime.now(UTC) + timedelta(hours=12)
        claims = {"iss": url, "aud": "assent", "sub": "d", "roles": ["users"], "exp": until}
        thread = SystemThread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield path, jwt.encode(claims, key, algorithm="ES256", headers={"kid": "k1"})
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def contenders() -> Iterator[list[Contender]]:
    """All who take part."""
    with ExitStack() as stack:

        def server(**settings: str) -> tuple[http.client.HTTPConnection, psutil.Process]:
            process, port = stack.enter_context(served(**settings))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            return stack.enter_context(closing(connection)), psutil.Process(process.pid)

        def contender(
            name: str,
            of: tuple[http.client.HTTPConnection, psutil.Process],
            headers: Headers,
        ) -> Contender:
            thread, _ = ask(of[0], "POST", "/threads", headers, "{}")
            return Contender(name, *of, headers, thread["thread_id"])

        found = []
        if tree := os.environ.get("ASSENT_BENCH_BEFORE"):
            found.append(contender(BEFORE, server(PYTHONPATH=tree), {}))
        found.append(contender(NOBODY, server(), {}))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assent-bench-")))
        path, token = stack.enter_context(issuer(folder))
        keyed = server(
            ASSENT_API_KEYS=f"ann:{SECRET}",
            ASSENT_RATE_LIMIT="100000000/minute",
            ASSENT_CONFIG=str(path),
        )
        key = {"authorization": f"Bearer {SECRET}"}
        made, _ = ask(keyed[0], "POST", "/keys", key, '{"roles": ["operator"]}')
        _, answered = ask(keyed[0], "POST", "/session", {}, json.dumps({"key": SECRET}))
        cookie = answered["set-cookie"].partition(";")[0]
        same_site = {"cookie": cookie, "sec-fetch-site": "same-origin"}
        found += [
            contender(SETTINGS, keyed, key),
            contender(STORED, keyed, {"authorization": f"Bearer {made['key']}"}),
            contender(SESSION, keyed, same_site),
            contender(JWT, keyed, {"authorization": f"Bearer {token}"}),
        ]
        yield found


def requests(table: Table) -> None:
    """Measure requests, by whom they are made."""
    with contenders() as found:
        for what, targets in TARGETS.items():
            some = [each for each in found if each.name in {BEFORE, *targets}]
            rounds = [{each.name: each.cpu_of(what) for each in some} for _ in _rounds()]
            add(table, what, rounds[WARM_UP:], targets)


def _rounds() -> range:
    return range(ROUNDS + WARM_UP)


def add(
    table: Table, what: str, rounds: Sequence[Mapping[str, float]], targets: Mapping[str, float]
) -> None:
    """The medians of the rounds, against the first contender."""
    first = next(iter(rounds[0]))
    for name in rounds[0]:
        micros = statistics.median(each[name] for each in rounds) * 1e6
        ratio = statistics.median(each[name] / max(each[first], 1e-9) for each in rounds)
        against = ("", "", "")
        if name != first:
            verdict = "met" if ratio <= targets[name] else "MISSED"
            against = (f"{ratio:.2f}", f"≤ {targets[name]}", verdict)
        table.add_row(what if name == first else "", name, f"{micros:,.0f}", *against)


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────

ALONE, AMONG = "alone", f"among {OWNERS:,} owners"


async def filled(storage: SqliteStorage, owners: int) -> None:
    """Give each of the owners their threads."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(THREADS_EACH):
        rows = []
        for owner in range(owners):
            at = began + timedelta(seconds=number * owners + owner)
            rows.append(
                Thread(
                    thread_id=f"t-{number}-{owner}",
                    owner=f"owner-{owner}",
                    status=ThreadStatus.IDLE,
                    created_at=at,
                    updated_at=at,
                )
            )
        await storage.commit(Change(rows=tuple(rows)))


async def page_seconds(storage: SqliteStorage) -> float:
    """The time of a first page of the first owner's."""
    sight = Sight("own", Owner("owner-0"), (), APPROVES_NOTHING)
    began = time.perf_counter()
    for _ in range(PAGES):
        page = await storage.seen_by(sight).threads(limit=THREADS_EACH)
        assert len(page.rows) == THREADS_EACH
    return (time.perf_counter() - began) / PAGES


async def pages(table: Table) -> None:
    """Measure the first page of an owner."""
    with tempfile.TemporaryDirectory(prefix="assent-bench-") as name:
        folder = Path(name)
        async with (
            SqliteStorage.open(folder / "alone.db") as alone,
            SqliteStorage.open(folder / "among.db") as among,
        ):
            await filled(alone, 1)
            await filled(among, OWNERS)
            rounds = [
                {ALONE: await page_seconds(alone), AMONG: await page_seconds(among)}
                for _ in _rounds()
            ]
    add(table, "a page of threads", rounds[WARM_UP:], {AMONG: PAGE_RATIO})


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    table = Table(
        *("what", "by whom", "µs", "ratio", "target"), "", title="Who asks, and what is theirs"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    requests(table)
    asyncio.run(pages(table))
    Console(width=None if sys.stdout.isatty() else 132).print(table)


if __name__ == "__main__":
    main()
