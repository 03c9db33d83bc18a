"""What the model is told about a tool that raised."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from langchain_core.tools import BaseTool, ToolException
from langgraph.prebuilt.tool_node import ToolInvocationError
from pydantic import BaseModel

logger = logging.getLogger(__name__)


class GateError(Exception):
    """Something around a call failed, such as its ledger, and not the call itself. It must end the
    run: as the tool's failure, it would invite the model to repeat a call that may have
    happened."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def tool_error(tools: Mapping[str, BaseTool]) -> Callable[[Exception], str]:
    """The message about an exception from a call of one of these tools. A failure of the gate is
    raised, and ends the run."""

    def message(error: Exception) -> str:
        if isinstance(error, GateError):
            raise error.cause
        tool = tools.get(error.tool_name) if isinstance(error, ToolInvocationError) else None
        return error_message(error, tool)

    return message


def gate_error(error: GateError) -> str:
    """Raise a failure of the gate, which ends the run; LangGraph lets all else go by."""
    raise error.cause


def error_message(error: Exception, tool: BaseTool | None) -> str:
    """The message to the model.

    A `ToolException` is written for the model. The text of any other error may hold what nobody
    outside should see, so the model gets its class and the log the rest.
    """
    if isinstance(error, ToolInvocationError) and not is_about_arguments(error, tool):
        error = error.source
    elif isinstance(error, ToolException):
        return str(error)
    logger.warning("A tool failed.", exc_info=error)
    return f"The tool failed with {type(error).__name__}."


def is_about_arguments(error: ToolInvocationError, tool: BaseTool | None) -> bool:
    """True if the call's arguments were refused. For a `ValidationError` from within the tool,
    LangGraph also raises this error, and asks the model to repeat a call that may have happened."""
    if tool is None:
        return error.source.title == BaseModel.__name__
    schema = tool.get_input_schema()
    return error.source.title in (schema.__name__, getattr(schema, "model_config", {}).get("title"))
