"""The calls that need a person: the meaning of `approve=`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

from langchain_core.messages import ToolCall
from msgspec.structs import replace

from assent.core.errors import ConfigurationError
from assent.core.json import Json, JsonObject
from assent.core.policy import Policy
from assent.graph.tool_names import check_tool_names

Preview = Callable[[JsonObject], Json | Awaitable[Json]]
ArgsPredicate = Callable[[JsonObject], bool]
CallPredicate = Callable[[str, JsonObject], bool]


class ApprovalPolicy(Policy, frozen=True, kw_only=True):
    """The approval of one tool's calls: which of them need people, what these are shown, and all
    the rules of a `Policy` about who decides.

    `when(args)` says if a call needs a person; by default each does, and if it raises, the call
    does. `preview(args)`, sync or async, returns JSON that shows people what the call would do; it
    must not do it. Raises `ConfigurationError`.
    """

    when: ArgsPredicate | None = None
    preview: Preview | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if inspect.iscoroutinefunction(self.when):
            raise ConfigurationError(
                "A policy's `when` is async, and it must be a plain function: "
                "a coroutine is neither yes nor no."
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
    """The policies of an agent's tools, by name.

    `otherwise` is that of tools which only a turn knows, if the agent may have such; not of the
    `others`, which it knows and which have no policy.
    """

    policies: Mapping[str, ApprovalPolicy]
    others: Collection[str] = ()
    otherwise: ApprovalPolicy | None = None

    def policy_of(self, tool: str) -> ApprovalPolicy | None:
        """The tool's policy, if it has one."""
        if tool in self.others:
            return None
        return self.policies.get(tool, self.otherwise)

    def policy_for(self, call: ToolCall) -> ApprovalPolicy | None:
        """The policy under which this call needs a person, or None if it needs nobody."""
        policy = self.policy_of(call["name"])
        if policy is None or policy.when is None:
            return policy
        try:
            # A predicate that changes its arguments must not change the call.
            is_needed = policy.when(deepcopy(call["args"]))
        except (Exception, SystemExit):
            # If a policy predicate raises, the call requires approval.
            return policy
        return policy if is_needed else None


def approval_rules(
    approve: ApproveOption, tool_names: Collection[str], *, has_others: bool = False
) -> ApprovalRules:
    """The rules that `approve` stands for.

    `approve` is a tool's name or several, a mapping of name to policy (an `ApprovalPolicy`, a
    predicate over the arguments, or True for every call, False for none), one `ApprovalPolicy` for
    all tools, or one predicate for all: `predicate(args)` or `predicate(tool, args)`. Raises
    `ConfigurationError` for a name that no tool has.

    With `has_others` the agent may have tools besides these. `approve` may name them too; those
    that it does not name always need a person.
    """
    by_name: Mapping[str, PolicyLike]
    if isinstance(approve, ApprovalPolicy):
        by_name = dict.fromkeys(tool_names, approve)
    elif callable(approve):
        by_name = {name: _for_tool(approve, name) for name in tool_names}
    elif isinstance(approve, Mapping):
        by_name = approve
    elif isinstance(approve, Collection):
        names = [approve] if isinstance(approve, str) else approve
        by_name = dict.fromkeys(names, True)
    else:
        raise ConfigurationError(
            f"approve= is {approve!r}. Give it tool names, a mapping of tool name to policy, "
            "an ApprovalPolicy, or a predicate."
        )
    if not has_others:
        check_tool_names("approve", by_name, tool_names)
    policies = {name: _policy(name, value) for name, value in by_name.items() if value is not False}
    if not has_others:
        return ApprovalRules(policies)
    otherwise = ApprovalPolicy()
    if isinstance(approve, ApprovalPolicy):
        otherwise = replace(approve, when=None)
    return ApprovalRules(policies, {*tool_names, *by_name} - policies.keys(), otherwise)


def _policy(name: str, value: PolicyLike) -> ApprovalPolicy:
    if isinstance(value, ApprovalPolicy):
        return value
    if value is True:
        return ApprovalPolicy()
    if callable(value):
        return ApprovalPolicy(when=value)
    raise ConfigurationError(
        f"approve= gives the tool '{name}' {value!r}. "
        "Give it an ApprovalPolicy, a predicate over its arguments, or True."
    )


def _for_tool(predicate: Callable[..., bool], tool: str) -> ArgsPredicate:
    """The predicate over one tool's arguments. A predicate with two parameters gets the tool's name
    first."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = 0
    for parameter in inspect.signature(predicate).parameters.values():
        required += parameter.kind in positional and parameter.default is parameter.empty
    return predicate if required < 2 else partial(predicate, tool)
