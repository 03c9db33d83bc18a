"""The storage as one request may see it.

Every method is written down here, so that whoever adds one to `Storage` has to say what becomes of
it: what is read goes by the sight, what is written is checked, and what no request needs is
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NoReturn

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore

from assent.core.access import Owner, Sight
from assent.core.approval import Approval
from assent.core.audit import AuditHead, AuditRecord
from assent.core.events import Event
from assent.core.grant import Grant
from assent.core.rows import (
    Answer,
    ApiKey,
    Assistant,
    AssistantVersion,
    File,
    FileUse,
    Lease,
    Link,
    Notification,
    Row,
    Run,
    Schedule,
    Session,
    Thread,
    Timer,
)
from assent.storage.base import Caps, Change, Doorbell, Load, LogEntry, Outage, Page, Storage
from assent.storage.chain import Heads
from assent.storage.files import Files
from assent.storage.store import StoreOptions

OWNED = (Thread, Run, Schedule, Assistant, AssistantVersion, File)
"""The rows that a request makes for its sender."""


class Unseen(AssertionError):
    """A request has asked for what no request may have: a mistake of the program."""


class SeenStorage(Storage):
    """A storage with a sight that does not show everything, for one request or stream. What it
    changes goes through the whole storage, with the feeds, notifications and log lines, and makes
    no more than the `caps` permit."""

    def __init__(self, whole: Storage, sight: Sight, caps: Caps | None = None) -> None:
        self.checkpointer: BaseCheckpointSaver[Any] = whole.checkpointer
        self.files: Files = whole.files
        self._whole = whole
        self._sight = sight
        self._caps = caps
        self._reads = whole.seen_by(sight)

    def seen_by(self, sight: Sight) -> NoReturn:
        """Raise `Unseen`: a sight is never made wider."""
        self._refuse("seen_by")

    def _refuse(self, method: str) -> NoReturn:
        raise Unseen(f"A request with the sight '{self._sight.reach}' has called {method}().")

    # ── what is the same for everybody ──

    def store(self, options: StoreOptions = StoreOptions()) -> BaseStore:
        return self._whole.store(options)

    def outage(self) -> Outage | None:
        return self._whole.outage()

    async def load(self) -> Load:
        """Return how much there is to do, to whoever watches the server."""
        if self._sight.reach != "tenant":
            self._refuse("load")
        return await self._whole.load()

    def end_listening(self) -> None:
        self._refuse("end_listening")

    # ── changes ──

    async def commit(self, change: Change) -> tuple[int, ...]:
        """Apply the change. Its rows are those that were seen, and what is new is the sender's own;
        anything else is a mistake of the program, and raises `Unseen`."""
        for row in change.rows:
            self._check(row, is_new=row.version == 1)
        for row in change.removed:
            self._check(row, is_new=False)
        return await self._whole.commit(replace(change, caps=self._caps))

    def _check(self, row: Row, *, is_new: bool) -> None:
        reach, owner = self._sight.reach, self._sight.owner
        tenant = getattr(row, "tenant", owner.tenant)
        if reach == "nothing" or tenant != owner.tenant:
            self._refuse(f"commit of a {type(row).__name__}")
        is_owned = isinstance(row, OWNED)
        if is_new and is_owned and (reach != "own" or getattr(row, "owner", "") != owner.name):
            self._refuse(f"commit of a new {type(row).__name__}")

    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        self._refuse("append")

    # ── logs ──

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
        return await self._reads.read_log(
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
        return await self._reads.read_log_back(
            thread_id, before, limit=limit, types=types, run_id=run_id, most_bytes=most_bytes
        )

    async def check_cursor(self, thread_id: str, after: int) -> None:
        await self._reads.check_cursor(thread_id, after)

    async def newest_event(self, thread_id: str, run_id: str) -> LogEntry | None:
        return await self._reads.newest_event(thread_id, run_id)

    async def last_seq(self, thread_id: str) -> int:
        return await self._reads.last_seq(thread_id)

    def listen(self, thread_id: str) -> AbstractContextManager[Doorbell]:
        return self._reads.listen(thread_id)

    # ── threads and runs ──

    async def thread(self, thread_id: str) -> Thread | None:
        return await self._reads.thread(thread_id)

    async def threads(self, **filters: Any) -> Page[Thread]:
        return await self._reads.threads(**filters)

    async def prune_checkpoints(self, thread_ids: Sequence[str], keep: int) -> None:
        """Remove checkpoints of threads that were seen, as far as they are still there."""
        seen = [each for each in thread_ids if await self.thread(each) is not None]
        for other in set(thread_ids) - set(seen):
            if await self._whole.thread(other) is not None:
                self._refuse("prune_checkpoints")
        await self._whole.prune_checkpoints(seen, keep)

    async def run(self, run_id: str) -> Run | None:
        return await self._reads.run(run_id)

    async def runs(self, **filters: Any) -> tuple[Run, ...]:
        return await self._reads.runs(**filters)

    async def latest_runs(self, **filters: Any) -> Page[Run]:
        return await self._reads.latest_runs(**filters)

    async def distrust(self, thread_id: str, reason: str, *, stopped: bool = False) -> None:
        """Mark the thread as tampered with: whoever has met a broken row of it has seen it."""
        await self._whole.distrust(thread_id, reason, stopped=stopped)

    # ── timers and schedules ──

    async def timer(self, timer_id: str) -> Timer | None:
        """Return the timer of an approval or a schedule that was seen: no client names one."""
        return await self._whole.timer(timer_id)

    async def schedule(self, schedule_id: str) -> Schedule | None:
        return await self._reads.schedule(schedule_id)

    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[Schedule]:
        return await self._reads.schedules(limit=limit, cursor=cursor)

    # ── assistants ──

    async def assistant(self, assistant_id: str) -> Assistant | None:
        return await self._reads.assistant(assistant_id)

    async def assistants(self, *, limit: int = 100, cursor: str | None = None) -> Page[Assistant]:
        return await self._reads.assistants(limit=limit, cursor=cursor)

    async def assistant_version(self, version_id: str) -> AssistantVersion | None:
        return await self._reads.assistant_version(version_id)

    async def assistant_versions(
        self, assistant_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[AssistantVersion]:
        return await self._reads.assistant_versions(assistant_id, limit=limit, cursor=cursor)

    # ── approvals ──

    async def approval(self, approval_id: str) -> Approval | None:
        return await self._reads.approval(approval_id)

    async def approvals(self, **filters: Any) -> Page[Approval]:
        return await self._reads.approvals(**filters)

    async def grant(self, grant_id: str) -> Grant | None:
        return await self._reads.grant(grant_id)

    async def grants(self, *, limit: int = 100, cursor: str | None = None) -> Page[Grant]:
        return await self._reads.grants(limit=limit, cursor=cursor)

    async def answer(self, answer_id: str) -> Answer | None:
        return await self._reads.answer(answer_id)

    async def audit(self, **filters: Any) -> Page[AuditRecord]:
        return await self._reads.audit(**filters)

    async def audit_head(self) -> AuditHead | None:
        return await self._reads.audit_head()

    async def link(self, link_id: str) -> Link | None:
        return await self._reads.link(link_id)

    # ── uploads ──

    async def file(self, file_id: str) -> File | None:
        return await self._reads.file(file_id)

    async def file_uses(self, thread_id: str) -> tuple[FileUse, ...]:
        return await self._reads.file_uses(thread_id)

    async def size_of_files(self) -> int:
        """Sum up all uploads: they have one disk."""
        return await self._whole.size_of_files()

    async def size_of_files_of(self, owner: Owner) -> tuple[int, int]:
        """Sum up what somebody's uploads take of the room that they have, seen or not."""
        return await self._whole.size_of_files_of(owner)

    async def remove_file(self, file_id: str) -> bool:
        """Remove the row of the upload if it is seen, and no thread refers to it."""
        return await self._reads.file(file_id) is not None and await self._whole.remove_file(
            file_id
        )

    # ── notifications ──

    async def notification(self, notification_id: str) -> Notification | None:
        return await self._reads.notification(notification_id)

    async def notifications(self, **filters: Any) -> Page[Notification]:
        return await self._reads.notifications(**filters)

    # ── what lets people in ──

    async def api_key(self, key_id: str) -> ApiKey | None:
        return await self._reads.api_key(key_id)

    async def api_keys(
        self, *, owner: Owner | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[ApiKey]:
        return await self._reads.api_keys(owner=owner, limit=limit, cursor=cursor)

    async def session(self, session_id: str) -> Session | None:
        return await self._reads.session(session_id)

    async def sessions(
        self, *, owner: Owner | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Session]:
        return await self._reads.sessions(owner=owner, limit=limit, cursor=cursor)

    # ── what no request needs ──

    async def ended_runs(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("ended_runs")

    async def due_runs(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("due_runs")

    async def orphaned_runs(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("orphaned_runs")

    async def verify_audit(self, heads: Heads | None = None) -> NoReturn:
        self._refuse("verify_audit")

    async def unfinished_runs(self) -> NoReturn:
        self._refuse("unfinished_runs")

    async def usage(self, **options: Any) -> NoReturn:
        self._refuse("usage")

    async def heartbeat(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("heartbeat")

    async def workers(self) -> NoReturn:
        self._refuse("workers")

    async def retire(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("retire")

    async def due_timers(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("due_timers")

    async def next_due(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("next_due")

    async def open_grants(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("open_grants")

    async def effect(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("effect")

    async def effects(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("effects")

    async def links_of(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("links_of")

    async def uploads_of(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("uploads_of")

    async def known_files(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("known_files")

    async def remove_unused_files(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_unused_files")

    async def due_notifications(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("due_notifications")

    async def next_notification(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("next_notification")

    async def ticket(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("ticket")

    async def remove_sign_ins(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_sign_ins")

    async def idle_threads(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("idle_threads")

    async def remove_runs(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_runs")

    async def remove_events(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_events")

    async def remove_answers(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_answers")

    async def remove_grants(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_grants")

    async def remove_links(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_links")

    async def remove_items(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_items")

    async def forget_times_of_usage(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("forget_times_of_usage")

    async def remove_notifications(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse("remove_notifications")

    async def shrink(self) -> NoReturn:
        self._refuse("shrink")
