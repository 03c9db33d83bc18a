"""The input that a graph takes, and what is given to it: checked before a run exists, and again
before the graph runs, as the agent may be another version of itself by then."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from langgraph.graph import START
from langgraph.types import Command
from pydantic import ValidationError

from assent.core.blocks import check_blocks
from assent.core.errors import InvalidInput
from assent.core.json import Json, JsonObject
from assent.core.run_input import Message, NodeNames, RunInput
from assent.graph.client_config import check_client_config
from assent.graph.input_fields import (
    MESSAGES,
    SHOWN_PROBLEMS,
    Fields,
    context_fields,
    input_fields,
    is_made,
)
from assent.graph.kinds import Agent, gate_of, is_workflow
from assent.graph.outside_messages import read_messages
from assent.graph.task_options import TaskRules


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShape:
    """The input that one agent takes. `messages_keys` are the fields of it that hold messages, and
    `takes_message` is True if the conversation is one of them. `make_context` makes the context as
    LangGraph will, if it makes one. `tasks` says what tasks may choose."""

    agent: str
    fields: Fields
    messages_keys: frozenset[str]
    takes_message: bool
    context: Fields | None
    make_context: Callable[..., Any] | None
    configurable: frozenset[str]
    nodes: frozenset[str]
    is_gated: bool
    is_workflow: bool = False
    tasks: TaskRules = TaskRules()

    def check(self, given: RunInput) -> None:
        """Raise `InvalidInput` if the agent does not take this."""
        if given.message and given.has_input:
            raise InvalidInput("Send a 'message' or an 'input', not both.")
        if given.message:
            self._check_message(given.message)
        elif given.has_input:
            self._check_input(given.input)
        self.check_run_with(given)

    def check_run_with(self, given: RunInput) -> None:
        """Raise `InvalidInput` if the graph cannot be run with the context, config and breakpoints
        that are given."""
        self._check_context(given.context)
        if given.config is not None:
            check_client_config(self.agent, given.config, self.configurable)
        for names in (given.interrupt_before, given.interrupt_after):
            if names:
                self._check_breakpoints(names)
        chosen = {"model": given.model, "instructions": given.instructions}
        if any(value is not None for value in chosen.values()):
            self.tasks.check(self.agent, **chosen)
            if not self.is_gated:
                raise self._has_no(next(name for name, value in chosen.items() if value))

    def check_settings(self, context: JsonObject, config: JsonObject) -> None:
        """Raise `InvalidInput` if no run of the graph may be given this. Of the context, fields
        may be missing: a run has others."""
        if context:
            self._check_context(context, is_whole=False)
        if config:
            check_client_config(self.agent, config, self.configurable)

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────

    def task_input(
        self, message: str, model: str | None = None, instructions: str | None = None
    ) -> RunInput:
        """The input of a task that has chosen this. Raises `InvalidInput` for what its agent may
        not be asked for.

        A graph of somebody else's gets it as fields of its context, or of its config, with these
        names: the model as `init_chat_model` takes it.
        """
        self.tasks.check(self.agent, model, instructions)
        if self.is_gated:
            return RunInput(message=message, model=model, instructions=instructions)
        named = self.tasks.models[model] if model is not None else None
        chosen = {"model": named, "instructions": instructions}
        fields = {name: value for name, value in chosen.items() if value is not None}
        for name in fields:
            if not self.declares(name):
                raise self._has_no(name)
        return self.message_with(message, fields)

    def _has_no(self, name: str) -> InvalidInput:
        return InvalidInput(
            f"The graph of the agent '{self.agent}' has no '{name}' for tasks: declare it in its "
            "context_schema, or in the section 'configurable' of the file that ASSENT_CONFIG names."
        )

    # ── fields of the context or the config ───────────────────────────────────────────────────────

    def declares(self, name: str) -> bool:
        """True if the graph has a field of this name in its context, or in its config."""
        return self._is_of_context(name) or name in self.configurable

    def message_with(self, message: str, fields: JsonObject) -> RunInput:
        """The message, and these fields where the graph declares them: in its context, or in its
        config."""
        context = {name: value for name, value in fields.items() if self._is_of_context(name)}
        configurable = {name: fields[name] for name in fields if name not in context}
        config = {"configurable": configurable} if configurable else None
        return RunInput(message=message, context=context or None, config=config)

    def _is_of_context(self, name: str) -> bool:
        return self.context is not None and name in (self.context.names or ())

    # ── the input ─────────────────────────────────────────────────────────────────────────────────

    def _check_message(self, message: Message) -> None:
        if isinstance(message, list):
            check_blocks(message)
        if not self.takes_message:
            raise InvalidInput(
                f"The agent '{self.agent}' keeps no messages, so it takes an 'input': "
                f"{self.fields.shown()}."
            )
        self._check_nothing_is_missing({MESSAGES})

    def _check_input(self, value: Json) -> None:
        if isinstance(value, Command):
            raise InvalidInput("A Command is not taken: decide with resume().")
        if value is None:
            # LangGraph would go on with whatever the thread has left.
            raise InvalidInput(
                "The 'input' is null, and there would be nothing to do. The agent "
                f"'{self.agent}' takes: {self.fields.shown()}."
            )
        if self.fields.names is not None and not isinstance(value, dict):
            raise InvalidInput(
                f"The 'input' of the agent '{self.agent}' is an object: {self.fields.shown()}."
            )
        if isinstance(value, dict):
            self._check_known(value)
            self._check_nothing_is_missing(value)
        self._check_fits(value, self.fields)

    def known(self, value: Json) -> Json:
        """The input without the fields that the graph does not know, if it knows another: LangGraph
        drops them. A workflow would be given them, so of its argument nothing is left out."""
        if self.is_workflow or not isinstance(value, dict):
            return value
        unknown = self.fields.unknown(value)
        left = {name: each for name, each in value.items() if name not in unknown}
        return left or value

    def _check_known(self, value: JsonObject) -> None:
        if unknown := self.fields.unknown(value):
            names = ", ".join(f"'{name:.100}'" for name in unknown[:SHOWN_PROBLEMS])
            known = ", ".join(sorted(self.fields.names or ()))
            raise InvalidInput(
                f"The agent '{self.agent}' takes no input {names}. It takes: {known}."
            )

    def _check_fits(self, value: Json, fields: Fields) -> None:
        problems = [f"{self._place(at)}: {why}." for at, why in fields.problems(value)]
        if problems:
            raise InvalidInput(" ".join(problems))
        if isinstance(value, dict):
            for key in self.messages_keys & set(value):
                read_messages(value[key], self._place(key))

    def _check_nothing_is_missing(self, given: Collection[str]) -> None:
        if missing := self.fields.missing(given):
            raise InvalidInput(
                f"The agent '{self.agent}' needs an 'input' with {_listed(missing)}: "
                f"{self.fields.shown()}."
            )

    def _place(self, at: str) -> str:
        where = f"In the input of the agent '{self.agent}'"
        return f"{where}, '{at}'" if at else where

    def check_update(self, given: RunInput) -> None:
        """Raise `InvalidInput` if the values that are given as input are not to be written to the
        state from outside: only those of the input are, any of them."""
        if not isinstance(given.input, dict):
            raise InvalidInput(f"The values are an object: {self.fields.shown()}.")
        self._check_known(given.input)
        optional = {**self.fields.schema, "required": []}
        self._check_fits(given.input, replace(self.fields, schema=optional))

    # ── what it is run with ───────────────────────────────────────────────────────────────────────

    def _check_context(self, context: JsonObject | None, *, is_whole: bool = True) -> None:
        fields, agent = self.context, self.agent
        if fields is None:
            if context:
                raise InvalidInput(
                    f"The agent '{agent}' declares no context_schema, so it takes no 'context'."
                )
            return
        if context is None and self.make_context is None:
            # A TypedDict has no defaults, so graphs with one also run without.
            return
        given = context or {}
        if unknown := fields.unknown(given):
            raise InvalidInput(
                f"The context of the agent '{agent}' has no {_listed(unknown[:SHOWN_PROBLEMS])}. "
                f"It has: {', '.join(sorted(fields.names or ()))}."
            )
        missing = fields.missing(given)
        if missing and is_whole:
            raise InvalidInput(f"The agent '{agent}' needs a 'context' with {_listed(missing)}.")
        if not is_whole:
            fields = replace(fields, schema={**fields.schema, "required": []})
        problems = [f"'{at}': {why}." for at, why in fields.problems(given)]
        if problems:
            raise InvalidInput(f"In the context of the agent '{agent}', {' '.join(problems)}")
        if not missing:
            self._try_context(given)

    def _try_context(self, context: JsonObject) -> None:
        """Make the context once: a validator may refuse what fits the schema."""
        if self.make_context is None:
            return
        try:
            self.make_context(**context)
        except ValidationError as error:
            places = {".".join(map(str, each["loc"])) for each in error.errors()} - {""}
            at = f": {_listed(sorted(places))} is not right" if places else ""
            raise InvalidInput(f"The agent '{self.agent}' refuses the 'context'{at}.") from error
        except Exception as error:
            # A check of the user's own; its text is not written for clients.
            raise InvalidInput(f"The agent '{self.agent}' refuses the 'context'.") from error

    def _check_breakpoints(self, names: NodeNames) -> None:
        if self.is_gated:
            raise InvalidInput(
                f"The agent '{self.agent}' pauses before the calls that need a person, and takes "
                "no other breakpoints."
            )
        unknown = [] if names == "*" else sorted(set(names) - self.nodes)
        if unknown:
            raise InvalidInput(
                f"The agent '{self.agent}' has no node '{unknown[0]:.100}' to pause at. "
                f"It has: {', '.join(sorted(self.nodes))}."
            )


def shape_of(
    agent: Agent,
    name: str,
    configurable: Collection[str] = (),
    tasks: TaskRules = TaskRules(),
) -> InputShape:
    """The input that the agent takes. `configurable` are keys that the operator declares for it,
    besides those of the graph, and `tasks` is what tasks may choose."""
    fields, messages_keys, takes_message = input_fields(agent)
    context = context_fields(agent)
    declared = {spec.id for spec in agent.config_specs} | set((context and context.names) or ())
    # What the graph was given with `with_config` is pinned.
    declared -= set((agent.config or {}).get("configurable", {}))
    return InputShape(
        agent=name,
        fields=fields,
        messages_keys=messages_keys,
        takes_message=takes_message,
        context=context,
        make_context=agent.context_schema if is_made(agent.context_schema) else None,
        configurable=frozenset(declared) | frozenset(configurable),
        nodes=frozenset(agent.nodes) - {START},
        is_gated=gate_of(agent) is not None,
        is_workflow=is_workflow(agent),
        tasks=tasks,
    )


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name:.100}'" for name in names)
