"""A route of FastAPI that streams an agent's answer as Server-Sent Events.

python sse_route.py 8000
curl -N localhost:8000/agent/stream --json '{"message": "How many records?", "thread_id": "a"}'
"""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager

import structlog
import uvicorn
from agent import open_agent
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

logger = structlog.get_logger(__name__)
router = APIRouter(tags=["streaming"])


class AgentRequest(BaseModel):
    message: str
    thread_id: str


async def get_graph(request: Request):
    return request.app.state.graph


@router.post("/agent/stream")
async def stream_agent(request: AgentRequest, graph=Depends(get_graph)) -> StreamingResponse:
    """Stream agent responses as Server-Sent Events (SSE)."""

    async def sse_generator():
        try:
            async for event in graph.astream_events(
                {"messages": [HumanMessage(content=request.message)]},
                config={"configurable": {"thread_id": request.thread_id}, "recursion_limit": 25},
                version="v2",
            ):
                kind = event["event"]

                if kind == "on_chat_model_stream":
                    content = event["data"]["chunk"].content
                    if content:
                        yield f"data: {json.dumps({'type': 'token', 'content': content})}\n\n"

                elif kind == "on_tool_start":
                    yield f"data: {json.dumps({'type': 'tool_start', 'tool': event['name']})}\n\n"

                elif kind == "on_tool_end":
                    output = str(event["data"].get("output", ""))[:200]
                    end = {"type": "tool_end", "tool": event["name"], "output": output}
                    yield f"data: {json.dumps(end)}\n\n"

            yield f"data: {json.dumps({'type': 'done'})}\n\n"

        except Exception as e:
            logger.error("stream_error", error=str(e), thread_id=request.thread_id)
            yield f"data: {json.dumps({'type': 'error', 'message': str(e)})}\n\n"

    headers = {"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"}
    return StreamingResponse(sse_generator(), media_type="text/event-stream", headers=headers)


@asynccontextmanager
async def lifespan(app):
    app.state.graph = await open_agent()
    yield


app = FastAPI(lifespan=lifespan)
app.include_router(router)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]))
