"""A served file is the same module at every start: what it stored of its own types is read by the
next process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support import typed_agent
from tests.support.server import asking, serving


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """The agent's file, as its developer has it: in no package."""
    return Path(shutil.copy(typed_agent.__file__, tmp_path / "agent.py"))


async def test_a_state_with_types_of_the_served_file_is_read_after_a_restart(agent: Path) -> None:
    folder = agent.parent
    with serving(folder, "agent.py:graph") as server:
        async with asking(server) as api:
            await api.paused("One, please.", thread_id="t")
            before = await api.get("/threads/t/state")
            assert before["values"]["order"] == {"colour": "red", "size": 3}

            server.restart()
            assert await api.get("/threads/t/state") == before
            await api.decided("t", type="respond", message="yes")
            assert await api.last_words("t") == "yes: 3 of RED"
            assert len(await api.get("/threads/t/history")) > 3


async def test_so_is_one_of_two_files_that_are_called_the_same(agent: Path) -> None:
    folder = agent.parent
    for name in ("first", "second"):
        (folder / name).mkdir()
        shutil.copy(agent, folder / name / "agent.py")
    graphs = {name: f"./{name}/agent.py:graph" for name in ("first", "second")}
    project = folder / "langgraph.json"
    project.write_text(json.dumps({"graphs": graphs}))
    with serving(folder, str(project)) as server:
        async with asking(server) as api:
            for name in graphs:
                await api.paused("One, please.", thread_id=name, agent=name)

            # Somebody lists them in another order, so they are loaded in another order.
            project.write_text(json.dumps({"graphs": dict(reversed(graphs.items()))}))
            server.restart()
            for name in graphs:
                await api.decided(name, type="respond", message="yes")
                assert await api.last_words(name) == "yes: 3 of RED"
