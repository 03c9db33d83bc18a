"""Those who gave standing grants, as they may approve now: a grant votes for its giver only as long
as they could."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assent.approvals.people import People
from assent.core.access import Owner
from assent.core.approval import Approval
from assent.core.grant import Grant
from assent.core.rows import ApiKey
from assent.runs.keys import keys_of
from assent.storage.base import Change, Storage, together


@dataclass(frozen=True, slots=True)
class Givers:
    """The givers of some grants: `people`, and the stored `keys` of each by name, as they were read
    at this time."""

    people: People
    keys: Mapping[str, Sequence[ApiKey]]
    at: datetime

    @classmethod
    async def of(
        cls, grants: Iterable[Grant], storage: Storage, people: People, at: datetime
    ) -> Givers:
        """Those of the grants."""
        owners = {Owner(grant.given_by, grant.tenant) for grant in grants}
        keys = {owner.name: await keys_of(storage, people, owner) for owner in owners}
        return cls(people, keys, at)

    def why_no_vote(self, grant: Grant, approval: Approval) -> str:
        """Why the grant gives no vote on the approval any more; empty if it does."""
        return self.people.why_no_vote(grant, approval, self.keys[grant.given_by], self.at)

    def holding(self, change: Change) -> Change:
        """The change, which is stored only if no key of those whose grants it uses was revoked
        meanwhile."""
        used = {row.given_by for row in change.rows if isinstance(row, Grant)}
        good = tuple(key for name in used for key in self.keys[name] if key.is_good(self.at))
        return together(change, Change(unchanged=good))
