"""A chat model that follows a script, offline: for every test that needs an agent and not a
provider.

    model = ScriptedModel(script=[call("pay", amount=3), say("Paid.")])

One run of the model is one entry of the script: an `AIMessage`, an exception that is raised, or a
function from the history to one of these. It streams as a provider does, text word by word and tool
calls in pieces. To hold a test to what a provider accepts: `assert all(lc_history_problems(history)
== [] for history in model.calls)`.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from tests.support.history import lc_history_problems

__all__ = ["ScriptExhausted", "ScriptedModel", "call", "calls", "lc_history_problems", "say"]

ARGS_PIECE = 8
"""Characters of a tool call's arguments in one chunk."""

Reply = AIMessage | BaseException | Callable[[list[BaseMessage]], AIMessage | BaseException]


class ScriptExhausted(AssertionError):
    """The model was called more often than its script has entries."""


def say(text: str) -> AIMessage:
    """An answer in words."""
    return AIMessage(text)


def call(tool: str, /, *, text: str = "", **args: Any) -> AIMessage:
    """One tool call, under a new id."""
    return calls((tool, args), text=text)


def calls(*tools: tuple[str, dict[str, Any]], text: str = "") -> AIMessage:
    """Several tool calls in one turn, each under a new id."""
    return AIMessage(
        text, tool_calls=[tool_call(name=name, args=args, id=new_call_id()) for name, args in tools]
    )


def new_call_id() -> str:
    """An id as OpenAI makes them: `call_` and 24 characters."""
    return f"call_{uuid4().hex[:24]}"


class ScriptedModel(BaseChatModel):
    """Answers by its script; `bind_tools` returns a model that shares the script, `calls` and
    `bound_tools` with this one."""

    script: list[Any] | Callable[[list[BaseMessage]], Any]
    """The replies in order, or one function for them all."""

    delay: float = 0.0
    """Seconds before each piece."""

    unique_ids: bool = False
    """Whether every tool call gets a new id, so that one message can stand in the script several
    times."""

    remembers: bool = True
    """Whether `calls` has every call. A server that is used for long would never stop growing."""

    calls: list[list[BaseMessage]] = Field(default_factory=list)
    """The history of each call so far."""

    bound_tools: list[Any] = Field(default_factory=list)
    """The tools of the latest `bind_tools`."""

    def __repr__(self) -> str:
        """Short: LangChain's callbacks are given it, and a long one takes 70 ms for each model."""
        return "ScriptedModel()"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        self.bound_tools[:] = tools
        return self.model_copy()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self._next(messages)
        time.sleep(self.delay * len(pieces(message)))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self._next(messages)
        await asyncio.sleep(self.delay * len(pieces(message)))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in pieces(self._next(messages)):
            time.sleep(self.delay)
            yield ChatGenerationChunk(message=piece)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in pieces(self._next(messages)):
            await asyncio.sleep(self.delay)
            yield ChatGenerationChunk(message=piece)

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        """The reply to this call. Taken by the number of calls so far, which copies of the model
        share."""
        turn = len(self.calls)
        if self.remembers:
            self.calls.append(list(messages))
        reply = self.script if callable(self.script) else self._entry(turn)
        if callable(reply):
            reply = reply(list(messages))
        if isinstance(reply, BaseException):
            raise reply
        if not isinstance(reply, AIMessage):
            raise TypeError(
                f"Entry {turn} of the script gave {reply!r}. It must give an AIMessage or an exception."
            )
        # A copy, since LangChain writes ids into the message it is handed.
        message = reply.model_copy(deep=True)
        return with_new_call_ids(message) if self.unique_ids else message

    def _entry(self, turn: int) -> Any:
        assert not callable(self.script)
        if turn >= len(self.script):
            history = self.calls[turn]
            last = history[-1].pretty_repr() if history else "nothing"
            raise ScriptExhausted(
                f"The script has {len(self.script)} replies, and this is call {turn + 1}. It was sent:\n{last}"
            )
        return self.script[turn]


def with_new_call_ids(message: AIMessage) -> AIMessage:
    """The message with a new id for each of its tool calls."""
    return message.model_copy(
        update={"tool_calls": [{**call, "id": new_call_id()} for call in message.tool_calls]}
    )


def pieces(message: AIMessage) -> list[AIMessageChunk]:
    """The message as chunks that add up to it: its words, its tool calls in pieces, and a last one
    with the usage."""
    contents: Sequence[Any] = (
        re.findall(r"\S+\s*|\s+", message.content)
        if isinstance(message.content, str)
        else [message.content]
    )
    chunks = [AIMessageChunk(content=content, id=message.id) for content in contents]
    texts: list[tuple[str | None, str | None, str]]
    texts = [(call["name"], call["id"], json.dumps(call["args"])) for call in message.tool_calls]
    texts += [(bad["name"], bad["id"], bad["args"] or "") for bad in message.invalid_tool_calls]
    for index, (name, id_, args) in enumerate(texts):
        starts = range(0, len(args), ARGS_PIECE)
        deltas = [tool_call_chunk(name=name, id=id_, args="", index=index)]
        deltas += [
            tool_call_chunk(args=args[start : start + ARGS_PIECE], index=index) for start in starts
        ]
        chunks += [
            AIMessageChunk(content="", id=message.id, tool_call_chunks=[delta]) for delta in deltas
        ]
    last = AIMessageChunk(
        content="",
        id=message.id,
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
        additional_kwargs=message.additional_kwargs,
        chunk_position="last",
    )
    return [*chunks, last]
