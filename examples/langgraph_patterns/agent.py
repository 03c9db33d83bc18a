"""The agent of these examples: it looks records up, and asks a person before it changes or deletes
any. It works offline, on 3,000 sample records in `records.db`: put your own model and tools in.
"""

from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver

from assent import build_hitl_agent
from assent.demo import ClerkModel, Records
from assent.demo.tools import record_tools


async def open_agent(delete=True, **options):
    """The agent. `delete` is the policy of its tool that deletes."""
    records = await Records.open(Path("records.db"))
    return build_hitl_agent(
        ClerkModel(),
        record_tools(records),
        approve={"update_record": True, "delete_records": delete},
        checkpointer=InMemorySaver(),
        name="clerk",
        **options,
    )
