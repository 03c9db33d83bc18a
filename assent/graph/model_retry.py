"""Repeated calls of a model whose provider fails for a moment.

The call is retried, not the node, though the words are LangGraph's (`RetryPolicy`,
`TimeoutPolicy`): so the wait can be as long as the provider asks for, it is announced before it
begins, and it does not count against the time limit of a call.

Before each wait a custom event `assent:llm_retry` is dispatched, with `{"tries", "delay_seconds",
"error": {"type", "message"}}`. Both event sources turn it into an `llm_retry`; a program without
them finds it in `astream_events`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
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

TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may succeed. OpenAI's and Anthropic's clients
retry 409 too."""

CONNECTION_ERRORS = frozenset(
    {"TransportError", "APIConnectionError", "ClientConnectionError", "ClientPayloadError"}
)
"""Classes of httpx, openai and anthropic, and aiohttp. They are known by name, so that none of
these packages must be installed."""

TRANSIENT_ERRORS = frozenset(
    {
        "overloaded_error",
        "rate_limit_error",
        "api_error",
        "timeout_error",
        "server_error",
        "rate_limit_exceeded",
    }
)
"""Anthropic's and OpenAI's names for transient errors in the middle of a stream, where it is too
late for a status."""


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """A model that is called again by a policy, each try within its time limit."""

    model: Runnable[LanguageModelInput, AIMessage]
    retry: RetryPolicy
    timeout: TimeoutPolicy | None = None

    def call(self, messages: LanguageModelInput, config: RunnableConfig) -> AIMessage:
        """Call the model in a sync run. Raises `ConfigurationError` if it has a time limit: only
        async code can be stopped."""
        if self.timeout is not None:
            raise ConfigurationError(
                "An agent with a model_timeout must be run async: use ainvoke or astream."
            )
        tries = 0
        while True:
            tries += 1
            try:
                return self.model.invoke(messages, config)
            except Exception as error:
                delay = self._delay(error, tries)
                if delay is None:
                    raise
                retry = _announcement(error, tries, delay)
                dispatch_custom_event(LLM_RETRY, retry, config=config)
                time.sleep(delay)

    async def acall(self, messages: LanguageModelInput, config: RunnableConfig) -> AIMessage:
        """Call the model in an async run. A try that takes too long raises `TimeoutError`, and may
        be followed by another."""
        tries = 0
        while True:
            tries += 1
            try:
                async with _time_limit(self.timeout, config) as limited:
                    return await self.model.ainvoke(messages, limited)
            except Exception as error:
                delay = self._delay(error, tries)
                if delay is None:
                    raise
                retry = _announcement(error, tries, delay)
                await adispatch_custom_event(LLM_RETRY, retry, config=config)
                await asyncio.sleep(delay)

    def _delay(self, error: Exception, tries: int) -> float | None:
        """The seconds to wait before the next try, or None to give up, also if the provider asks
        for a longer wait than the policy allows."""
        policy = self.retry
        if isinstance(error, GraphBubbleUp) or tries >= policy.max_attempts:
            return None
        if not _is_retried(policy, error):
            return None
        asked_for = retry_after(error)
        if asked_for > policy.max_interval:
            return None
        backoff = policy.initial_interval * policy.backoff_factor ** (tries - 1)
        delay = min(policy.max_interval, backoff)
        if policy.jitter:
            delay += random.uniform(0, 1)
        return max(asked_for, delay)


def retry_policy(retry: Retry) -> RetryPolicy:
    """The policy for `model_retry`: a number of tries in all, or a policy of the user's.

    A policy without `retry_on` retries transient failures: LangGraph's own default would repeat a
    request that the provider refused.
    """
    if retry is None:
        return RetryPolicy(max_attempts=1)
    if isinstance(retry, RetryPolicy):
        is_default = retry.retry_on is RetryPolicy().retry_on
        return retry._replace(retry_on=is_transient) if is_default else retry
    if isinstance(retry, bool) or not isinstance(retry, int) or retry < 1:
        raise ConfigurationError(
            f"model_retry= is {retry!r}. Give it how often to try in all, a "
            "langgraph.types.RetryPolicy, or None."
        )
    return RetryPolicy(max_attempts=retry, retry_on=is_transient)


def timeout_policy(timeout: Timeout) -> TimeoutPolicy | None:
    """The policy for `model_timeout`: a number is the seconds that one try may take in all."""
    try:
        return TimeoutPolicy.coerce(timeout)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"model_timeout= is {timeout!r}. Give it a number of seconds above 0, or a "
            "langgraph.types.TimeoutPolicy."
        ) from error


def is_transient(error: BaseException) -> bool:
    """True if the same request may succeed in a moment: the provider is overloaded (429) or failed
    itself (5xx), or the connection was cut. False for what the provider refuses (400, 401, 403,
    404)."""
    for cause in _causes(error):
        status = _own_status(cause)
        if status is not None:
            return status in TRANSIENT_STATUSES or status >= 500
        if isinstance(cause, ConnectionError | TimeoutError):
            return True
        if _error_type(cause) in TRANSIENT_ERRORS:
            return True
        if not CONNECTION_ERRORS.isdisjoint(cls.__name__ for cls in type(cause).__mro__):
            return True
    return False


def status_of(error: BaseException) -> int | None:
    """The HTTP status with which a provider answered, if the exception or one that it was raised
    from says so."""
    for cause in _causes(error):
        if (status := _own_status(cause)) is not None:
            return status
    return None


def _own_status(error: BaseException) -> int | None:
    """The HTTP status that an exception of a provider's client carries, under any of the names that
    clients give it."""
    response = getattr(error, "response", None)
    names = ("status_code", "status", "code")
    found = [getattr(error, name, None) for name in names]
    for status in (*found, getattr(response, "status_code", None)):
        if isinstance(status, int) and 400 <= status < 600:
            return int(status)
    return None


def _error_type(error: BaseException) -> str:
    """The type in the body of a stream's error: `{"type": …}`, or the same as its `error`."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        body = body.get("error", body)
    return str(body.get("type")) if isinstance(body, Mapping) else ""


def retry_after(error: BaseException) -> float:
    """The seconds that the provider asks to wait in its Retry-After header, 0 without one."""
    for cause in _causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", None)
        if isinstance(headers, Mapping):
            return _seconds(headers.get("retry-after") or headers.get("Retry-After") or "")
    return 0.0


def _seconds(header: str) -> float:
    """The seconds in a Retry-After, which is a number or a date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - utc_now()).total_seconds())


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was raised from: LangChain's packages wrap those of the
    clients."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _is_retried(policy: RetryPolicy, error: Exception) -> bool:
    retry_on: Any = policy.retry_on
    if isinstance(retry_on, Sequence):
        return isinstance(error, tuple(retry_on))
    if isinstance(retry_on, type):
        return isinstance(error, retry_on)
    return bool(retry_on(error))


def _announcement(error: Exception, tries: int, delay: float) -> dict[str, Any]:
    """The custom event's data. The exception's text may hold anything, so only its status is
    shown."""
    status = status_of(error)
    message = f"HTTP {status}" if status else ""
    return {
        "tries": tries,
        "delay_seconds": round(delay, 3),
        "error": {"type": type(error).__name__, "message": message},
    }


# ── time limits ───────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _time_limit(
    policy: TimeoutPolicy | None, config: RunnableConfig
) -> AsyncIterator[RunnableConfig]:
    """Raise `TimeoutError` when the time is up. Yields the config to call the model with, so that
    whatever it sends resets the idle limit."""
    if policy is None:
        yield config
        return
    # `coerce` has made seconds of both; mypy still sees float | timedelta.
    run_limit: Any = policy.run_timeout
    idle_limit: Any = policy.idle_timeout
    try:
        async with asyncio.timeout(run_limit) as run, asyncio.timeout(idle_limit) as idle:
            if idle_limit is not None:
                config = merge_configs(config, {"callbacks": [_IdleReset(idle, idle_limit)]})
            yield config
    except TimeoutError as error:
        if run.expired():
            raise TimeoutError(f"The model did not finish within {run_limit:g} seconds.") from error
        if idle.expired():
            raise TimeoutError(f"The model sent nothing for {idle_limit:g} seconds.") from error
        raise


class _IdleReset(BaseCallbackHandler):
    """Starts the idle limit anew with each piece that a model sends."""

    run_inline = True

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        if not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + self._seconds)
