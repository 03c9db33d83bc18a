"""LangGraph's own suite for checkpointers: every test of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability

from assent.storage.sqlite import SqliteSaver
from tests.support.keys import KEY


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
@pytest.mark.parametrize("capability", [each.value for each in Capability])
async def test_the_suite_passes_and_skips_nothing(
    tmp_path: Path, capability: str, key: str | None
) -> None:
    @checkpointer_test(name="SqliteSaver")
    async def saver() -> AsyncIterator[BaseCheckpointSaver[int]]:
        async with SqliteSaver.from_conn_string(
            tmp_path / "checkpoints.db", encryption_key=key
        ) as saver:
            yield saver

    report = await validate(saver, capabilities={capability})
    result = report.results[capability]
    assert result.failures == []
    assert result.tests_skipped == 0
    assert result.tests_passed > 0
