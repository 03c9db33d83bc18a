"""The clerk's offline chat model: plain rules that stream like a model and call tools like one.

It differs from a real model on purpose: it reads only the last message of a person and the answers
to its own calls, it says that it is a rule-based stand-in, and it counts words as tokens.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import orjson
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from assent.core.clock import Clock
from assent.core.errors import ConfigurationError
from assent.demo.replies import answer
from assent.demo.requests import Call, Request, read_request

MODEL_NAME = "records-clerk-stand-in"

ARGUMENT_PIECE = 12
"""Characters of a call's arguments in one chunk."""


class ClerkModel(BaseChatModel):
    """Reads requests about records with plain rules, offline.

    `delay` is the seconds before each word or piece of a call.
    """

    delay: float = Field(default=0.015, ge=0)
    clock: Clock = Field(default_factory=Clock, exclude=True)

    @property
    def _llm_type(self) -> str:
        return MODEL_NAME

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model_name": MODEL_NAME}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with these tools; it calls no others.

        Raises `ConfigurationError` for a `tool_choice` other than "auto".
        """
        if tool_choice not in (None, "auto"):
            raise ConfigurationError(
                "The stand-in model chooses its tools by rules, so it cannot take "
                f"tool_choice={tool_choice!r}. Leave it out."
            )
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages, kwargs.get("tools", ())):
            time.sleep(self.delay)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages, kwargs.get("tools", ())):
            await asyncio.sleep(self.delay)
            yield chunk

    def _chunks(
        self, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]]
    ) -> Iterator[ChatGenerationChunk]:
        said = reply(messages, {tool["function"]["name"] for tool in tools})
        for word in _words(said.words):
            yield _chunk(content=word)
        for index, call in enumerate(said.calls):
            yield from _call_chunks(index, f"call_{self.clock.new_id()}", call)

        read = sum(len(_words(message.text)) for message in messages)
        written = len(_words(said.words)) + sum(map(_call_words, said.calls))
        yield _chunk(
            content="",
            usage_metadata={
                "input_tokens": read,
                "output_tokens": written,
                "total_tokens": read + written,
            },
            response_metadata={
                "model_name": MODEL_NAME,
                "finish_reason": "tool_calls" if said.calls else "stop",
            },
            chunk_position="last",
        )


def reply(messages: Sequence[BaseMessage], tools: Set[str]) -> Request:
    """The clerk's words and calls, given the conversation and the names of its tools. Pure."""
    since = _since_last_turn(messages)
    reports = _reports(messages, since)
    asked = [message for message in since if isinstance(message, HumanMessage)]
    if reports and not asked:
        return Request(words="\n\n".join(reports))

    request = read_request(str(asked[-1].text) if asked else "")
    if missing := sorted({call.tool for call in request.calls} - tools):
        words = (
            f"For that I need the tool {' and '.join(missing)}, which I was not given here. "
            "I have done nothing."
        )
        request = Request(words=words)

    if not reports:
        return request

    # Somebody wrote while a call waited. An "ok" or "thanks" among it needs no introduction.
    if request.understood:
        reports.append(request.words)
    return replace(request, words="\n\n".join(reports))


def _since_last_turn(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """The messages after the model's own last one."""
    turns = [number for number, message in enumerate(messages) if isinstance(message, AIMessage)]
    return messages[turns[-1] + 1 :] if turns else messages


def _reports(messages: Sequence[BaseMessage], since: Sequence[BaseMessage]) -> list[str]:
    """The outcomes of the last turn's calls, in the order in which the calls were made."""
    calls: dict[str | None, ToolCall] = {}
    for message in messages:
        if isinstance(message, AIMessage):
            calls |= {call["id"]: call for call in message.tool_calls}

    order = {call_id: number for number, call_id in enumerate(calls)}
    results = [message for message in since if isinstance(message, ToolMessage)]
    results.sort(key=lambda result: order.get(result.tool_call_id, len(order)))
    return [answer(calls.get(result.tool_call_id), result) for result in results]


# ── chunks ────────────────────────────────────────────────────────────────────────────────────────


def _chunk(**fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(**fields))


def _words(text: str) -> list[str]:
    """The words, each with the space around it, so that they add up to the text."""
    return re.findall(r"\s*\S+\s*", text)


def _call_words(call: Call) -> int:
    return 1 + len(_words(orjson.dumps(call.args).decode()))


def _call_chunks(index: int, call_id: str, call: Call) -> Iterator[ChatGenerationChunk]:
    """A call as a provider streams it: its name and id, then its arguments in pieces of JSON."""
    deltas = [tool_call_chunk(name=call.tool, id=call_id, args="", index=index)]
    arguments = orjson.dumps(call.args).decode()
    for start in range(0, len(arguments), ARGUMENT_PIECE):
        piece = arguments[start : start + ARGUMENT_PIECE]
        deltas.append(tool_call_chunk(args=piece, index=index))
    for delta in deltas:
        yield _chunk(content="", tool_call_chunks=[delta])
