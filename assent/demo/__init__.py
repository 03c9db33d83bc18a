"""The records clerk: a real agent over a real SQLite file, with an offline model.

samples.py     the sample records
records.py     the SQLite table and its statements
tools.py       the four tools, and the previews of the two that need approval
filters.py     the filter of a tool call -> words
requests.py    a few fixed phrases -> words and tool calls
replies.py     the tools' results -> words
model.py       the chat model around these rules
agent.py       the agent of all this
"""

from assent.demo.agent import build_clerk, open_clerk
from assent.demo.model import ClerkModel
from assent.demo.records import Records

__all__ = ["ClerkModel", "Records", "build_clerk", "open_clerk"]
