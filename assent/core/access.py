"""Roles, the rights that they give, and sights: what one person may do and see. Pure.

A request needs one right. Its sight is what comes with that right: `sight_for` is the table of the
reference of roles, and storage reads through it (`Storage.seen_by`). Whatever forgets to ask for a
sight has `NOTHING`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, NamedTuple

from assent.core.errors import ConfigurationError
from assent.core.text import visible

if TYPE_CHECKING:
    from assent.core.approval import Approval
    from assent.core.rows import Thread


class Role(StrEnum):
    """The roles that give rights.

    As texts there are also `approver:tool:<tool>`, for the approvals of one tool, and
    `approver:role:<role>`, for those that ask a role of policies, which it gives as well. Every
    other text is a role of policies only.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Right(StrEnum):
    """The rights: each request needs one.

    `self` is to ask who one is, `read` threads and what hangs on them, `run` whatever puts words
    into a thread, `stop` cancels and deletes, `see` approvals and grants, `decide` and `say` decide
    and comment on them, `watch` the server, `audit` the chain, and `admin` the others.
    """

    SELF = "self"
    READ = "read"
    RUN = "run"
    STOP = "stop"
    SEE = "see"
    DECIDE = "decide"
    SAY = "say"
    WATCH = "watch"
    AUDIT = "audit"
    ADMIN = "admin"


class Owner(NamedTuple):
    """A person, in their tenant; None is the only tenant of a server that has no others."""

    name: str
    tenant: str | None = None


NOBODY = Owner("")


@dataclass(frozen=True, slots=True)
class Approves:
    """The approvals on which somebody's word counts at all: every one, those of some tools, and
    those that ask some roles of policies."""

    everything: bool = False
    tools: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()

    @property
    def anything(self) -> bool:
        """True if there could be an approval on which it counts."""
        return self.everything or bool(self.tools) or bool(self.roles)

    def takes(self, approval: Approval) -> bool:
        """True if it counts on this one, as that stands now."""
        return self.covers(approval.tool, approval.roles)

    def covers(self, tool: str, roles: Collection[str]) -> bool:
        """True if it counts on every approval, on those of the tool, or on those that ask one of
        the roles."""
        return self.everything or tool in self.tools or not self.roles.isdisjoint(roles)


APPROVES_ALL = Approves(everything=True)
APPROVES_NOTHING = Approves()


@dataclass(frozen=True, slots=True)
class Sight:
    """The rows that somebody may see: everything, those of the owner's `tenant`, the owner's `own`,
    or nothing.

    With the reach `own` one also sees the approvals that one may decide: those that `approves`
    takes, and that ask nobody in particular, one of the `roles`, or the owner by name.
    """

    reach: Literal["everything", "tenant", "own", "nothing"]
    owner: Owner = NOBODY
    roles: tuple[str, ...] = ()
    approves: Approves = APPROVES_NOTHING

    def shows(self, approval: Approval, thread: Thread | None = None) -> bool:
        """True if the approval is seen, as the storage has it. Whoever owns its `thread` sees it,
        too, once that is known."""
        if self.reach in ("everything", "nothing"):
            return self.reach == "everything"
        if approval.tenant != self.owner.tenant:
            return False
        owners = {approval.owner} if thread is None else {approval.owner, thread.owner}
        if self.reach == "tenant" or self.owner.name in owners:
            return True
        return self.approves.takes(approval) and self._is_asked(approval)

    def _is_asked(self, approval: Approval) -> bool:
        name = self.owner.name
        by_name = name in approval.names or name in approval.assignees
        return approval.asks_anybody or by_name or not {*self.roles}.isdisjoint(approval.roles)


EVERYTHING = Sight("everything")
NOTHING = Sight("nothing")


# ── the table ─────────────────────────────────────────────────────────────────────────────────────

RIGHTS: dict[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.SELF, Right.READ, Right.SEE}),
    Role.OPERATOR: frozenset({Right.SELF, Right.READ, Right.RUN, Right.STOP, Right.SEE, Right.SAY}),
    Role.APPROVER: frozenset({Right.SELF, Right.READ, Right.SEE, Right.DECIDE, Right.SAY}),
    Role.AUDITOR: frozenset({Right.SELF, Right.READ, Right.SEE, Right.WATCH, Right.AUDIT}),
    Role.ADMIN: frozenset(
        {Right.SELF, Right.READ, Right.STOP, Right.SEE, Right.SAY, Right.WATCH, Right.ADMIN}
    ),
}

_TENANT_WIDE: dict[Right, frozenset[Role]] = {
    Right.READ: frozenset({Role.AUDITOR, Role.ADMIN}),
    Right.STOP: frozenset({Role.ADMIN}),
    Right.SEE: frozenset({Role.AUDITOR, Role.ADMIN}),
    Right.WATCH: frozenset({Role.AUDITOR, Role.ADMIN}),
    Right.AUDIT: frozenset({Role.AUDITOR}),
    Right.ADMIN: frozenset({Role.ADMIN}),
}
"""The roles with which a right reaches all of the tenant. With any other role, and any other right,
it reaches one's own."""

_OF_APPROVALS = frozenset({Right.SEE, Right.DECIDE, Right.SAY})

_ROLES = {role.value: role for role in Role}
_FOR_TOOL = f"{Role.APPROVER}:tool:"
_FOR_ROLE = f"{Role.APPROVER}:role:"


def role_of(text: str) -> Role | None:
    """The role that the text names; None for a role of policies."""
    if _names_one(text, _FOR_TOOL) or _names_one(text, _FOR_ROLE):
        return Role.APPROVER
    return _ROLES.get(text)


def check_role(text: str) -> None:
    """Raise `ConfigurationError` for a text that is no role of anything."""
    if not text.strip() or misspelt(text) is not None:
        raise ConfigurationError(f"'{visible(text)}' is no role. {roles_there_are(text)}")


def misspelt(text: str) -> Role | None:
    """The role that was meant by a text which differs from it by one letter, by two that changed
    places, or by case; None for any other text. Taken for a role of policies, `viwer` would take
    nothing away from somebody who has more by default."""
    if role_of(text) is not None:
        return None
    written = text.partition(":")[0].strip().casefold()
    return next((role for role in Role if _is_nearly(written, role)), None)


def roles_there_are(text: str) -> str:
    """The roles that there are, for somebody who wrote this text instead, as a sentence or two."""
    meant = misspelt(text)
    others = "approver:tool:<tool> and approver:role:<role>, and the roles that policies ask"
    sentence = f"There are {', '.join(Role)}, {others}."
    return sentence if meant is None else f"Did you mean '{meant}'? {sentence}"


def roles_in_policies(roles: Collection[str]) -> tuple[str, ...]:
    """The roles that policies may ask, sorted: the texts themselves, and what
    `approver:role:<role>` gives."""
    return tuple(sorted({*roles, *approves_of(roles).roles}))


def approves_of(roles: Collection[str]) -> Approves:
    """The approvals on which the word of somebody with these roles counts."""
    return Approves(
        everything=Role.APPROVER in roles,
        tools=frozenset(each[len(_FOR_TOOL) :] for each in roles if _names_one(each, _FOR_TOOL)),
        roles=frozenset(each[len(_FOR_ROLE) :] for each in roles if _names_one(each, _FOR_ROLE)),
    )


def rights_of(roles: Collection[str]) -> frozenset[Right]:
    """The rights of somebody with these roles: those of each, together."""
    return frozenset().union(*(RIGHTS[role] for role in _given(roles)))


def sight_for(owner: Owner, roles: Collection[str], approves: Approves, right: Right) -> Sight:
    """The sight of a request by the owner, with these roles, that needs this right."""
    if right not in rights_of(roles):
        return NOTHING
    of_approvals = right in _OF_APPROVALS
    reaches = _TENANT_WIDE.get(Right.SEE if of_approvals else right, frozenset())
    if not reaches.isdisjoint(_given(roles)):
        return Sight("tenant", owner)
    if of_approvals:
        return Sight("own", owner, roles_in_policies(roles), approves)
    return Sight("own", owner)


def _given(roles: Collection[str]) -> frozenset[Role]:
    return frozenset(role for role in map(role_of, roles) if role is not None)


def _names_one(text: str, prefix: str) -> bool:
    return text.startswith(prefix) and len(text) > len(prefix)


def _is_nearly(text: str, word: str) -> bool:
    """True if the two are the same, but for one letter or for two neighbours that changed
    places."""
    begin = _in_common(text, word)
    ours, theirs = text[begin:], word[begin:]
    end = _in_common(ours[::-1], theirs[::-1])
    ours, theirs = ours[: len(ours) - end], theirs[: len(theirs) - end]
    one_letter = max(len(ours), len(theirs)) <= 1
    return one_letter or (len(ours) == 2 and ours == theirs[::-1])


def _in_common(text: str, other: str) -> int:
    """The number of letters with which both begin."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False))
    )
