"""The people who can decide, as far as the server knows them, and whether enough of them are left.

A policy that nobody can meet is refused at the start (`why_unmet`). Later, four eyes and
delegations may leave too few for one approval: then it says so (`shortage`), and so does the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from assent.approvals.rules import needs_another, voting_right
from assent.core.access import (
    APPROVES_ALL,
    APPROVES_NOTHING,
    Approves,
    Owner,
    Role,
    approves_of,
    role_of,
    roles_in_policies,
)
from assent.core.approval import Approval
from assent.core.audit import LOCAL, Actor, Authentication
from assent.core.errors import ConfigurationError, Forbidden
from assent.core.grant import Grant
from assent.core.names import folded, why_no_name
from assent.core.policy import Person, Policy
from assent.core.rows import ApiKey

NO_APPROVER = "its giver may not approve such calls any more"


@dataclass(frozen=True, slots=True)
class Shortage:
    """The `names` of those who can still decide an approval, and how many of them are `needed`."""

    names: tuple[str, ...]
    needed: int

    @property
    def sentence(self) -> str:
        if not self.names:
            return "Nobody is left who can approve this."
        only = f"Only {listed(self.names)} can still decide"
        if len(self.names) < self.needed:
            return f"{only}, and it takes {self.needed}: so nobody can approve this."
        return f"{only}." if self.needed == 1 else f"{only}, and all of them must agree."


@dataclass(frozen=True, slots=True)
class People:
    """Those who have roles, by name, and the names that have a key. With `links`, anybody can
    decide to whom somebody sends one. Without `having_roles` nothing is known of anybody.

    Roles may also be `given` by name; whoever has none of the program's own has the `default`.
    `aliases` are other names of people, each with the one that is theirs here.

    The server `knows_nobody`, and everybody is one person; or people are `known_elsewhere` too, by
    their tokens or an app, and not by keys alone.
    """

    having_roles: Mapping[str, Person] | None = None
    having_keys: frozenset[str] = frozenset()
    links: bool = True
    given: Mapping[str, Collection[str]] = field(default_factory=dict)
    default: tuple[str, ...] = (Role.OPERATOR, Role.APPROVER)
    aliases: Mapping[str, str] = field(default_factory=dict)
    knows_nobody: bool = True
    known_elsewhere: bool = True

    def canonical(self, name: str) -> str:
        """The one name of the person who has this one."""
        return self.aliases.get(name, name)

    def roles_of(self, name: str) -> frozenset[str]:
        """The roles that the operator has given to the name."""
        known = (self.having_roles or {}).get(name)
        return frozenset((*(known.roles if known else ()), *self.given.get(name, ())))

    def person(self, name: str) -> Person:
        """The person of this name, with the roles that the operator has given to them."""
        roles = self.roles_of(name)
        approves = APPROVES_ALL if name == LOCAL else self._approves(roles)
        return Person(name=name, roles=roles_in_policies(roles), approves=approves)

    def acting(self, by: Actor) -> Person:
        """The person who does something, with the roles that they do it with."""
        roles = by.roles or self.person(by.name).roles
        # A link decides in the name of one person alone, whoever made it.
        by_link = by.authentication is Authentication.SIGNED_LINK
        return Person(
            name=by.name,
            roles=roles,
            approves=by.approves,
            known_to=() if by_link else by.known_to,
            sent_by="".join(by.known_to[:1]) if by_link else "",
        )

    def names_of(self, name: str) -> tuple[str, ...]:
        """Every name of the person who has this one as theirs here."""
        return (name, *(alias for alias, one in self.aliases.items() if one == name))

    def why_no_vote(
        self, grant: Grant, approval: Approval, keys: Iterable[ApiKey], now: datetime
    ) -> str:
        """Why the grant gives no vote on the approval any more, as the end of a sentence: whoever
        gave it may not approve it themselves now. Empty if it does. `keys` are all that are stored
        of them, also those that are over."""
        name, given = grant.given_by, self.roles_of(grant.given_by)
        if name == LOCAL:
            return "" if self.knows_nobody else "the server knows who asks now"
        # Whoever else knows a key gives no grants with it.
        own = [key for key in keys if key.made_by in ("", key.person, name)]
        ways = [self._roles_by(key, given) for key in own if key.is_good(now)]
        if name in self.having_keys and grant.tenant is None:
            ways.append(_with(self.default, given))
        if not ways and own:
            return "none of its giver's keys is good any more"
        if not ways and not self.known_elsewhere:
            return "its giver has no key any more"
        if not ways:
            # What their token or their app says of them now is not known before they come again.
            takes = approves_of(given).takes(approval)
            return "" if takes or not any(map(role_of, given)) else NO_APPROVER
        for roles in ways:
            person = Person(name=name, roles=roles_in_policies(roles))
            if approves_of(roles).takes(approval) and approval.policy.asks(person, approval.step):
                return ""
        return NO_APPROVER

    def approves_unasked(self, owner: Owner, keys: Iterable[ApiKey], now: datetime) -> Approves:
        """The approvals on which the word of somebody counts now who shows nothing of what they are
        known by, but a link: with the roles that any of it gives. `keys` are all that are stored of
        them, also those that are over. Of whom nothing is known, a link is all there is."""
        given = self.roles_of(owner.name)
        if owner.name == LOCAL:
            return APPROVES_ALL if self.knows_nobody else APPROVES_NOTHING
        own = [key for key in keys if key.made_by in ("", key.person, owner.name)]
        ways = [self._roles_by(key, given) for key in own if key.is_good(now)]
        if owner.name in self.having_keys and owner.tenant is None:
            ways.append(_with(self.default, given))
        if not ways and not own:
            return approves_of(given) if any(map(role_of, given)) else APPROVES_ALL
        return approves_of({role for roles in ways for role in roles})

    def _roles_by(self, key: ApiKey, given: Collection[str]) -> Collection[str]:
        """The roles of whoever comes with the key, and has been given these by name."""
        # One that was asked for over the network has its own roles alone.
        return key.roles if key.made_by else _with(self.default, {*key.roles, *given})

    def _approves(self, roles: Collection[str]) -> Approves:
        return approves_of(_with(self.default, roles))

    def shortage(self, approval: Approval) -> Shortage | None:
        """Those who are left to decide the pending approval, if they are fewer than it takes; or if
        there is none to spare because others had a part in it."""
        policy = approval.policy
        reachable = self.having_keys or {LOCAL}
        entitled = self._entitled(policy, None if self.links else reachable)
        if entitled is None or not approval.is_pending:
            return None
        # Whoever is asked in time counts.
        in_time = replace(approval, step=len(policy.escalation))
        candidates = {*entitled, *(self.having_roles or ()), *approval.assignees}
        able: set[str] = set()
        for name in candidates if self.links else candidates & reachable:
            may = voting_right(in_time, self.person(name)) is not None
            if may and not needs_another(approval, name):
                able.add(name)
        agreed = {vote.by for vote in approval.agreeing}
        left, needed = able - agreed, policy.quorum - len(agreed)
        has_part = any(needs_another(approval, name) for name in entitled)
        if len(left) > needed or (len(left) == needed and not has_part):
            return None
        return Shortage(tuple(sorted(left)), needed)

    # ── at the start ──────────────────────────────────────────────────────────────────────────────

    def why_unmet(self, policy: Policy) -> str | None:
        """Why nobody could ever meet the policy, as a sentence and what to do about it; None if
        that is not known.

        On a server without keys everybody is one person. That is for trying things out, and what
        takes several people is not refused there.
        """
        if self.having_roles is None:
            return None
        for name in policy.names + tuple(name for each in policy.escalation for name in each.names):
            if (one := self.canonical(name)) != name:
                return f"It asks '{name}', who is '{one}' here. Write that name."
        closed = bool(self.having_keys) and not self.links
        reachable = self.having_keys if closed else None
        for each in policy.escalation:
            if not self._having(each.roles, each.names, reachable):
                return (
                    f"It escalates to {_asked(each.roles, each.names)}, and {self._nobody(closed)}."
                )
        entitled = self._entitled(policy, reachable)
        if entitled is None:
            return None
        roles, names = policy.asked(len(policy.escalation))
        if not entitled:
            return f"It asks {_asked(sorted(roles), sorted(names))}, and {self._nobody(closed)}."
        takes = f"It takes {policy.quorum} {'person' if policy.quorum == 1 else 'people'}"
        only = f"only {listed(sorted(entitled))}"
        if len(entitled) < policy.quorum:
            return f"{takes}, and {only} may decide."
        one_of_them_asks = closed and self.having_keys <= entitled
        if policy.needs_another and one_of_them_asks and len(entitled) == policy.quorum:
            return f"{takes} besides whoever asks, and {only} can ask or decide."
        return None

    def _entitled(self, policy: Policy, reachable: Collection[str] | None) -> frozenset[str] | None:
        """Those who may decide under the policy, once everybody whom it escalates to is asked; None
        if that is anybody."""
        if self.having_roles is None:
            return None
        if policy.roles or policy.names:
            return self._having(*policy.asked(len(policy.escalation)), reachable)
        return None if reachable is None else frozenset(reachable)

    def _having(
        self, roles: Iterable[str], names: Iterable[str], reachable: Collection[str] | None
    ) -> frozenset[str]:
        wanted, found = set(roles), set(names)
        found |= {
            each.name for each in (self.having_roles or {}).values() if wanted & {*each.roles}
        }
        return frozenset(found if reachable is None else found.intersection(reachable))

    def _nobody(self, closed: bool) -> str:
        return "none of them has a key" if closed else "nobody has that role"


def _with(default: Collection[str], roles: Collection[str]) -> Collection[str]:
    """The roles of somebody, who has the default if none of them is one of the program's."""
    return roles if any(map(role_of, roles)) else {*roles, *default}


def check_alone(by: Actor) -> None:
    """Raise `Forbidden` for somebody whose secret others know, where what they do would decide
    later, in their name alone."""
    if by.known_to:
        raise Forbidden(
            f"What '{by.name}' is known by is known to {listed(by.known_to)} too. So it gives no "
            "grants and makes no links: use a key that nobody else has seen."
        )


def check_names(names: Collection[str], aliases: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` unless each of the `names`, and of the `aliases`, is clearly one
    person's."""
    for name in (*names, *aliases):
        if (reason := why_no_name(name)) is not None:
            raise ConfigurationError(f"Nobody can be called '{name}': it {reason}.")
    for alias in aliases:
        if alias in names:
            raise ConfigurationError(
                f"'{alias}' is an alias of '{aliases[alias]}', and the name of somebody who has a "
                "key or roles. Leave one of the two."
            )
    owners: dict[str, str] = {}
    for name in (*names, *aliases):
        person = aliases.get(name, name)
        other = owners.setdefault(folded(name), person)
        if other != person:
            raise ConfigurationError(
                f"'{name}' is a name of '{person}', and hardly differs from one of '{other}'. Give "
                "one of them another name."
            )


def listed(names: Collection[str]) -> str:
    """The names as a sentence has them: "ann, bob and carol"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _asked(roles: Collection[str], names: Collection[str]) -> str:
    return listed([*names, *(f"people of the role '{role}'" for role in roles)])
