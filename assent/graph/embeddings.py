"""The embeddings of a store, as a setting names them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from assent.graph.loading import open_function


@asynccontextmanager
async def open_embeddings(named: str) -> AsyncIterator[Any]:
    """The embeddings for as long as the context is entered: "provider:model" as it stands there, as
    LangChain's `init_embeddings` takes it, or the function that "path/to/file.py:function" names.

    Raises `AgentLoadError`.
    """
    if ".py:" not in named:
        yield named
        return
    async with open_function(named) as function:
        yield function
