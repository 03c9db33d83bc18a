"""Uploads get to a model on every path that leads to one, and to nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from assent.core.errors import NotFound
from assent.graph.model_files import EncodedFiles, show_uploads_to_models, uploads_from

ID = "upload_1"


class Seer(BaseChatModel):
    """Notes what it is sent."""

    _seen: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "seer"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self._seen.append(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("I see."))])


class Streaming(Seer):
    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self._seen.append(messages)
        yield ChatGenerationChunk(message=AIMessageChunk("I see."))


def message(*blocks: Any) -> HumanMessage:
    return HumanMessage(content=list(blocks))


IMAGE = {"type": "image", "file_id": ID, "mime_type": "image/png"}


async def _astream(model: Any, given: Any) -> None:
    async for _ in model.astream(given):
        pass


async def _astream_events(model: Any, given: Any) -> None:
    async for _ in model.astream_events(given, version="v2"):
        pass


async def _invoke(model: Any, given: Any) -> None:
    model.invoke(given)


async def _stream(model: Any, given: Any) -> None:
    list(model.stream(given))


async def _batch(model: Any, given: Any) -> None:
    model.batch([given])


PATHS: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
    "invoke": _invoke,
    "ainvoke": lambda model, given: model.ainvoke(given),
    "stream": _stream,
    "astream": _astream,
    "batch": _batch,
    "abatch": lambda model, given: model.abatch([given]),
    "astream_events": _astream_events,
    "an agent": lambda model, given: create_agent(model).ainvoke({"messages": given}),
}


@pytest.mark.parametrize("kind", [Seer, Streaming])
@pytest.mark.parametrize("path", PATHS)
async def test_the_model_is_sent_the_bytes_on_every_path(path: str, kind: type[Seer]) -> None:
    show_uploads_to_models()
    show_uploads_to_models()
    model, said = kind(), message({"type": "text", "text": "Look."}, IMAGE)
    with uploads_from(EncodedFiles(lambda file_id: b"ABC")):
        await PATHS[path](model, [said])
    (sent,) = model._seen
    block: Any = sent[-1].content[1]
    assert (block["base64"], block["mime_type"]) == ("QUJD", "image/png")
    assert "file_id" not in block
    # The conversation's own message is as it was.
    assert said.content[1] == IMAGE


async def test_traces_and_callbacks_do_not_get_the_bytes() -> None:
    show_uploads_to_models()
    told: list[Any] = []

    class Tracing(BaseCallbackHandler):
        def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
            told.append(messages)

    with uploads_from(EncodedFiles(lambda file_id: b"ABC")):
        await Seer().ainvoke([message(IMAGE)], {"callbacks": [Tracing()]})
    assert "QUJD" not in str(told)


async def test_without_a_server_and_from_a_model_an_id_stays_an_id() -> None:
    show_uploads_to_models()
    model = Seer()
    await model.ainvoke([message(IMAGE)])
    assert model._seen[0][0].content[0]["file_id"] == ID  # type: ignore[index]

    written = AIMessage(content=[IMAGE])  # type: ignore[list-item]
    with uploads_from(EncodedFiles(lambda file_id: b"ABC")):
        await model.ainvoke([written, message({"type": "file", "file_id": "file-of-openai"})])
    assert "QUJD" not in str(model._seen[1])
    assert "file-of-openai" in str(model._seen[1])


async def test_of_a_file_that_is_gone_the_model_is_told() -> None:
    show_uploads_to_models()

    def gone(file_id: str) -> bytes:
        raise NotFound("The file is not there any more.")

    model = Seer()
    with uploads_from(EncodedFiles(gone)):
        await model.ainvoke([message({**IMAGE, "filename": "photo.png"})])
    assert "[The file 'photo.png' is not there any more.]" in str(model._seen[0])


def test_a_file_is_read_once_as_long_as_there_is_room() -> None:
    read: list[str] = []

    def reading(file_id: str) -> bytes:
        read.append(file_id)
        return b"x" * (30 << 20)

    encoded = EncodedFiles(reading)
    for file_id in ("a", "a", "b", "a", "b"):
        encoded(file_id)
    # Two of 40 Mi characters are more than are kept.
    assert read == ["a", "b", "a", "b"]
