"""The node in which the model takes its turns, and the one in which it gives its last answer in the
form of `response_format`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain.chat_models import init_chat_model
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import merge_configs
from langgraph.constants import TAG_NOSTREAM
from langgraph.types import Command, RetryPolicy, TimeoutPolicy
from pydantic import ValidationError

from assent.core.clock import uuid7
from assent.core.errors import AssentError, ConfigurationError
from assent.core.json import JsonObject
from assent.graph.each_turn import BoundModel, ChatModel, EachTurn
from assent.graph.model_middleware import ModelResult, around_model, around_model_async
from assent.graph.model_retry import ModelCalls
from assent.graph.node_config import runtime_of
from assent.graph.provider_history import provider_history
from assent.graph.state import AgentState, with_call_ids, without_own
from assent.graph.state_schema import RESPONSE
from assent.graph.task_options import with_instructions
from assent.graph.tool_calls import failure
from assent.graph.turns import begin_turn
from assent.graph.wrappers import Wrapper, command_update


def _prompt(
    system: Sequence[SystemMessage], state: AgentState, config: RunnableConfig
) -> list[BaseMessage]:
    return [*with_instructions(system, config), *provider_history(state["messages"])]


def _prompt_of(request: ModelRequest) -> list[BaseMessage]:
    system = [request.system_message] if request.system_message is not None else []
    return [*system, *request.messages]


class TurnCalls:
    """Calls the model of a turn. A model and tools that stay the same are bound once."""

    def __init__(
        self, each: EachTurn, retry: RetryPolicy, timeout: TimeoutPolicy | None = None
    ) -> None:
        self.each = each
        self._retry = retry
        self._timeout = timeout
        self._usual: ModelCalls | None = None
        if isinstance(each.model, Runnable) and each.further is None:
            self._usual = self.with_tools(each.model, each.known.values())

    def usual(self, model: ChatModel, tools: Collection[Any]) -> ModelCalls:
        """The calls of this model with these tools."""
        if self._usual is not None and model is self.each.model:
            return self._usual
        return self.with_tools(model, tools)

    def with_tools(self, model: ChatModel, tools: Collection[Any], **options: Any) -> ModelCalls:
        """The calls of this model, to which these tools are bound now."""
        return self.of(_bind(model, list(tools), options))

    def of(self, bound: BoundModel) -> ModelCalls:
        """The calls of a model that has its tools."""
        return ModelCalls(bound, self._retry, self._timeout)


@dataclass(frozen=True, slots=True)
class ModelNode:
    """The node `agent`. With `resets_response` a turn removes the structured response of an earlier
    one."""

    calls: TurnCalls
    system: Sequence[SystemMessage] = ()
    around: Sequence[Wrapper] = ()
    resets_response: bool = False

    def runnable(self) -> Runnable[AgentState, Any]:
        """The node as LangGraph takes it."""
        return RunnableLambda(self._call, self._acall, name="agent")

    def _call(self, state: AgentState, config: RunnableConfig) -> Any:
        begin_turn(config)
        each = self.calls.each
        model = each.model_now(state, config)
        tools = each.tools_now(state, config).values()
        if not self.around:
            calls = self.calls.usual(model, tools)
            prompt = _prompt(self.system, state, config)
            return self._writes(state, [calls.call(prompt, config)])

        def innermost(request: ModelRequest) -> BaseMessage:
            return self._calls_of(request, model, tools).call(_prompt_of(request), config)

        request = self._request(state, config, model, tools)
        return self._all_writes(state, around_model(self.around, innermost, request))

    async def _acall(self, state: AgentState, config: RunnableConfig) -> Any:
        begin_turn(config)
        each = self.calls.each
        model = await each.amodel_now(state, config)
        tools = (await each.atools_now(state, config)).values()
        if not self.around:
            calls = self.calls.usual(model, tools)
            prompt = _prompt(self.system, state, config)
            return self._writes(state, [await calls.acall(prompt, config)])

        async def innermost(request: ModelRequest) -> BaseMessage:
            return await self._calls_of(request, model, tools).acall(_prompt_of(request), config)

        request = self._request(state, config, model, tools)
        return self._all_writes(state, await around_model_async(self.around, innermost, request))

    def _request(
        self, state: AgentState, config: RunnableConfig, model: ChatModel, tools: Collection[Any]
    ) -> ModelRequest:
        history: list[Any] = [*provider_history(state["messages"])]
        seen: Any = without_own(state)
        system = with_instructions(self.system, config)
        return ModelRequest(
            model=cast(BaseChatModel, model),
            messages=history,
            system_message=system[0] if system else None,
            tools=list(tools),
            state=seen,
            runtime=runtime_of(config),
        )

    def _calls_of(
        self, request: ModelRequest, model: ChatModel, tools: Collection[Any]
    ) -> ModelCalls:
        """The calls of the model of a request, as middleware left it."""
        if request.response_format is not None:
            raise AssentError(
                "A middleware has given a response_format to a turn of the model. Give it to "
                "build_hitl_agent: the model is asked for its answer after the last turn."
            )
        options = dict(request.model_settings)
        if request.tool_choice is not None:
            options["tool_choice"] = request.tool_choice
        if (
            request.model is model
            and not options
            and [*map(id, request.tools)] == [*map(id, tools)]
        ):
            return self.calls.usual(model, tools)
        return self.calls.with_tools(request.model, request.tools, **options)

    def _all_writes(self, state: AgentState, result: ModelResult) -> Any:
        """The writes of a turn, and those that middleware added to them."""
        messages = [*result.messages]
        others: list[JsonObject] = []
        for command in result.commands:
            update = command_update("wrap_model_call", command)
            added = update.pop("messages", [])
            messages += convert_to_messages(added if isinstance(added, list) else [added])
            others.append(update)
        writes = self._writes(state, messages)
        # One after the other, since two may write the same key.
        commands: list[Command[Any]] = [Command(update=update) for update in others if update]
        return [writes, *commands] if commands else writes

    def _writes(self, state: AgentState, messages: Sequence[BaseMessage]) -> JsonObject:
        writes = turn_writes(state, messages)
        return {**writes, RESPONSE: None} if self.resets_response else writes


# ── what a turn writes ────────────────────────────────────────────────────────────────────────────


def turn_writes(state: AgentState, messages: Sequence[BaseMessage]) -> JsonObject:
    """The writes of a turn of the model: of these messages its own is the last. The decisions of
    the turn before end with it."""
    places = [at for at, each in enumerate(messages) if isinstance(each, AIMessage)]
    if not places:
        raise AssentError("A middleware has put no message of a model in place of the model's.")
    at = places[-1]
    turn, refused = _turn(state, messages[at])
    before = [
        with_call_ids(each) if isinstance(each, AIMessage) else each for each in messages[:at]
    ]
    return {"messages": [*before, turn, *refused, *messages[at + 1 :]], "decisions": None}


def _turn(state: AgentState, message: Any) -> tuple[AIMessage, list[ToolMessage]]:
    """The model's message as the state keeps it, and the refusals of those of its calls that cannot
    run."""
    if message.id is not None and any(message.id == earlier.id for earlier in state["messages"]):
        # Under an id that is taken it would replace the earlier message, and that one's answers
        # would pass for its own.
        message = message.model_copy(update={"id": uuid7()})
    message = with_call_ids(message)
    refused: list[ToolMessage] = []
    for invalid in message.invalid_tool_calls:
        error = invalid["error"] or "cut off"
        refused.append(_refusal(invalid, f"Its arguments are not valid JSON ({error})."))
    if _is_cut_off(message):
        # The rest of the arguments may be missing, and streaming closes what is open: `{"amount":
        # 12` may have been meant to go on.
        why = "The model's message was cut off, so its arguments may not be whole."
        refused += [_refusal(call, why) for call in message.tool_calls]
    return message, refused


def _refusal(call: ToolCall | InvalidToolCall, why: str) -> ToolMessage:
    return failure(call, f"This call did not run. {why} Call again.")


def _is_cut_off(message: AIMessage) -> bool:
    """True if the provider says that the message is not whole; or if it says nothing, though it
    always says how a message ended."""
    metadata = message.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    if reason is None and metadata.get("model_provider") == "openai":
        return "status" not in metadata
    return reason in ("length", "max_tokens")


# ── the structured response ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form of an agent's last answer: a schema, and how the model is asked for it."""

    schema: Any
    options: Mapping[str, Any]

    @property
    def type(self) -> Any:
        """The type of the answer."""
        return self.schema if isinstance(self.schema, type) else dict[str, Any]

    def model(self, model: ChatModel) -> Runnable[Any, Any]:
        """The model, made to answer in this form. Raises `ConfigurationError` if it cannot be."""
        structured = getattr(model, "with_structured_output", None)
        try:
            if structured is not None:
                made: Runnable[Any, Any] = structured(self.schema, **self.options)
                return made
        except (NotImplementedError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"The model {type(model).__name__} cannot answer by response_format=: {error}"
            ) from error
        raise ConfigurationError(
            f"The model {type(model).__name__} cannot answer by response_format=: "
            "it has no with_structured_output."
        )


def read_response_format(given: Any) -> ResponseFormat | None:
    """The format that `response_format` stands for. Raises `ConfigurationError`."""
    if given is None:
        return None
    if isinstance(given, ToolStrategy):
        raise ConfigurationError(
            "response_format= is a ToolStrategy, which would be one more tool, beside the gate. "
            "Give it the schema itself, or a ProviderStrategy."
        )
    options: dict[str, Any] = {}
    if isinstance(given, ProviderStrategy):
        options["method"] = "json_schema"
        if given.schema_spec.strict is not None:
            options["strict"] = given.schema_spec.strict
    schema = given.schema if isinstance(given, ProviderStrategy | AutoStrategy) else given
    if not isinstance(schema, type | Mapping):
        raise ConfigurationError(
            f"response_format= is {given!r}. Give it a pydantic model, a TypedDict, or a JSON "
            "Schema with a title."
        )
    return ResponseFormat(schema, options)


@dataclass(frozen=True, slots=True)
class ResponseNode:
    """The node `respond`: after the last turn the model is asked for its answer once more, in the
    form of `response_format`. No tool runs because of what it says there, and it is not shown as a
    message."""

    calls: TurnCalls
    format: ResponseFormat
    system: Sequence[SystemMessage] = ()

    def runnable(self) -> Runnable[AgentState, JsonObject]:
        """The node as LangGraph takes it. Raises `ConfigurationError` if the model has no such
        answers."""
        model = self.calls.each.model
        if isinstance(model, Runnable):
            self.format.model(model)
        return RunnableLambda(self._respond, self._arespond, name="respond")

    def _respond(self, state: AgentState, config: RunnableConfig) -> JsonObject:
        calls = self._calls(self.calls.each.model_now(state, config))
        with _in_its_form():
            prompt = _prompt(self.system, state, config)
            return self._writes(calls.call(prompt, _unseen(config)))

    async def _arespond(self, state: AgentState, config: RunnableConfig) -> JsonObject:
        calls = self._calls(await self.calls.each.amodel_now(state, config))
        with _in_its_form():
            prompt = _prompt(self.system, state, config)
            return self._writes(await calls.acall(prompt, _unseen(config)))

    def _calls(self, model: ChatModel) -> ModelCalls:
        return self.calls.of(self.format.model(model))

    def _writes(self, response: Any) -> JsonObject:
        if response is None:
            raise OutputParserException("There was none.")
        return {RESPONSE: response}


@contextmanager
def _in_its_form() -> Iterator[None]:
    try:
        yield
    except (OutputParserException, ValidationError) as error:
        raise AssentError("The model gave no answer in the form of response_format.") from error


def _unseen(config: RunnableConfig) -> RunnableConfig:
    return merge_configs(config, {"tags": [TAG_NOSTREAM]})


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


def chat_model(name: str, *, retries: bool) -> BaseChatModel:
    """The model of this name. If the agent makes retries, its client makes none: nobody would see
    them."""
    try:
        made: BaseChatModel = init_chat_model(name)
        if retries and "max_retries" in type(made).model_fields:
            made = init_chat_model(name, max_retries=0)
        return made
    except ImportError as error:
        provider = name.partition(":")[0]
        raise ConfigurationError(
            f"The model '{name}' needs a package that is not installed: {error}. "
            f"Try: pip install 'assent[{provider}]'."
        ) from error
    except Exception as error:
        raise ConfigurationError(f"The model '{name}' cannot be set up: {error}") from error


def _bind(model: ChatModel, tools: list[Any], options: Mapping[str, Any]) -> BoundModel:
    # Any other runnable has its tools already.
    if not isinstance(model, BaseChatModel) or not tools:
        return model.bind(**options) if options else model
    try:
        return model.bind_tools(tools, **options)
    except NotImplementedError as error:
        raise ConfigurationError(
            f"The model {type(model).__name__} cannot call tools: it has no bind_tools."
        ) from error
