"""Calls of the model that are made again when the provider fails for a moment.

The retries are of the call, not of the node, though the words for them are LangGraph's
(`RetryPolicy`, `TimeoutPolicy`): so the wait can be as long as the provider asks for, it is told
before it begins, and it does not count against the time that a call may take.

Before each wait a custom event `assent:llm_retry` is dispatched, which both event sources know. In
a program without them, `astream_events` has it, with `{"tries", "delay_seconds", "error": {"type",
"message"}}`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any

from langchain_core.callbacks import (
    BaseCallbackHandler,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.errors import GraphBubbleUp
from langgraph.types import RetryPolicy, TimeoutPolicy

from assent.core.clock import utc_now
from assent.core.errors import ConfigurationError

Retry = RetryPolicy | int | None
Timeout = float | timedelta | TimeoutPolicy | None

LLM_RETRY = "assent:llm_retry"

PASSING_STATUSES = frozenset({408, 409, 425, 429})
"""Besides 500 and above: what a provider may answer otherwise in a moment. OpenAI's and Anthropic's
clients try 409 again too."""

DROPPED_CONNECTIONS = frozenset(
    {"TransportError", "APIConnectionError", "ClientConnectionError", "ClientPayloadError"}
)
"""Classes of httpx, openai and anthropic, and aiohttp. They are known by name, so that none of
these must be installed."""

PASSING_ERRORS = frozenset(
    {
        "overloaded_error",
        "rate_limit_error",
        "api_error",
        "timeout_error",
        "server_error",
        "rate_limit_exceeded",
    }
)
"""What Anthropic and OpenAI call such failures in the middle of a stream, where it is too late for
a status."""


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """A model that is called again by a policy, each try within its time."""

    model: Runnable[LanguageModelInput, AIMessage]
    retry: RetryPolicy
    timeout: TimeoutPolicy | None = None

    def call(self, messages: LanguageModelInput, config: RunnableConfig) -> AIMessage:
        """The model's answer, in a sync run. Raises `ConfigurationError` if it has a time limit:
        only async code can be stopped."""
        if self.timeout is not None:
            raise ConfigurationError(
                "An agent with a model_timeout must be run async: use ainvoke or astream."
            )
        for tries in count(1):
            try:
                return self.model.invoke(messages, config)
            except Exception as error:
                delay = self._delay(error, tries)
                if delay is None:
                    raise
                dispatch_custom_event(LLM_RETRY, _told(error, tries, delay), config=config)
                time.sleep(delay)
        raise AssertionError("tries are counted without end")

    async def acall(self, messages: LanguageModelInput, config: RunnableConfig) -> AIMessage:
        """The model's answer, in an async run. A try that takes too long raises `TimeoutError`, and
        may be followed by another."""
        for tries in count(1):
            try:
                async with _in_time(self.timeout, config) as timed:
                    return await self.model.ainvoke(messages, timed)
            except Exception as error:
                delay = self._delay(error, tries)
                if delay is None:
                    raise
                await adispatch_custom_event(LLM_RETRY, _told(error, tries, delay), config=config)
                await asyncio.sleep(delay)
        raise AssertionError("tries are counted without end")

    def _delay(self, error: Exception, tries: int) -> float | None:
        """How many seconds to wait for the next try, or None if there is none: nor is there if the
        provider asks for too long a wait."""
        if (
            isinstance(error, GraphBubbleUp)
            or tries >= self.retry.max_attempts
            or not _matches(self.retry, error)
        ):
            return None
        asked = retry_after(error)
        if asked > self.retry.max_interval:
            return None
        interval = min(
            self.retry.max_interval,
            self.retry.initial_interval * self.retry.backoff_factor ** (tries - 1),
        )
        return max(asked, interval + random.uniform(0, 1) if self.retry.jitter else interval)


def retry_policy(retry: Retry) -> RetryPolicy:
    """The policy that `model_retry` stands for: so many tries in all, or a policy of the user's.

    A policy that does not say on what is for `is_passing`: LangGraph's own default would repeat a
    request that the provider refused.
    """
    if retry is None:
        return RetryPolicy(max_attempts=1)
    if isinstance(retry, RetryPolicy):
        does_not_say = retry.retry_on is RetryPolicy().retry_on
        return retry._replace(retry_on=is_passing) if does_not_say else retry
    if isinstance(retry, bool) or not isinstance(retry, int) or retry < 1:
        raise ConfigurationError(
            f"model_retry= is {retry!r}. Give it how often to try in all, a langgraph.types.RetryPolicy, or None."
        )
    return RetryPolicy(max_attempts=retry, retry_on=is_passing)


def timeout_policy(timeout: Timeout) -> TimeoutPolicy | None:
    """The policy that `model_timeout` stands for: a number is the seconds that a try may take in
    all."""
    try:
        return TimeoutPolicy.coerce(timeout)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"model_timeout= is {timeout!r}. Give it a number of seconds above 0, or a langgraph.types.TimeoutPolicy."
        ) from error


def is_passing(error: BaseException) -> bool:
    """Whether a provider failed in a way that may pass: it is overloaded (429), failed itself
    (5xx), or the connection was cut.

    Never so for what it refuses (400, 401, 403, 404).
    """
    for each in _causes(error):
        status = status_of(each)
        if status is not None:
            return status in PASSING_STATUSES or status >= 500
        if isinstance(each, ConnectionError | TimeoutError) or _kind_of(each) in PASSING_ERRORS:
            return True
        if not DROPPED_CONNECTIONS.isdisjoint(cls.__name__ for cls in type(each).__mro__):
            return True
    return False


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception of a provider's client carries, by any of the names that
    they have for it."""
    response = getattr(error, "response", None)
    found = [getattr(error, name, None) for name in ("status_code", "status", "code")]
    found.append(getattr(response, "status_code", None))
    return next(
        (int(status) for status in found if isinstance(status, int) and 400 <= status < 600), None
    )


def _kind_of(error: BaseException) -> str:
    """What an error in a stream calls itself: its body is `{"type": …}`, or has that as its
    `error`."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    return str(inner.get("type")) if isinstance(inner, Mapping) else ""


def retry_after(error: BaseException) -> float:
    """How many seconds the provider asks to wait, in its Retry-After; 0 if it asks for none."""
    for each in _causes(error):
        headers = getattr(getattr(each, "response", None), "headers", None)
        if isinstance(headers, Mapping):
            return _seconds(headers.get("retry-after") or headers.get("Retry-After") or "")
    return 0.0


def _seconds(header: str) -> float:
    """A Retry-After is a number of seconds, or a date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max(0.0, (_with_zone(moment) - utc_now()).total_seconds())


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was raised from: LangChain's packages wrap those of the
    clients."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _matches(policy: RetryPolicy, error: Exception) -> bool:
    on: Any = policy.retry_on
    if isinstance(on, Sequence):
        return isinstance(error, tuple(on))
    return isinstance(error, on) if isinstance(on, type) else bool(on(error))


def _told(error: Exception, tries: int, delay: float) -> dict[str, Any]:
    """What is told of a retry. The exception's text may hold anything, so of it there is only the
    status."""
    status = status_of(error)
    return {
        "tries": tries,
        "delay_seconds": round(delay, 3),
        "error": {"type": type(error).__name__, "message": f"HTTP {status}" if status else ""},
    }


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _in_time(
    policy: TimeoutPolicy | None, config: RunnableConfig
) -> AsyncIterator[RunnableConfig]:
    """The config to call the model with, so that what it sends counts as progress. Raises
    `TimeoutError` when its time is up."""
    if policy is None:
        yield config
        return
    # `coerce` has made seconds of them.
    whole, idle = policy.run_timeout, policy.idle_timeout
    try:
        async with asyncio.timeout(whole) as all_of_it, asyncio.timeout(idle) as silence:  # type: ignore[arg-type]
            if idle is None:
                yield config
            else:
                # mypy takes timedelta | float for what the time-out policy has made seconds of.
                progress = _Progress(silence, idle)  # type: ignore[arg-type]
                yield merge_configs(config, {"callbacks": [progress]})
    except TimeoutError as error:
        if all_of_it.expired():
            raise TimeoutError(f"The model did not finish within {whole:g} seconds.") from error
        if silence.expired():
            raise TimeoutError(f"The model sent nothing for {idle:g} seconds.") from error
        raise


class _Progress(BaseCallbackHandler):
    """Begins a limit anew with each piece that a model sends."""

    run_inline = True

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        if not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + self._seconds)
