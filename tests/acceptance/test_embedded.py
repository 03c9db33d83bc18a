"""`Assent` mounted under `/ai` in an app of somebody's own, served by uvicorn and killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import started
from tests.support.server import Server, asking, expect, problem, types_of
from tests.support.waiting import until
from tests.support.zygote import UVICORN


class Shop(Server):
    """A shop's app as a process, with the agent under `/ai`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, None, {})
        self.shop_url = self.url
        self.url = f"{self.shop_url}/ai"

    def launch(self) -> None:
        options = ["--port", str(self.port), "--timeout-graceful-shutdown", "3"]
        self._process = started(
            ["tests.support.host_app:app", *options],
            folder=self.folder,
            environment=self.environment,
            log=self._log,
            program=UVICORN,
        )

    def answers(self) -> bool:
        return self.is_listening()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    try:
        shop.start()
        yield shop
    finally:
        shop.kill()
        sys.stdout.write(shop.output[-20_000:])


async def test_killed_while_a_gated_tool_runs_it_asks_and_goes_on_under_its_prefix(
    shop: Shop,
) -> None:
    async with asking(shop, **{"x-user": "ann"}) as ann, asking(shop, **{"x-user": "bob"}) as bob:
        answer = await expect(await ann.http.get(f"{shop.shop_url}/stock"), 200)
        assert (answer.json(), answer.headers["x-shop"]) == (["tea"], "1")
        await problem(await ann.http.get("/threads", headers={"x-user": ""}), 401)

        (approval,) = await ann.paused("slow 5", thread_id="t")
        assert approval["requested_by"] == ["ann"]
        shop.restart()
        assert await ann.pending("t") == [approval]
        decided = await bob.resume("t", type="approve", digest=approval["digest"])
        location = (await expect(decided, 202)).headers["location"]
        assert location.startswith("/ai/threads/t/events?after=")
        assert decided.headers["x-shop"] == "1"

        await shop.until_traced("slow 5")
        shop.restart()
        await bob.until("t", "run_paused", after=int(location.partition("=")[2]))
        (asked,) = await bob.pending("t")
        assert (asked["kind"], asked["args"]) == ("unknown_outcome", {"amount": 5})
        assert shop.traces() == ["slow 5"]

        await bob.decided("t", type="respond", message="the bank says it was paid")
        assert await ann.last_words("t") == "Results: the bank says it was paid"
        assert types_of(await ann.events("t"))[-1] == "done"
        records = (await bob.get("/audit"))["audit"]
        people = {(each["actor"], each["authentication"]) for each in records if each["actor"]}
        assert people == {("bob", "host")}
    assert shop.traces() == ["slow 5"]


async def test_one_process_serves_and_at_a_signal_runs_reach_the_end_of_a_step(shop: Shop) -> None:
    second = Shop(shop.folder)
    second.launch()
    try:
        async with asking(shop, **{"x-user": "ann"}) as ann:
            await ann.paused("slow 7; pay 8", thread_id="t")
            await ann.decided("t", type="approve", all=True)
            await shop.until_traced("slow 7")
            await until(lambda: not second.is_running)
            assert "another Assent process" in second.output

            shop.let_go(7)
            shop.terminate()
            shop.start()
            assert await ann.last_words("t") == "Results: slowly paid 7 | paid 8"
    finally:
        second.kill()
    assert sorted(shop.traces()) == ["pay 8", "slow 7"]
