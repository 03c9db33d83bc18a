"""`assent backup` beside a running server, and a server over the copy."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

from typer.testing import CliRunner

from assent.cli.app import app
from tests.support.keys import KEY
from tests.support.server import Server, asking, problem, scripted_agents, serving


def back_up(server: Server, copy: Path, status: int = 0) -> str:
    """Run the command with the server's settings; what it said."""
    result = CliRunner().invoke(app, ["backup", str(copy)], env=server.environment)
    assert result.exit_code == status, result.output
    return result.output


async def test_a_server_goes_on_from_a_copy_of_one_that_ran_on(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    target = scripted_agents(tmp_path, "agent")
    with serving(old, target, ASSENT_ENCRYPTION_KEY=KEY) as server:
        async with asking(server) as api:
            await api.paused("pay 5", thread_id="t")
            said = await asyncio.to_thread(back_up, server, new / "assent.db")
            key = old / "assent.db.audit-key"
            assert re.fullmatch(
                rf"Copied {old}/assent\.db to {new}/assent\.db, [\d.]+ MiB\.\n"
                rf"These keys were not copied\..*\n  ASSENT_ENCRYPTION_KEY: \w+\n  {key}\n",
                said,
            )
            assert "There is a file" in back_up(server, new / "assent.db", status=2)
            await api.decided("t", type="approve")
            assert await api.last_words("t") == "Results: paid 5"
            last = (await api.events("t"))[-1]["seq"]

    shutil.copy(key, new)
    with serving(new, target, ASSENT_ENCRYPTION_KEY=KEY) as server:
        async with asking(server) as api:
            # Here nobody has decided yet.
            seen = {"Last-Event-ID": str(last)}
            await problem(await api.http.get("/threads/t/events", headers=seen), 410)
            await api.decided("t", type="reject", message="no")
            assert "no" in await api.last_words("t")
            assert server.traces() == []
