"""The records clerk: a real agent over a real SQLite file, with an offline model.

samples.py     the sample records
records.py     the SQLite table and its statements
tools.py       the four tools, and the previews of the two that need approval
filters.py     English words -> which records
requests.py    a message -> words and tool calls
answers.py     the tools' results -> words
model.py       the chat model around these rules
agent.py       all of it, put together
"""

from assent.demo.agent import build_clerk, open_clerk
from assent.demo.model import ClerkModel
from assent.demo.records import Records

__all__ = ["ClerkModel", "Records", "build_clerk", "open_clerk"]
