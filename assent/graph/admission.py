"""Admission of tool calls by the budgets of a run.

A call that is not admitted has not begun. Its task stays for the run that goes on, which asks
again; the calls beside it run to their end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from langgraph.errors import GraphInterrupt
from langgraph.prebuilt.tool_node import ToolCallRequest

ADMISSION_KEY = "__assent_admission"
"""The key of a run's `Admission` in `config["configurable"]`. LangGraph keeps names that start with
`__` out of checkpoints."""

Admission = Callable[[str, str], Awaitable[bool]]
"""Given a task id and a tool call id, true if the task may begin the call, or go on with it."""


async def hold_back(request: ToolCallRequest) -> None:
    """Raise `GraphInterrupt`, which leaves the task as it is, if the call is not admitted."""
    runtime = request.runtime
    admission: Admission | None = runtime.config.get("configurable", {}).get(ADMISSION_KEY)
    if admission is None or runtime.execution_info is None:
        return
    task_id = runtime.execution_info.task_id
    if not await admission(task_id, request.tool_call["id"] or ""):
        # It carries no question: a person is asked about the budget, not about this call.
        raise GraphInterrupt()
