"""A server that is killed just before or just after it stores who may do what, or that something is
gone: whoever comes back finds the one or the other whole.

Kills at random instants, while people sign in, are in test_sign_in_kills.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal

import httpx
import pytest

from tests.support.command import run
from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import JSON, Api, Server, asking, expect, problem, serving

Moment = Literal["before", "after"]

HELD = "SELECT kind, amount FROM holdings WHERE owner = 'ann' AND kind IN ('threads', 'pending')"
PRESENT = """
    SELECT 'threads', count(*) FROM threads WHERE owner = 'ann'
    UNION ALL SELECT 'pending', count(*) FROM runs WHERE owner = 'ann' AND status = 'pending'
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("killed")
    with serving(
        folder,
        ASSENT_API_KEYS=keys_of("ann"),
        BEFORE_SERVING="tests.support.dying:install",
        DIES=str(folder / "dies"),
    ) as server:
        yield server


async def killed(
    server: Server, moment: Moment, commit: str, asked: Callable[[], Awaitable[httpx.Response]]
) -> None:
    """Ask for something that makes this commit, have the server die about it, and start it again."""
    (server.folder / "dies").write_text(f"{moment} {commit}")
    with pytest.raises(httpx.TransportError):
        await asked()
    server.wait_for_death()
    server.restart()


async def keys(ann: Api) -> list[Any]:
    return list((await ann.get("/keys", limit=1000))["keys"])


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_each_of_these_is_done_or_not_when_the_server_is_back(
    server: Server, moment: Moment
) -> None:
    is_done = moment == "after"
    async with asking(server, **bearer("ann")) as ann:
        # A key is made. Nobody has seen it, so it must be there to be revoked.
        known = {each["key_id"] for each in await keys(ann)}
        body = {"roles": ["viewer"], "note": "unseen"}
        await killed(server, moment, "ApiKey", lambda: ann.http.post("/keys", json=body))
        new = [each for each in await keys(ann) if each["key_id"] not in known]
        assert [each["note"] for each in new] == ["unseen"] * is_done
        for each in new:
            await expect(await ann.http.delete(f"/keys/{each['key_id']}"), 200)

        # A key is revoked.
        made = (await expect(await ann.http.post("/keys", json={"roles": ["viewer"]}), 201)).json()
        path = f"/keys/{made['key_id']}"
        await killed(server, moment, "ApiKey", lambda: ann.http.delete(path))
        async with asking(server, **{"x-api-key": made["key"]}) as other:
            assert (await other.http.get("/me")).status_code == (401 if is_done else 200)

        # A ticket is used.
        await expect(await ann.http.post("/threads", json={"thread_id": moment}), 200)
        events = f"/threads/{moment}/events"
        ticket = {"path": events, "transport": "sse"}
        made = (await expect(await ann.http.post("/stream-tickets", json=ticket), 201)).json()
        async with asking(server, **JSON) as page:

            async def opened() -> httpx.Response:
                return await page.http.get(events, params={"ticket": made["ticket"]})

            await killed(server, moment, "-Ticket", opened)
            assert (await opened()).status_code == (401 if is_done else 200)
            assert (await opened()).status_code == 401

        # A thread is deleted: what its owner has is what is there.
        path = f"/threads/{moment}"
        await killed(server, moment, "erase", lambda: ann.http.delete(path))
        assert (await ann.http.get(path)).status_code == (404 if is_done else 200)
        held = {"threads": 0, "pending": 0} | dict(server.sql(HELD))
        assert held == dict(server.sql(PRESENT))

    # A session is ended.
    async with asking(server) as browser:
        signing = await browser.http.post("/session", json={"key": secret_of("ann")})
        cookie = (await expect(signing, 200)).headers["set-cookie"].split(";")[0]
    page = {"cookie": cookie, "sec-fetch-site": "same-origin"}
    async with asking(server, **page) as browser:
        await killed(server, moment, "-Session", lambda: browser.http.delete("/session"))
        if is_done:
            await problem(await browser.http.get("/me"), 401)
        else:
            await expect(await browser.http.get("/me"), 200)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_move_to_another_owner_is_gone_on_with(server: Server, moment: Moment) -> None:
    owners = "SELECT owner, count(*) FROM threads WHERE thread_id LIKE 'moved-%' GROUP BY owner"
    new = f"bob-{moment}"
    async with asking(server, **bearer("ann")) as ann:
        for number in range(3):
            body = {"thread_id": f"moved-{moment}-{number}"}
            await expect(await ann.http.post("/threads", json=body), 200)
    server.kill()
    try:
        (server.folder / "dies").write_text(f"{moment} Thread")

        def move() -> int:
            arguments = ["owners", "move", "ann", new]
            return run(arguments, folder=server.folder, environment=server.environment).returncode

        assert move() != 0
        found = dict(server.sql(owners))
        assert found.get(new, 0) == (1 if moment == "after" else 0)
        assert move() == 0
        assert dict(server.sql(owners))[new] == 3
        assert server.sql("SELECT * FROM threads WHERE owner = 'ann'") == []
        left = server.sql("SELECT amount FROM holdings WHERE owner = 'ann' AND kind = 'threads'")
        held = server.sql("SELECT amount FROM holdings WHERE owner = ? AND kind = 'threads'", new)
        there = server.sql("SELECT count(*) FROM threads WHERE owner = ?", new)
        assert sum(amount for (amount,) in left) == 0
        assert held == there
    finally:
        server.start()
