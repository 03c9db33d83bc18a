"""The input, context and config that a graph takes: everything else is refused with a sentence, and
before anything runs."""

from __future__ import annotations

import operator
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from langchain_core.messages import BaseMessage
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.types import Command
from pydantic import BaseModel, field_validator
from typing_extensions import TypedDict

from assent import build_hitl_agent
from assent.core.errors import InvalidInput
from assent.core.run_input import RunInput
from assent.graph.breakpoints import Breakpoints
from assent.graph.inputs import InputShape, shape_of
from tests.support.models import ScriptedModel


def graph(state: Any, **options: Any) -> Any:
    """A graph with one node, `work`, over this state."""
    return (
        StateGraph(state, **options)
        .add_node("work", lambda state: {})
        .add_edge(START, "work")
        .compile()
    )


class Report(TypedDict):
    """A state without messages."""

    topic: str
    notes: Annotated[list[str], operator.add]
    steps: RemainingSteps


class Chat(MessagesState):
    """A state with messages and more."""

    topic: str


class OldChat(TypedDict):
    """Messages as graphs of before `add_messages` keep them."""

    messages: Annotated[Sequence[BaseMessage], operator.add]


class Lines(TypedDict):
    """No messages, though the field is called so."""

    messages: list[str]


class Order(BaseModel):
    """A state that is made by calling it."""

    item: str
    count: int = 1


@dataclass
class Shop:
    """A context with a default."""

    account: str
    language: str = "en"


@dataclass
class Defaults:
    """A context of nothing but defaults."""

    language: str = "en"


class Signed(BaseModel):
    """A context that looks at its values."""

    tenant: str

    @field_validator("tenant")
    @classmethod
    def _is_known(cls, tenant: str) -> str:
        if tenant != "acme":
            raise ValueError("the secret list of tenants has no such name")
        return tenant


class Typed(TypedDict):
    """A context that cannot have defaults."""

    user: str


class Plain(typing.TypedDict):
    """One of the standard library's, of which pydantic makes no schema on Python 3.11."""

    user: str
    many: list[Order]
    more: typing.NotRequired[int]


def shape(state: Any = Chat, *, configurable: Sequence[str] = (), **options: Any) -> InputShape:
    return shape_of(graph(state, **options), "x", configurable)


def refused(shape: InputShape, **given: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        shape.check(RunInput(**given))
    return caught.value.message


# ── input ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("state", "given"),
    [
        (Report, {"topic": "tea"}),
        (Plain, {"user": "ann", "many": [{"item": "tea"}]}),
        (Report, {"topic": "tea", "notes": ["hot"]}),
        (Chat, {"messages": [{"role": "user", "content": "Hello."}], "topic": "tea"}),
        (Chat, {"messages": "Hello."}),
        (Chat, {"topic": "tea"}),
        (OldChat, {"messages": [{"type": "human", "content": "Hello."}]}),
        (Lines, {"messages": ["one", "two"]}),
        (Order, {"item": "tea"}),
    ],
)
def test_a_graphs_own_input_is_taken(state: Any, given: Any) -> None:
    shape(state).check(RunInput(input=given))


@pytest.mark.parametrize(
    ("state", "given", "sentence"),
    [
        (Report, {"zzz": 1}, "The agent 'x' takes no input 'zzz'. It takes: notes, topic."),
        (Report, {"steps": 3}, "The agent 'x' takes no input 'steps'. It takes: notes, topic."),
        (
            Report,
            {"topic": 5, "notes": [1]},
            "In the input of the agent 'x', 'topic': 5 is not of type 'string'. "
            "In the input of the agent 'x', 'notes.0': 1 is not of type 'string'.",
        ),
        (Plain, {"zzz": 1}, "The agent 'x' takes no input 'zzz'. It takes: many, more, user."),
        (
            Plain,
            {"user": 5},
            "In the input of the agent 'x', 'user': 5 is not of type 'string'.",
        ),
        (
            Order,
            {"count": 2},
            "The agent 'x' needs an 'input' with 'item': "
            '{"count"?: <integer>, "item": <string>}.',
        ),
        (
            Report,
            "tea",
            "The 'input' of the agent 'x' is an object: "
            '{"notes"?: <array>, "topic"?: <string>}.',
        ),
        (
            Report,
            None,
            "The 'input' is null, and there would be nothing to do. The agent 'x' takes: "
            '{"notes"?: <array>, "topic"?: <string>}.',
        ),
        (Report, Command(goto="work"), "A Command is not taken: decide with resume()."),
    ],
)
def test_other_input_is_refused_by_name(state: Any, given: Any, sentence: str) -> None:
    assert refused(shape(state), input=given) == sentence


def test_a_graph_without_messages_says_what_it_takes_instead() -> None:
    for state in (Report, Lines):
        assert not shape(state).takes_message
    assert refused(shape(Report), message="Hello.") == (
        "The agent 'x' keeps no messages, so it takes an 'input': "
        '{"notes"?: <array>, "topic"?: <string>}.'
    )


def test_a_graph_with_messages_takes_one() -> None:
    for state in (Chat, OldChat):
        shape(state).check(RunInput("Hello."))
        shape(state).check(RunInput([{"type": "text", "text": "Hello."}]))


def test_not_both() -> None:
    sentence = "Send a 'message' or an 'input', not both."
    assert refused(shape(), message="Hello.", input={}) == sentence


def test_our_agent_takes_messages_and_no_decisions() -> None:
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    assert refused(shape_of(agent, "x"), input={"decisions": {}}) == (
        "The agent 'x' takes no input 'decisions'. It takes: messages."
    )


def workflow(kind: Any) -> InputShape:
    async def run(given: Any) -> Any:
        return given

    run.__annotations__["given"] = kind
    return shape_of(entrypoint()(run), "x")


def test_a_workflow_takes_its_argument() -> None:
    for kind in (dict, dict[str, Any], Any, Chat):
        workflow(kind).check(RunInput("Hello."))
    workflow(int).check(RunInput(input=5))
    workflow(dict).check(RunInput(input={"anything": 1}))
    workflow(Report).check(RunInput(input={"topic": "tea", "notes": [], "steps": 1}))
    assert refused(workflow(int), input="5") == (
        "In the input of the agent 'x': '5' is not of type 'integer'."
    )
    assert refused(workflow(int), message="5") == (
        "The agent 'x' keeps no messages, so it takes an 'input': <integer>."
    )


def test_what_a_graph_knows_of_an_input_is_left_of_it() -> None:
    chat = shape_of(graph(Chat), "x")
    assert chat.known({"topic": "tea", "tools": []}) == {"topic": "tea"}
    for whole in ({"tools": []}, {}, None, "tea", ["topic"]):
        assert chat.known(whole) == whole
    given = {"topic": "tea", "notes": [], "steps": 1, "tools": []}
    assert workflow(Report).known(given) == given


# ── blocks ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("Hello.", "send objects"),
        ({"type": "text"}, "a text block has 'type' and 'text'"),
        ({"type": "text", "text": 5}, "a text block has 'type' and 'text'"),
        ({"type": "poem", "text": "x"}, "its 'type' is 'poem'"),
        ({"type": "image", "url": "file:///etc/passwd"}, "its 'url' begins with https://"),
        ({"type": "image", "url": "https://e.x/" + "a" * 8_192}, "at most 8,192 characters"),
        ({"type": "image", "url": "https://e.x/a.png", "zzz": 1}, "it has 'zzz'"),
        ({"type": "image_url", "image_url": {"url": "data:,x"}}, "its 'url' is not data:"),
        ({"type": "image"}, "exactly one of 'url', 'base64' and 'file_id'"),
        ({"type": "image", "url": "https://e.x", "file_id": "x"}, "exactly one of"),
        ({"type": "image", "base64": "%"}, "its 'base64' is not base64"),
        ({"type": "image", "base64": 5}, "its 'base64' is not base64"),
        ({"type": "image", "url": "data:image/png;base64,%"}, "its 'url' is not data:"),
        ({"type": "file", "file_id": ""}, "its 'file_id' is a text"),
        ({"type": "file", "file_id": "x", "filename": 5}, "its 'filename' is a text"),
        ({"type": "input_audio", "input_audio": {"data": "%"}}, "with 'data' and 'format'"),
    ],
)
def test_what_is_no_block_is_refused_with_its_place(block: Any, problem: str) -> None:
    sentence = refused(shape(), message=[{"type": "text", "text": "Look:"}, block])
    assert sentence.startswith("In 'message', the block 2 is not one: ")
    assert problem in sentence


def test_blocks_by_url_are_taken() -> None:
    blocks = [
        {"type": "text", "text": "Look:"},
        {"type": "image", "url": "https://example.com/a.png", "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    shape().check(RunInput(blocks))


# ── context ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("schema", "context"),
    [
        (None, None),
        (None, {}),
        (Shop, {"account": "acme"}),
        (Defaults, None),
        (Defaults, {"language": "de"}),
        (Signed, {"tenant": "acme"}),
        (Typed, None),
        (Typed, {"user": "ann"}),
        (Plain, {"user": "ann", "many": [{"item": "tea"}]}),
    ],
)
def test_a_context_is_taken(schema: Any, context: Any) -> None:
    shape(context_schema=schema).check(RunInput("Hello.", context=context))


@pytest.mark.parametrize(
    ("schema", "context", "sentence"),
    [
        (
            None,
            {"user": "ann"},
            "The agent 'x' declares no context_schema, so it takes no 'context'.",
        ),
        (Shop, None, "The agent 'x' needs a 'context' with 'account'."),
        (Signed, None, "The agent 'x' needs a 'context' with 'tenant'."),
        (Plain, {"user": "x"}, "The agent 'x' needs a 'context' with 'many'."),
        (
            Plain,
            {"user": "x", "many": [{"item": 5}]},
            "In the context of the agent 'x', 'many.0.item': 5 is not of type 'string'.",
        ),
        (Typed, {}, "The agent 'x' needs a 'context' with 'user'."),
        (
            Shop,
            {"account": "acme", "zzz": 1},
            "The context of the agent 'x' has no 'zzz'. It has: account, language.",
        ),
        (
            Shop,
            {"account": 5},
            "In the context of the agent 'x', 'account': 5 is not of type 'string'.",
        ),
        (
            Signed,
            {"tenant": "other"},
            "The agent 'x' refuses the 'context': 'tenant' is not right.",
        ),
    ],
)
def test_another_context_is_refused_without_the_text_of_an_exception(
    schema: Any, context: Any, sentence: str
) -> None:
    assert refused(shape(context_schema=schema), message="Hello.", context=context) == sentence


# ── config ────────────────────────────────────────────────────────────────────────────────────────


def config_refused(shape: InputShape, **config: Any) -> str:
    return refused(shape, message="Hello.", config=config)


@pytest.mark.parametrize(
    "key",
    [
        *("__pregel_resuming", "__assent_effects", "checkpoint_id", "checkpoint_ns"),
        *("checkpoint_map", "run_id", "langgraph_auth_user", "assistant_id", "graph_id"),
        "assent_requested_by",
    ],
)
def test_keys_of_langgraph_and_of_ours_are_nobodys_even_if_declared(key: str) -> None:
    said = config_refused(shape(configurable=[key]), configurable={key: "x"})
    assert said == f"'{key}' in 'configurable' is not for clients."


def test_a_threads_id_has_a_field_of_its_own() -> None:
    said = config_refused(shape(), configurable={"thread_id": "t"})
    assert said == (
        "'thread_id' in 'configurable' is not for clients: send \"thread_id\" beside the message."
    )


def test_only_what_is_declared_is_configurable() -> None:
    declared = shape(configurable=["model"], context_schema=Defaults)
    declared.check(RunInput("Hi.", config={"configurable": {"model": "small", "language": "de"}}))
    assert config_refused(declared, configurable={"tenant": "x"}) == (
        "The agent 'x' declares no configurable 'tenant'. It declares: language, model."
    )
    assert config_refused(shape(), configurable={"tenant": "x"}) == (
        "The agent 'x' declares no configurable 'tenant'. It declares none."
    )


def test_what_the_graph_was_given_is_pinned() -> None:
    pinned = graph(Chat, context_schema=Defaults).with_config(configurable={"language": "fr"})
    said = config_refused(shape_of(pinned, "x"), configurable={"language": "de"})
    assert said == "The agent 'x' declares no configurable 'language'. It declares none."


def test_a_value_that_every_checkpoint_would_copy_is_small() -> None:
    declared = shape(configurable=["model"])
    said = config_refused(declared, configurable={"model": "x" * 20_000})
    assert said == "'model' in 'configurable' is larger than 16 KiB."


@pytest.mark.parametrize("tag", ["graph:step:1", "seq:step:2", "langsmith:hidden", "nostream"])
def test_tags_that_steer_are_refused(tag: str) -> None:
    assert config_refused(shape(), tags=["mine", tag]).startswith(f"The tag '{tag}' is not for")


@pytest.mark.parametrize(
    "key",
    [
        *("run_id", "thread_id", "assent_requested_by", "assent_forked_by", "langgraph_node"),
        *("ls_provider", "lc_versions", "checkpoint_ns", "source", "step", "parents"),
    ],
)
def test_metadata_that_says_whose_a_checkpoint_is_is_refused(key: str) -> None:
    said = config_refused(shape(), metadata={key: "x"})
    assert said.startswith(f"'{key}' in the 'metadata' of 'config' is not for clients.")


@pytest.mark.parametrize(
    "config", [{"callbacks": []}, {"tags": "a"}, {"metadata": {"a": []}}, {"configurable": []}]
)
def test_a_config_of_another_form_is_refused(config: Any) -> None:
    assert config_refused(shape(), **config).startswith("The 'config' is not right: ")


# ── breakpoints ───────────────────────────────────────────────────────────────────────────────────


def test_breakpoints_are_nodes_of_the_graph() -> None:
    shape().check(RunInput("Hi.", interrupt_before=["work"], interrupt_after="*"))
    assert refused(shape(), message="Hi.", interrupt_before=["wrok"]) == (
        "The agent 'x' has no node 'wrok' to pause at. It has: work."
    )


def test_our_agent_takes_no_breakpoints() -> None:
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    said = refused(shape_of(agent, "x"), message="Hi.", interrupt_after="*")
    assert said.endswith("takes no other breakpoints.")


def test_breakpoints_are_added_to_those_that_were_compiled() -> None:
    compiled = (
        StateGraph(Chat)
        .add_sequence([("plan", lambda state: {}), ("act", lambda state: {})])
        .add_edge(START, "plan")
        .compile(interrupt_before=["act"])
    )
    breakpoints = Breakpoints({"x": compiled})

    def places(**given: Any) -> tuple[Any, Any]:
        agent = breakpoints.agent("x", RunInput(**given))
        return agent.interrupt_before_nodes, agent.interrupt_after_nodes

    assert places() == (["act"], [])
    assert places(interrupt_before=[]) == (["act"], [])
    assert places(interrupt_before=["plan"], interrupt_after=["plan"]) == (
        ["act", "plan"],
        ["plan"],
    )
    assert places(interrupt_before="*") == ("*", [])
    everywhere = compiled.copy(update={"interrupt_before_nodes": "*"})
    given = RunInput(interrupt_before=["plan"])
    assert Breakpoints({"x": everywhere}).agent("x", given).interrupt_before_nodes == "*"
    assert breakpoints.agent("x", given) is breakpoints.agent("x", given)
