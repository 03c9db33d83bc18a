"""What a graph puts into the store outlives its thread and the server's process."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support import memory_agent
from tests.support.server import asking, serving

TARGET = f"{memory_agent.__file__}:graph"


async def test_what_was_put_is_there_after_a_kill_and_is_put_once(tmp_path: Path) -> None:
    with serving(tmp_path, TARGET) as server:
        async with asking(server) as api:
            run = await api.run("slow", "learn slowly blue sky")
            await server.until_traced("learned blue sky")
            # The put has returned; the node has not.
            server.restart()
            server.let_go(1)
            # It was cut off, so it runs and puts again: the same item.
            assert (await api.ended(run["run_id"]))["status"] == "success"
            assert server.traces() == ["learned blue sky"] * 2
            await api.run("other", "What do you know?")
            assert await api.last_words("other") == "blue sky"


async def test_a_setting_names_the_embeddings_by_which_a_query_finds(tmp_path: Path) -> None:
    index = {"embed": f"{memory_agent.__file__}:embed", "dims": 4, "fields": ["fact"]}
    with serving(tmp_path, TARGET, ASSENT_STORE_INDEX=json.dumps(index)) as server:
        async with asking(server) as api:
            for fact in ("abba", "ee", "uuu"):
                await api.stream(f"learn {fact}")
            server.restart()
            await api.run("t", "What is like eee?")
            assert (await api.last_words("t")).split("; ")[0] == "ee"
