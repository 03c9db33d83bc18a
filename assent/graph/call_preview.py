"""Previews: what people are shown of the effect that a call would have."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any, TypeVar

from assent.core.json import Json, JsonObject
from assent.graph.approval_rules import ApprovalPolicy
from assent.graph.interrupts.forms import question_json

T = TypeVar("T")


async def preview_of(policy: ApprovalPolicy, args: JsonObject) -> Json:
    """What the policy shows of a call's effect; None if it shows nothing.

    A preview that fails says so and stops nothing.
    """
    if policy.preview is None:
        return None
    try:
        # A copy, so that what is shown stays what will run. In a thread, since a plain function may
        # take its time.
        shown = await asyncio.to_thread(policy.preview, deepcopy(args))
        if inspect.isawaitable(shown):
            shown = await shown
        return question_json(shown)
    except (Exception, SystemExit) as error:
        return {"unavailable": f"The preview failed with {type(error).__name__}."}


def run_apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run async code from sync code. In a notebook this thread has a loop that is running
    already."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
