"""Which calls need a person: what `approve=` means."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import ToolCall

from assent.core.errors import ConfigurationError
from assent.core.policy import Policy

Preview = Callable[[dict[str, Any]], Any | Awaitable[Any]]
ArgsPredicate = Callable[[dict[str, Any]], bool]
CallPredicate = Callable[[str, dict[str, Any]], bool]


class ApprovalPolicy(Policy, frozen=True, kw_only=True):
    """How calls of one tool are approved: whether a call needs people, what they are shown, and all
    that a `Policy` says of who decides.

    `when(args)` says whether a call needs a person (by default each does); if it raises, the call
    does. `preview(args)`, sync or async, returns JSON that shows people what the call would do; it
    must not do it. Raises `ConfigurationError`.
    """

    when: ArgsPredicate | None = None
    preview: Preview | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if inspect.iscoroutinefunction(self.when):
            raise ConfigurationError(
                "A policy's `when` is async, and it must be a plain function: a coroutine is neither yes nor no."
            )


PolicyLike = ApprovalPolicy | ArgsPredicate | bool
ApproveOption = (
    str
    | Collection[str]
    | Mapping[str, PolicyLike]
    | ApprovalPolicy
    | ArgsPredicate
    | CallPredicate
)


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """Which calls need a person: those of a tool that has a policy, if its `when` says so."""

    policies: Mapping[str, ApprovalPolicy]

    def policy_for(self, call: ToolCall) -> ApprovalPolicy | None:
        """The policy that this call needs a person under, or None if it needs nobody."""
        policy = self.policies.get(call["name"])
        if policy is None or policy.when is None:
            return policy
        try:
            # A copy: a predicate that pops an argument must not change the call.
            needed = policy.when(deepcopy(call["args"]))
        except Exception:
            # A predicate that cannot say no has not said no.
            needed = True
        return policy if needed else None


def approval_rules(approve: ApproveOption, tool_names: Collection[str]) -> ApprovalRules:
    """The rules that `approve` stands for.

    `approve` is a tool's name or several, a mapping of name to policy (an `ApprovalPolicy`, a
    predicate over the arguments, or True for every call, False for none), one `ApprovalPolicy` for
    all tools, or one predicate for all: `predicate(args)` or `predicate(tool, args)`. Raises
    `ConfigurationError` for a name that no tool has.
    """
    if isinstance(approve, ApprovalPolicy):
        return ApprovalRules(dict.fromkeys(tool_names, approve))
    if callable(approve):
        return ApprovalRules(
            {name: ApprovalPolicy(when=_for_tool(approve, name)) for name in tool_names}
        )
    if isinstance(approve, str):
        approve = (approve,)
    if not isinstance(approve, Collection):
        raise ConfigurationError(
            f"approve= is {approve!r}. Give it tool names, a mapping of tool name to policy, an ApprovalPolicy, or a predicate."
        )
    named = approve if isinstance(approve, Mapping) else dict.fromkeys(approve, True)
    if unknown := sorted(str(name) for name in set(named) - set(tool_names)):
        raise ConfigurationError(
            f"approve= names the tool '{unknown[0]}', and the agent has no such tool. It has: {', '.join(sorted(tool_names)) or 'none'}."
        )
    return ApprovalRules(
        {name: _policy(name, value) for name, value in named.items() if value is not False}
    )


def _policy(name: str, value: PolicyLike) -> ApprovalPolicy:
    if isinstance(value, ApprovalPolicy):
        return value
    if value is True:
        return ApprovalPolicy()
    if callable(value):
        return ApprovalPolicy(when=value)
    raise ConfigurationError(
        f"approve= gives the tool '{name}' {value!r}. Give it an ApprovalPolicy, a predicate over its arguments, or True."
    )


def _for_tool(predicate: Callable[..., bool], tool: str) -> ArgsPredicate:
    """The predicate over one tool's arguments. One that takes two arguments gets the tool's name
    first."""
    positional = [
        parameter
        for parameter in inspect.signature(predicate).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    return predicate if len(positional) < 2 else lambda args: predicate(tool, args)
