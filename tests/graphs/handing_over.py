"""The tool by which an agent hands a conversation over to another in the graph around both."""

from __future__ import annotations

from langchain.tools import ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.types import Command


def hands_over_to(name: str) -> BaseTool:
    """The tool `transfer_to_<name>`."""

    @tool(f"transfer_to_{name}")
    def transfer(runtime: ToolRuntime) -> Command[str]:
        """Let another agent go on."""
        told = ToolMessage(f"{name} goes on.", tool_call_id=runtime.tool_call_id)
        messages = [*runtime.state["messages"], told]
        update = {"messages": messages, "active": name}
        return Command(goto=name, graph=Command.PARENT, update=update)

    return transfer
