"""The names of those who asked and who approved, in tools of a real server that is killed in
between."""

from __future__ import annotations

from pathlib import Path

from tests.support import asked_agent
from tests.support.server import asking, serving

KEYS = {
    "ASSENT_API_KEYS": "ann:secret-of-ann,bob:secret-of-bob,eve:secret-of-eve",
    "ASSENT_ROLES": "bob:operator approver auditor",
}
POLICIES = """
[policies.agents.agent.tools.pay]
quorum = 2
"""


async def test_a_tool_knows_both_also_when_the_server_dies_in_it(tmp_path: Path) -> None:
    file = tmp_path / "assent.toml"
    file.write_text(POLICIES)
    target = f"{asked_agent.__file__}:graph"
    with serving(tmp_path, target, ASSENT_CONFIG=str(file), **KEYS) as server:
        async with asking(server, Authorization="Bearer secret-of-ann") as ann:
            (asked,) = await ann.paused("3", thread_id="t")
        server.restart()
        votes = {asked["approval_id"]: {"type": "approve"}}
        async with asking(server, Authorization="Bearer secret-of-bob") as bob:
            await bob.decided("t", decisions=votes)
        async with asking(server, Authorization="Bearer secret-of-eve") as eve:
            await eve.decided("t", decisions=votes)
        server.wait_for_death()
        server.restart()
        async with asking(server, Authorization="Bearer secret-of-bob") as bob:
            await bob.at_rest("t")
            assert await bob.last_words("t") == "paid 3"
        said = "pay 3: for ann, approved by bob,eve"
        assert server.traces() == [said, said]
