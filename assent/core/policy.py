"""Policies of approvals, as values: who may decide, how many must, and what becomes of it when
nobody does in time.

A policy is frozen and goes to JSON and back, so that an approval keeps the one it was asked under,
and an operator writes one in a file:

    {"agents": {"records": {"timeout": "1d", "tools": {"delete_records": {"roles": ["lead"],
    "quorum": 2, "risk": "high"}}}}}

A duration is `"90s"`, `"15m"`, `"2h"`, `"1d"`, a number of seconds, or ISO 8601 (`"PT15M"`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from assent.core.access import APPROVES_NOTHING, Approves
from assent.core.decisions import DECISION_TYPES
from assent.core.digest import call_digest
from assent.core.errors import ConfigurationError
from assent.core.json import Json, JsonObject

LONGEST = timedelta(days=3_653)
"""No timeout is longer."""


class Risk(StrEnum):
    """The harm that a wrong call would do. Calls of a high risk need four eyes unless their policy
    says otherwise."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class OnTimeout(StrEnum):
    """The thing that happens when nobody decided in time. Time never approves.

    `reject`: the call is not run. `escalate`: the next of `escalation` is asked as well; after the
    last one's timeout the call is not run. `pause`: it goes on waiting, without a deadline.
    """

    REJECT = "reject"
    ESCALATE = "escalate"
    PAUSE = "pause"


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who was authenticated, the roles they have, and the approvals on which their word
    counts at all.

    `known_to` are the others who know the secret by which they were known, so that it may be one of
    them who acts. `sent_by` is whoever else could have used the link by which they act.
    """

    name: str
    roles: tuple[str, ...] = ()
    approves: Approves = APPROVES_NOTHING
    known_to: tuple[str, ...] = ()
    sent_by: str = ""

    @property
    def others(self) -> tuple[str, ...]:
        """Everybody else whose word theirs may be."""
        return (*self.known_to, *filter(None, [self.sent_by]))

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody whose word theirs may be."""
        return (self.name, *self.others)


class Escalation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """People who are asked as well, and the time they have. Without a `timeout`, which only the
    last escalation may lack, it waits for ever."""

    roles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    timeout: timedelta | None = None

    def __post_init__(self) -> None:
        _check_names("an escalation's roles", self.roles)
        _check_names("an escalation's names", self.names)
        if not self.roles and not self.names:
            raise ConfigurationError("An escalation asks nobody. Give it roles or names.")
        _check_timeout(self.timeout)


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The people who decide, and until when.

    `allowed` are the decisions that may be taken. Who has one of the `roles` or `names` may decide;
    without any, everybody who is authenticated. `quorum` is how many must agree. With `four_eyes`
    whoever asked does not decide; by default so for a high `risk`. `timeout` is how long people
    have, and `on_timeout` what happens then. `reminders` are durations: positive ones after people
    were asked, negative ones before their time is up. Raises `ConfigurationError` for a policy that
    could never be kept.
    """

    allowed: tuple[str, ...] = DECISION_TYPES
    roles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    quorum: int = 1
    risk: Risk = Risk.MEDIUM
    four_eyes: bool | None = None
    timeout: timedelta | None = None
    reminders: tuple[timedelta, ...] = ()
    on_timeout: OnTimeout = OnTimeout.REJECT
    escalation: tuple[Escalation, ...] = ()

    def __post_init__(self) -> None:
        _check_choice("risk", self.risk, Risk)
        _check_choice("on_timeout", self.on_timeout, OnTimeout)
        _check_allowed(self)
        _check_names("a policy's roles", self.roles)
        _check_names("a policy's names", self.names)
        _check_quorum(self)
        _check_timeout(self.timeout)
        _check_escalation(self)
        _check_reminders(self)

    @property
    def needs_another(self) -> bool:
        """True if somebody other than who asked must decide."""
        return self.risk == Risk.HIGH if self.four_eyes is None else self.four_eyes

    def timeout_of(self, step: int) -> timedelta | None:
        """The time that the people of a step have: 0 is the policy's own, 1 its first
        escalation."""
        return self.timeout if step == 0 else self.escalation[step - 1].timeout

    def asks(self, person: Person, step: int = 0) -> bool:
        """True if the person may decide at this step. Those of earlier steps still may."""
        if not self.roles and not self.names:
            return True
        roles, names = self.asked(step)
        return person.name in names or not roles.isdisjoint(person.roles)

    def asked(self, step: int) -> tuple[frozenset[str], frozenset[str]]:
        """The roles and names that may decide at this step."""
        others = self.escalation[:step]
        return (
            frozenset(self.roles).union(*(each.roles for each in others)),
            frozenset(self.names).union(*(each.names for each in others)),
        )

    def reminds_at(self, asked_at: datetime, expires_at: datetime | None) -> Iterator[datetime]:
        """The times at which people who were asked at one time, and have until another, are
        reminded; in no order."""
        for reminder in self.reminders:
            start = asked_at if reminder > timedelta(0) else expires_at
            if start is None:
                continue
            at = start + reminder
            if asked_at < at and (expires_at is None or at < expires_at):
                yield at


def _check_choice(field: str, value: str, choices: type[StrEnum]) -> None:
    """A policy in Python may have been given any text: none of another is ever stored."""
    known = [choice.value for choice in choices]
    if value not in known:
        raise ConfigurationError(f"A policy's {field} is '{value}'. It may be: {', '.join(known)}.")


def _check_allowed(policy: Policy) -> None:
    if unknown := sorted(set(policy.allowed) - set(DECISION_TYPES)):
        raise ConfigurationError(
            f"'{unknown[0]}' is no decision. A policy may allow: {', '.join(DECISION_TYPES)}."
        )
    if not {"reject", "respond"} & set(policy.allowed):
        raise ConfigurationError(
            "A policy must allow 'reject' or 'respond', or a person could not say no."
        )
    needs_others = policy.quorum > 1 or policy.needs_another
    if needs_others and "edit" in policy.allowed and "approve" not in policy.allowed:
        raise ConfigurationError(
            "A policy that asks several people, or four eyes, and allows 'edit' must allow "
            "'approve': others approve an edit."
        )


def _check_names(what: str, names: tuple[str, ...]) -> None:
    if isinstance(names, str):
        raise ConfigurationError(
            f"{what.capitalize()} are the text '{names}'. Give a tuple of them."
        )
    if any(not name.strip() for name in names):
        raise ConfigurationError(f"One of {what} is empty. Name it, or leave it out.")


def _check_quorum(policy: Policy) -> None:
    if policy.quorum < 1:
        raise ConfigurationError(
            f"A policy's quorum is {policy.quorum}. At least one person must decide."
        )
    named = {*policy.names, *(name for each in policy.escalation for name in each.names)}
    has_roles = policy.roles or any(each.roles for each in policy.escalation)
    if policy.names and not has_roles and policy.quorum > len(named):
        raise ConfigurationError(
            f"A policy's quorum is {policy.quorum}, and it names only {len(named)} who may decide. "
            "Name more, or ask fewer."
        )


def _check_timeout(timeout: timedelta | None) -> None:
    if timeout is not None and not timedelta(0) < timeout <= LONGEST:
        raise ConfigurationError(
            "A policy's timeout must be longer than nothing and at most ten years, such as '1h'. "
            "Or leave it out."
        )


def _check_escalation(policy: Policy) -> None:
    escalates = policy.on_timeout == OnTimeout.ESCALATE
    if escalates and (policy.timeout is None or not policy.escalation):
        raise ConfigurationError(
            "A policy with on_timeout 'escalate' needs a timeout, and an escalation that says who "
            "is asked then."
        )
    if policy.escalation and not escalates:
        raise ConfigurationError(
            f"A policy has an escalation, and its on_timeout is '{policy.on_timeout}'. "
            "Make that 'escalate', or drop it."
        )
    if any(each.timeout is None for each in policy.escalation[:-1]):
        raise ConfigurationError(
            "Only the last of an escalation may lack a timeout: "
            "those behind one without would never be asked."
        )


def _check_reminders(policy: Policy) -> None:
    timeouts = [policy.timeout_of(step) for step in range(len(policy.escalation) + 1)]
    if policy.on_timeout == OnTimeout.PAUSE:
        timeouts.append(None)
    for reminder in policy.reminders:
        if not any(_falls_into(reminder, timeout) for timeout in timeouts):
            raise ConfigurationError(
                f"A policy's reminder of {duration_text(reminder)} falls into nobody's time. "
                "Count from when somebody is asked ('30m') or, where there is a timeout, "
                "back from its end ('-15m')."
            )


def _falls_into(reminder: timedelta, timeout: timedelta | None) -> bool:
    if reminder > timedelta(0):
        return reminder < (timeout or LONGEST)
    return timeout is not None and timedelta(0) < -reminder < timeout


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "": "seconds"}
_DURATION = re.compile(r"\s*([+-]?)(\d+(?:\.\d+)?)\s*([dhms]?)\s*")


def policy_to_json(policy: Policy) -> JsonObject:
    """The policy as a JSON object with every field, so that it still means the same when a default
    has changed.

    Of a policy that was written in code, what only code can hold is left out.
    """
    return dict(msgspec.json.decode(msgspec.json.encode(plain_policy(policy))))


def policy_from_json(value: Mapping[str, Json]) -> Policy:
    """A policy from a JSON object; what is left out is at its default. Raises
    `ConfigurationError`."""
    try:
        return msgspec.convert(_with_durations(value), Policy)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"This is no policy: {error}. A policy has: {', '.join(Policy.__struct_fields__)}."
        ) from None


def plain_policy(policy: Policy) -> Policy:
    """The policy without what only code can hold: as an approval keeps it."""
    if type(policy) is Policy:
        return policy
    return Policy(**{name: getattr(policy, name) for name in Policy.__struct_fields__})


def policy_digest(policy: Policy) -> str:
    """The SHA-256 over the policy's RFC 8785 JSON, in hex."""
    return call_digest("policy", policy_to_json(policy))


def duration_text(duration: timedelta) -> str:
    """The duration as a person writes it: in the largest unit of which it is a whole number."""
    seconds = duration.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds) if seconds.is_integer() else seconds}s"


def duration_from_text(text: str) -> timedelta:
    """The duration that a person wrote. Raises `ConfigurationError`."""
    try:
        return msgspec.convert(read_duration(text), timedelta)
    except msgspec.ValidationError:
        raise ConfigurationError(not_a_duration(text)) from None


def not_a_duration(text: str) -> str:
    """The sentence that refuses the text."""
    return f"'{text}' is no duration. Write 90s, 15m, 2h, 1d, a number of seconds, or PT15M."


def _with_durations(value: Mapping[str, Json]) -> JsonObject:
    read = dict(value)
    if "timeout" in read:
        read["timeout"] = read_duration(read["timeout"])
    if isinstance(read.get("reminders"), list | tuple):
        read["reminders"] = [read_duration(each) for each in read["reminders"]]
    escalation = read.get("escalation")
    if isinstance(escalation, list | tuple):
        read["escalation"] = []
        for each in escalation:
            read["escalation"].append(_with_durations(each) if isinstance(each, Mapping) else each)
    return read


def read_duration(value: Json) -> Json:
    """The duration that `90s`, `15m` or a number of seconds stands for. Any other value is returned
    as it is: msgspec and pydantic read ISO 8601, and refuse the rest."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    if match := _DURATION.fullmatch(f"{value}"):
        # A duration that no timedelta can hold is refused with the rest.
        with suppress(OverflowError):
            return timedelta(**{_UNITS[match[3]]: float(match[1] + match[2])})
    return value


# ── configuration ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class AgentRules:
    """An operator's rules for an agent: fields of a policy for all its tools, and for some."""

    every: Mapping[str, Json] = field(default_factory=dict)
    tools: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """An operator's rules for their agents, by name. The code says whether a call needs a person
    at all; these say which person, and how."""

    agents: Mapping[str, AgentRules] = field(default_factory=dict)

    def policy(self, agent: str, tool: str, written: Policy | None = None) -> Policy:
        """The policy of the agent's tool. Each field has the operator's value for the tool, else
        for the agent, else the one `written` in code, else the default.

        Raises `ConfigurationError`, naming agent and tool, if they do not go together.
        """
        written = written or Policy()
        rules = self.agents.get(agent)
        configured = {**rules.every, **rules.tools.get(tool, {})} if rules else {}
        if not configured:
            return plain_policy(written)
        try:
            return policy_from_json({**policy_to_json(written), **configured})
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The policy of the agent '{agent}' for its tool '{tool}' is wrong: {error.message}"
            ) from None


def policies_from_json(value: Mapping[str, Json]) -> PolicyBook:
    """The book from `{"agents": {agent: {…fields of a policy…, "tools": {tool: {…fields…}}}}}`, as
    JSON or TOML has it.

    Raises `ConfigurationError` for a field or a value that no policy has; whether the fields go
    together is known when `policy` is asked.
    """
    agents = value.get("agents", {})
    if unknown := sorted(set(value) - {"agents"}):
        raise ConfigurationError(
            f"The policies have a part '{unknown[0]}', which means nothing. "
            "Put the rules for agents under 'agents'."
        )
    if not isinstance(agents, Mapping):
        raise ConfigurationError(
            "The policies' 'agents' are no table. Write one, with a table for each agent."
        )
    return PolicyBook({agent: _agent_rules(agent, rules) for agent, rules in agents.items()})


def _agent_rules(agent: str, rules: Json) -> AgentRules:
    where = f"the agent '{agent}'"
    every = dict(_table(where, rules))
    tools: dict[str, Mapping[str, Json]] = {}
    for tool, fields in _table(f"the tools of {where}", every.pop("tools", {})).items():
        tools[tool] = _fields(f"the tool '{tool}' of {where}", fields)
    return AgentRules(every=_fields(where, every), tools=tools)


def _table(where: str, value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"The policy for {where} is {value!r}. Write a table.")
    return value


def _fields(where: str, rules: Json) -> Mapping[str, Json]:
    """The rules, if they are a table whose fields have the right names and types."""
    fields = _table(where, rules)
    types = {each.name: each.type for each in msgspec.structs.fields(Policy)}
    for name, value in _with_durations(fields).items():
        if name not in types:
            raise ConfigurationError(
                f"The policy for {where} has '{name}', and a policy has only: {', '.join(types)}."
            )
        try:
            msgspec.convert(value, types[name])
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"The policy for {where} has a wrong '{name}': {error}."
            ) from None
    return fields
