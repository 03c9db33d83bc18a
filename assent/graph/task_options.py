"""What a task may choose of the agent that does it: another model, and instructions of its own.

To an agent of `build_hitl_agent` they come in its config, under keys that no client can set. Only
its own turns go by them: an agent that it calls is another one. Any other graph gets them as fields
that it declares (`inputs.py:InputShape.task_input`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import SystemMessage
from langchain_core.runnables import RunnableConfig

from assent.core.errors import InvalidInput
from assent.graph.node_config import is_nested

MODEL_KEY = "__assent_model"
INSTRUCTIONS_KEY = "__assent_instructions"

MAX_INSTRUCTIONS = 8_000
"""The most characters of a task's instructions."""

BEFORE_INSTRUCTIONS = "Instructions of this task:"
"""The line between an agent's own prompt and a task's instructions."""


class TaskRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator lets tasks choose of an agent. `models` are what `init_chat_model` takes,
    by the names that clients say. Where `enable_streaming` is true, the events of a task are shown
    as they come, unless it says otherwise."""

    enable_streaming: bool = False
    instructions: bool = False
    models: dict[Annotated[str, msgspec.Meta(min_length=1)], str] = {}

    def check(self, agent: str, model: str | None, instructions: str | None) -> None:
        """Raise `InvalidInput` for a model, or for instructions, that tasks of the agent may not
        have."""
        if model is not None and model not in self.models:
            raise InvalidInput(f"{_no_model(agent, model)} {self._known_models(agent)}")
        if instructions is None:
            return
        if not self.instructions:
            raise InvalidInput(
                f"The agent '{agent}' takes no instructions for tasks. To let it, write "
                f"'instructions = true' into [tasks.{agent}] of the file that ASSENT_CONFIG names."
            )
        if len(instructions) > MAX_INSTRUCTIONS:
            raise InvalidInput(
                f"The instructions have {len(instructions):,} characters, and "
                f"{MAX_INSTRUCTIONS:,} are the most that they may have."
            )

    def _known_models(self, agent: str) -> str:
        if self.models:
            return f"It has: {', '.join(self.models)}."
        return (
            f"To give it models, list them in [tasks.{agent}.models] of the file that "
            "ASSENT_CONFIG names."
        )


def _no_model(agent: str, model: str) -> str:
    return f"The agent '{agent}' has no model '{model:.100}' for tasks."


def model_in(config: RunnableConfig) -> BaseChatModel | None:
    """The model that the task of the node with this config has chosen, if it has."""
    model: BaseChatModel | None = _of_task(config, MODEL_KEY)
    return model


def with_instructions(
    system: Sequence[SystemMessage], config: RunnableConfig
) -> Sequence[SystemMessage]:
    """The agent's own prompt, and behind it in the same message the instructions of the task of the
    node with this config, if it has any."""
    text: str | None = _of_task(config, INSTRUCTIONS_KEY)
    if not text:
        return system
    given = f"{BEFORE_INSTRUCTIONS}\n{text}"
    if not system:
        return (SystemMessage(given),)
    own, content = system[0], system[0].content
    both: Any = f"{content}\n\n{given}"
    if not isinstance(content, str):
        both = [*content, {"type": "text", "text": given}]
    return (own.model_copy(update={"content": both}),)


def _of_task(config: RunnableConfig, key: str) -> Any:
    value = config.get("configurable", {}).get(key)
    return None if value is None or is_nested(config) else value
