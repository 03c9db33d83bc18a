"""Which recursion limit a run has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

from assent.config.file import read_configuration
from assent.core.audit import Actor
from assent.core.errors import ConfigurationError, InvalidRequest
from assent.core.rows import RunStatus
from assent.core.run_input import RunInput
from assent.runs.budgets import Budgets, Windowed
from assent.runs.opening import open_runs
from assent.runs.recursion import MOST, RecursionLimits
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.waiting import until


def around(**config: Any) -> Any:
    """A graph that never comes to its end."""
    graph = StateGraph(MessagesState).add_node("again", lambda state: {}).add_edge(START, "again")
    return graph.add_edge("again", "again").compile().with_config(**config)


OWN = around(recursion_limit=30)
NONE = around()
LIMITS = RecursionLimits(default=20, agents={"named": 40}, most=50)


@pytest.mark.parametrize(
    ("name", "agent", "requested", "limit"),
    [
        ("other", NONE, None, 20),
        ("other", OWN, None, 30),
        ("named", OWN, None, 40),
        ("named", OWN, 10, 10),
        ("other", around(recursion_limit=60), None, 50),
    ],
)
def test_whose_limit_counts(name: str, agent: Any, requested: int | None, limit: int) -> None:
    assert LIMITS.of(name, agent, requested) == limit


def test_unless_anybody_says_otherwise_it_is_langgraph_s_up_to_the_highest() -> None:
    assert RecursionLimits().of("other", NONE, None) == MOST
    assert RecursionLimits(most=20_000).of("other", NONE, None) > MOST


def test_a_limit_that_cannot_be_is_refused(tmp_path: Path) -> None:
    LIMITS.check_highest()
    with pytest.raises(ConfigurationError, match="ASSENT_MAX_RECURSION_LIMIT is 30"):
        RecursionLimits(agents={"named": 40}, most=30).check_highest()
    LIMITS.check_requested(50)
    with pytest.raises(InvalidRequest, match="at most 50"):
        LIMITS.check_requested(51)


@pytest.mark.parametrize(
    ("what", "limits"),
    [
        ("recursion limit", {"recursion": RecursionLimits(agents={"clark": 40})}),
        ("budget", {"budgets": Budgets(agents={"clark": Windowed(cost=1)})}),
    ],
)
async def test_a_limit_of_an_agent_that_there_is_not_is_refused(
    tmp_path: Path, what: str, limits: Any
) -> None:
    agents = {"clerk": around(recursion_limit=7)}
    said = rf"a {what} for the agent 'clark', and no such agent\. There are: clerk\."
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        with pytest.raises(ConfigurationError, match=said):
            async with open_runs(storage, agents, **limits):
                pass


def test_the_operator_writes_the_limits_of_agents(tmp_path: Path) -> None:
    file = tmp_path / "assent.toml"
    file.write_text("[recursion_limits]\nclerk = 50\n")
    assert read_configuration(file, {}).recursion_limits == {"clerk": 50}
    for wrong in ("0", '"many"', "true", "1.5"):
        file.write_text(f"[recursion_limits]\nclerk = {wrong}\n")
        with pytest.raises(ConfigurationError, match="a number from 1 for each agent"):
            read_configuration(file, {})


@pytest.mark.parametrize(("requested", "steps"), [(None, 7), (4, 4)])
async def test_a_run_takes_so_many_steps(tmp_path: Path, requested: int | None, steps: int) -> None:
    agents = {"around": around(recursion_limit=7)}
    async with SqliteStorage.open(tmp_path / "a.db") as storage, open_runs(storage, agents) as runs:
        asked = Submission(given=RunInput("Go."), by=Actor("ann"), recursion_limit=requested)
        run = (await runs.submit(asked)).run
        await until(lambda: ended(storage, run.run_id))
        stored = await storage.run(run.run_id)
        assert stored is not None and stored.error is not None
        assert (stored.status, stored.error["code"]) == (RunStatus.ERROR, "recursion_limit")
        assert stored.usage["steps"] == steps


async def ended(storage: Any, run_id: str) -> bool:
    return (await storage.run(run_id)).ended_at is not None
