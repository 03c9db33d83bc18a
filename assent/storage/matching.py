"""The storage as one request may see it, of whose threads, schedules or assistants only some are
for it: those whose metadata match. What hangs on a thread goes by the thread, and versions by their
assistant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from assent.core.access import Sight
from assent.core.approval import Approval
from assent.core.errors import NotFound
from assent.core.json import Json
from assent.core.rows import Assistant, AssistantVersion, Run, Schedule, Thread
from assent.storage.base import Caps, LogEntry, Page, Storage
from assent.storage.seen import SeenStorage

Matches = Callable[[Mapping[str, Json]], bool]


def _all(metadata: Mapping[str, Json]) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Matching:
    """Which metadata the threads, schedules and assistants have that are for a request."""

    threads: Matches = _all
    schedules: Matches = _all
    assistants: Matches = _all


class MatchingStorage(SeenStorage):
    """A seen storage without the threads, schedules and assistants that do not match. Pages may be
    shorter than was asked for."""

    def __init__(self, whole: Storage, sight: Sight, caps: Caps | None, matching: Matching) -> None:
        super().__init__(whole, sight, caps)
        self._matching = matching
        self._known: dict[str, bool] = {}

    async def thread(self, thread_id: str) -> Thread | None:
        thread = await super().thread(thread_id)
        return thread if thread is not None and self._matching.threads(thread.metadata) else None

    async def threads(self, **filters: Any) -> Page[Thread]:
        page = await super().threads(**filters)
        rows = tuple(row for row in page.rows if self._matching.threads(row.metadata))
        return replace(page, rows=rows)

    async def run(self, run_id: str) -> Run | None:
        run = await super().run(run_id)
        return run if run is not None and await self._is_shown(run.thread_id) else None

    async def runs(self, **filters: Any) -> tuple[Run, ...]:
        return await self._shown(await super().runs(**filters))

    async def latest_runs(self, **filters: Any) -> Page[Run]:
        page = await super().latest_runs(**filters)
        return replace(page, rows=await self._shown(page.rows))

    async def approval(self, approval_id: str) -> Approval | None:
        found = await super().approval(approval_id)
        return found if found is not None and await self._is_shown(found.thread_id) else None

    async def approvals(self, **filters: Any) -> Page[Approval]:
        page = await super().approvals(**filters)
        rows = [row for row in page.rows if await self._is_shown(row.thread_id)]
        return replace(page, rows=tuple(rows))

    async def schedule(self, schedule_id: str) -> Schedule | None:
        row = await super().schedule(schedule_id)
        return row if row is not None and self._matching.schedules(row.metadata) else None

    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[Schedule]:
        page = await super().schedules(limit=limit, cursor=cursor)
        rows = tuple(row for row in page.rows if self._matching.schedules(row.metadata))
        return replace(page, rows=rows)

    async def assistant(self, assistant_id: str) -> Assistant | None:
        row = await super().assistant(assistant_id)
        return row if row is not None and self._matching.assistants(row.metadata) else None

    async def assistants(self, *, limit: int = 100, cursor: str | None = None) -> Page[Assistant]:
        page = await super().assistants(limit=limit, cursor=cursor)
        rows = tuple(row for row in page.rows if self._matching.assistants(row.metadata))
        return replace(page, rows=rows)

    async def assistant_version(self, version_id: str) -> AssistantVersion | None:
        row = await super().assistant_version(version_id)
        return row if row is not None and await self.assistant(row.assistant_id) else None

    async def assistant_versions(
        self, assistant_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[AssistantVersion]:
        if await self.assistant(assistant_id) is None:
            return Page(())
        return await super().assistant_versions(assistant_id, limit=limit, cursor=cursor)

    async def read_log(
        self,
        thread_id: str,
        after: int = 0,
        *,
        limit: int = 1000,
        types: Collection[str] | None = None,
        run_id: str | None = None,
        most_bytes: int | None = None,
    ) -> tuple[LogEntry, ...]:
        await self._check_shown(thread_id)
        return await super().read_log(
            thread_id, after, limit=limit, types=types, run_id=run_id, most_bytes=most_bytes
        )

    async def read_log_back(
        self,
        thread_id: str,
        before: int | None = None,
        *,
        limit: int = 1000,
        types: Collection[str] | None = None,
        run_id: str | None = None,
        most_bytes: int | None = None,
    ) -> tuple[LogEntry, ...]:
        await self._check_shown(thread_id)
        return await super().read_log_back(
            thread_id, before, limit=limit, types=types, run_id=run_id, most_bytes=most_bytes
        )

    async def check_cursor(self, thread_id: str, after: int) -> None:
        await self._check_shown(thread_id)
        await super().check_cursor(thread_id, after)

    async def newest_event(self, thread_id: str, run_id: str) -> LogEntry | None:
        await self._check_shown(thread_id)
        return await super().newest_event(thread_id, run_id)

    async def last_seq(self, thread_id: str) -> int:
        await self._check_shown(thread_id)
        return await super().last_seq(thread_id)

    async def _shown(self, runs: Iterable[Run]) -> tuple[Run, ...]:
        return tuple([run for run in runs if await self._is_shown(run.thread_id)])

    async def _is_shown(self, thread_id: str) -> bool:
        """True if the thread is for the request. Asked once: it lives as long as one request."""
        known = self._known.get(thread_id)
        if known is None:
            known = self._known[thread_id] = await self.thread(thread_id) is not None
        return known

    async def _check_shown(self, thread_id: str) -> None:
        # A feed is nobody's thread, and goes by the sight alone.
        if not thread_id.startswith("~") and not await self._is_shown(thread_id):
            raise NotFound(f"There is no thread '{thread_id}'.")
