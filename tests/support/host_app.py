"""A shop's own app with an agent in it, to be served by uvicorn: `Assent` is mounted under `/ai`
beside a route, a middleware and a lifespan of the shop's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Header, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

from assent import Assent
from tests.support.agents import agent


async def logged_in_user(x_user: str | None = Header(None)) -> dict[str, Any] | None:
    """The person that the shop's own proxy has logged in. Bob looks after the others."""
    if not x_user:
        return None
    more = ["auditor"] if x_user == "bob" else []
    return {"identity": x_user, "assent_roles": ["operator", "approver", *more]}


assent = Assent({"agent": agent}, database=os.environ["ASSENT_DATABASE"], auth=logged_in_user)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.stock = ["tea"]
    async with assent:
        yield


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def stamped(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers["x-shop"] = "1"
    return response


@app.get("/stock")
async def stock(request: Request) -> list[str]:
    found: list[str] = request.app.state.stock
    return found


app.mount("/ai", assent.app)
