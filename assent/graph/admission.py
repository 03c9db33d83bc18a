"""Whether a tool may be called now, asked of whoever counts the calls of a run.

A call that is not admitted has not begun: its task is left for the run that goes on, which asks
anew. Its siblings run to their end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from langgraph.errors import GraphInterrupt
from langgraph.prebuilt.tool_node import ToolCallRequest

ADMISSION_KEY = "__assent_admission"
"""Where in `config["configurable"]` a run carries its `Admission`. LangGraph keeps names that start
with `__` out of checkpoints."""

Admission = Callable[[str, str], Awaitable[bool]]
"""Says whether the task with the first id may begin the call with the second, or go on with it."""


async def hold_back(request: ToolCallRequest) -> None:
    """Raise `GraphInterrupt`, which leaves the task as it is, if the call is not admitted."""
    admission: Admission | None = request.runtime.config.get("configurable", {}).get(ADMISSION_KEY)
    info = request.runtime.execution_info
    if (
        admission is not None
        and info is not None
        and not await admission(info.task_id, request.tool_call["id"] or "")
    ):
        # It carries no question: what a person is asked is not about this call.
        raise GraphInterrupt()
