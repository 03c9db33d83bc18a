"""An agent of OpenAI's, at the address in `PROVIDER`, that asks before it pays; to be served as this
file."""

from __future__ import annotations

import os

from langchain_openai import ChatOpenAI

from assent import build_hitl_agent
from tests.support.agents import pay

model = ChatOpenAI(model="gpt-4o-mini", base_url=os.environ["PROVIDER"], api_key="test")  # type: ignore[arg-type]
agent = build_hitl_agent(model, [pay], approve="pay", name="seeing")
