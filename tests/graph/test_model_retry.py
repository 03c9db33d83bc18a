"""Which failures of a provider pass, how long to wait, and what an agent may be told of it. The
rest is in test_provider.py."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.errors import GraphInterrupt
from langgraph.types import RetryPolicy, TimeoutPolicy

from assent.core.clock import utc_now
from assent.core.errors import ConfigurationError
from assent.graph.model_retry import is_transient, retry_after, retry_policy, status_of
from tests.graph.harness import ASKED, THREAD, AgentHarness
from tests.support.models import say
from tests.support.waiting import PATIENCE

REQUEST = httpx.Request("POST", "http://provider")
QUICK = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3)


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, request=REQUEST)


class WithCode(Exception):
    """As Google's clients raise."""

    def __init__(self, code: Any) -> None:
        super().__init__("It failed.")
        self.code = code


class ClientPayloadError(Exception):
    """As aiohttp raises."""


class InStream(Exception):
    """As Anthropic's client raises what a stream says after it has begun well."""

    status_code = 200

    def __init__(self, kind: str) -> None:
        super().__init__("It failed.")
        self.body = {"type": "error", "error": {"type": kind, "message": "Overloaded"}}


def wrapped(error: Exception) -> Exception:
    """As LangChain's packages raise."""
    outer = RuntimeError("Error calling the model")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *(
            (openai.APIStatusError("no", response=answer(status), body=None), True)
            for status in (408, 409, 429, 500, 502, 503, 529)
        ),
        *(
            (openai.APIStatusError("no", response=answer(status), body=None), False)
            for status in (400, 401, 403, 404, 413, 422)
        ),
        (openai.APIConnectionError(request=REQUEST), True),
        (openai.APITimeoutError(request=REQUEST), True),
        (httpx.HTTPStatusError("no", request=REQUEST, response=answer(503)), True),
        (httpx.HTTPStatusError("no", request=REQUEST, response=answer(400)), False),
        (httpx.RemoteProtocolError("peer closed connection"), True),
        (httpx.ReadTimeout("slow"), True),
        (httpx.InvalidURL("what"), False),
        (WithCode(429), True),
        (WithCode(HTTPStatus.SERVICE_UNAVAILABLE), True),
        (WithCode(HTTPStatus.NOT_FOUND), False),
        (WithCode("rate_limit"), False),
        (ClientPayloadError(), True),
        (InStream("overloaded_error"), True),
        (InStream("invalid_request_error"), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (wrapped(httpx.ConnectError("no route")), True),
        (wrapped(openai.APIStatusError("no", response=answer(400), body=None)), False),
        (ValueError("400"), False),
        (OSError("disk full"), False),
        (RuntimeError(), False),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {status_of(value)}" if isinstance(value, Exception) else ""
    ),
)
def test_which_failures_pass(error: Exception, passes: bool) -> None:
    assert is_transient(error) is passes


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("0.5", 0.5, 0.5), ("-3", 0, 0), ("soon", 0, 0), ("", 0, 0)],
)
def test_how_long_a_provider_asks_to_wait(header: str, least: float, most: float) -> None:
    error = openai.APIStatusError("no", response=answer(429, **{"Retry-After": header}), body=None)
    assert least <= retry_after(error) <= most
    assert least <= retry_after(wrapped(error)) <= most


def test_a_provider_may_name_the_moment() -> None:
    moment = format_datetime(utc_now() + timedelta(seconds=30), usegmt=False)
    error = openai.APIStatusError("no", response=answer(429, **{"Retry-After": moment}), body=None)
    assert 28 <= retry_after(error) <= 30


@pytest.mark.parametrize("retry", [0, -1, True, 2.5, "often"])
def test_retries_that_make_no_sense_are_refused(retry: Any) -> None:
    with pytest.raises(ConfigurationError, match="how often to try"):
        AgentHarness().agent(model_retry=retry)


@pytest.mark.parametrize("timeout", [0, -1, "long", TimeoutPolicy(run_timeout=-1)])
def test_limits_that_make_no_sense_are_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="model_timeout="):
        AgentHarness().agent(model_timeout=timeout)


def test_a_policy_that_does_not_say_on_what_is_for_failures_that_pass() -> None:
    """LangGraph's default is for everything but a few classes, and would repeat a request that the
    provider refused."""
    assert retry_policy(RetryPolicy(max_attempts=5)) == RetryPolicy(
        max_attempts=5, retry_on=is_transient
    )
    assert retry_policy(RetryPolicy(retry_on=ValueError)).retry_on is ValueError


@pytest.mark.parametrize(
    "on",
    [KeyError, (KeyError, IndexError), [KeyError], lambda error: isinstance(error, KeyError)],
    ids=["class", "tuple", "list", "function"],
)
async def test_a_policy_may_say_on_what(on: Any) -> None:
    policy = QUICK._replace(retry_on=on)
    agent = AgentHarness().agent(KeyError("x"), KeyError("x"), say("Done."), model_retry=policy)
    assert (await agent.ainvoke(ASKED, THREAD))["messages"][-1].text == "Done."
    with pytest.raises(ConnectionError):
        await (
            AgentHarness()
            .agent(ConnectionError(), say("Done."), model_retry=policy)
            .ainvoke(ASKED, THREAD)
        )


@pytest.mark.parametrize("retry", [None, 1])
async def test_without_retries_the_first_failure_ends_the_run(retry: Any) -> None:
    with pytest.raises(ConnectionError):
        await (
            AgentHarness()
            .agent(ConnectionError(), say("Done."), model_retry=retry)
            .ainvoke(ASKED, THREAD)
        )


async def test_an_interrupt_is_never_taken_for_a_failure() -> None:
    asked = 0

    def interrupting(history: list[BaseMessage]) -> AIMessage | BaseException:
        nonlocal asked
        asked += 1
        return GraphInterrupt(())

    await (
        AgentHarness()
        .agent(interrupting, interrupting, model_retry=QUICK._replace(retry_on=Exception))
        .ainvoke(ASKED, THREAD)
    )
    assert asked == 1


def test_a_sync_run_cannot_stop_a_model() -> None:
    with pytest.raises(ConfigurationError, match="must be run async"):
        AgentHarness().agent(say("Done."), model_timeout=5).invoke(ASKED, THREAD)


async def test_a_wait_ends_at_once_when_the_run_is_cancelled() -> None:
    agent = AgentHarness().agent(
        ConnectionError(), say("Done."), model_retry=RetryPolicy(initial_interval=3600)
    )
    events: list[Any] = []

    async def run() -> None:
        async for event in agent.astream_events(ASKED, THREAD, version="v2"):
            events.append(event)
            if event["event"] == "on_custom_event":
                waiting.set()

    waiting = asyncio.Event()
    running = asyncio.create_task(run())
    async with asyncio.timeout(PATIENCE):
        await waiting.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    told = events[-1]
    assert (told["name"], told["data"]["error"]) == (
        "assent:llm_retry",
        {"type": "ConnectionError", "message": ""},
    )
