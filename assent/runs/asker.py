"""Whoever asks, as their agent sees them."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig

from assent.core.assistants import assistant_id_of, assistant_in
from assent.core.audit import LOCAL
from assent.core.rows import Run
from assent.core.run_input import given_in


class Asker(dict[str, Any]):
    """A person in `langgraph_auth_user`: LangGraph reads `.identity`, and code may read
    `["identity"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def asker(run: Run) -> Asker:
    """The owner of the run, with what the app around the server says of them. A run that goes on
    after a pause has the owner of the one that paused, and not those who decided."""
    known = given_in(run.input).user or {}
    usual = {"display_name": run.owner, "permissions": [], "is_authenticated": run.owner != LOCAL}
    return Asker({**usual, **known, "identity": run.owner})


def add_asker(config: RunnableConfig, run: Run) -> None:
    """Say in the config of a run's graph who asks, and which agent, as LangGraph's server does."""
    config["configurable"].update(
        langgraph_auth_user=asker(run),
        langgraph_auth_user_id=run.owner,
        graph_id=run.agent,
        assistant_id=assistant_in(run.input) or assistant_id_of(run.agent),
    )
