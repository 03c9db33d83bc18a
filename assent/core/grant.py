"""Standing grants: what a person approves in advance, within bounds."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from assent.core.access import APPROVES_ALL, approves_of, role_of
from assent.core.digest import call_digest
from assent.core.errors import InvalidRequest
from assent.core.json import Json
from assent.core.policy import Person


class Bound(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The values that one argument may have: a number from `min` to `max`, both included; one of
    the values in `among`; or, with `any`, anything. Raises `InvalidRequest` if it is not one of the
    three."""

    min: int | float | None = None
    max: int | float | None = None
    among: tuple[Json, ...] | None = None
    any: bool = False

    def __post_init__(self) -> None:
        is_range = self.min is not None or self.max is not None
        if [is_range, self.among is not None, self.any].count(True) != 1:
            raise InvalidRequest(
                'A bound is {"min": …, "max": …}, {"among": […]} or {"any": true}: '
                "one of the three."
            )

    def holds(self, value: Json) -> bool:
        """True if the value is within the bound. Text that looks like a number is none, and neither
        are true and false."""
        if self.any:
            return True
        if self.among is not None:
            return call_digest("", value) in {call_digest("", each) for each in self.among}
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # Written so that NaN, which compares as false with everything, is outside.
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Grant(Struct, frozen=True, kw_only=True):
    """An approval in advance by `given_by`, who had these `roles` then: calls of the agent's tool
    whose arguments are all within `bounds`, in the thread or for the user or both, before `until`,
    at most `uses` times.

    Raises `InvalidRequest` if it has no scope, or could never be used.
    """

    grant_id: str
    agent: str
    tool: str
    bounds: dict[str, Bound]
    given_by: str
    roles: tuple[str, ...] = ()
    given_at: datetime
    until: datetime
    uses: int
    thread_id: str = ""
    user: str = ""
    used: int = 0
    revoked_by: str | None = None
    revoked_at: datetime | None = None
    tenant: str | None = None
    version: int = 1

    def __post_init__(self) -> None:
        if not self.tool or not (self.thread_id or self.user):
            raise InvalidRequest("A grant is for one tool, and for a thread or a user. Name them.")
        if self.uses < 1:
            raise InvalidRequest(
                f"A grant says how often it may be used, and this one says {self.uses}."
            )
        if self.until <= self.given_at:
            raise InvalidRequest("A grant's end is in the past. Say until when it holds.")

    @property
    def giver(self) -> Person:
        """The person who gave it, with the roles that they had then. Without any of the program's
        own they were let in by an app or by nobody's word, and could decide everything."""
        has_roles = any(map(role_of, self.roles))
        approves = approves_of(self.roles) if has_roles else APPROVES_ALL
        return Person(name=self.given_by, roles=self.roles, approves=approves)

    def is_open(self, now: datetime) -> bool:
        """True if it can be used at all."""
        return self.revoked_at is None and now < self.until and self.used < self.uses
