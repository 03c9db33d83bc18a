"""Follow a thread: read the log past the cursor, yield, wait for the doorbell, read again.

Every transport is this loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing, suppress
from typing import Literal

from assent.core.errors import Gone, NotFound, Unavailable
from assent.core.events import (
    TERMINAL_TYPES,
    ApprovalEvent,
    ApprovalRequired,
    RunPaused,
    RunResumed,
    decode,
)
from assent.core.logs import named
from assent.core.rows import UNFINISHED, Run, ThreadStatus
from assent.storage.base import Doorbell, LogEntry, Storage

POLL_SECONDS = 5.0
"""The longest delay of a run's end whose ring was lost."""

LOOK_SECONDS = 30.0
"""The longest delay of an event whose ring was lost, for readers of a log. There may be thousands,
and a storage loses no ring as long as its process lives."""

STALL_SECONDS = 10.0
"""The storage may be away for so long before whoever waits for a run is told so. It leaves time for
a backup, and no client gives up before it."""

PAGE_BYTES = 256 << 10
"""The most bytes that are read at once for a reader, unless a single event has more."""

Batches = AsyncGenerator[tuple[LogEntry, ...], None]
"""Events of a log as they are read, some at a time."""


class Following:
    """A log that is read from a cursor on, in order, until somebody stops it or the process is
    about to end.

    `after` is the number of the last event that was read. With `types` only those events are given;
    they may be set while the log is followed, and hold from the next event on. `poll` is the
    longest time between two looks at the log. `ended` says why it ended: it was stopped, the server
    is "stopping", or the log is that of a run behind one that has "paused" (`Queued`).
    """

    def __init__(
        self,
        storage: Storage,
        log_id: str,
        after: int = 0,
        *,
        types: Collection[str] | None = None,
        poll: float = LOOK_SECONDS,
        most_bytes: int = PAGE_BYTES,
    ) -> None:
        self.storage = storage
        self.log_id = log_id
        self.after = after
        self.types = None if types is None else frozenset(types)
        self._poll = poll
        self.ended: Literal["", "stopped", "stopping", "paused"] = ""
        self._most_bytes = most_bytes
        # Looked up once, and not for each token: a storage may be wrapped several times.
        self._read_log = storage.read_log
        self.is_stopped = False
        self._doorbell: Doorbell | None = None

    @property
    def is_waiting(self) -> bool:
        """True while all events that there are were read and taken from `batches`."""
        return self._doorbell is not None and self._doorbell.is_waiting

    @property
    def behind(self) -> int:
        """The bytes of the events that came since the reader waited for some."""
        return self._doorbell.behind if self._doorbell is not None else 0

    def stop(self) -> None:
        """End `batches` at its next wait."""
        self.is_stopped = True
        self.ring()

    def ring(self) -> None:
        """Let `batches` give what is there, or nothing, without a wait."""
        if self._doorbell is not None:
            self._doorbell.ring()

    async def batches(self) -> Batches:
        """The events numbered above `after`, some at a time. A batch is empty after `poll` seconds
        without an event, whenever the log was rung for nothing, and where no event is of the types.

        Raises `Gone` if events above `after` were removed, or events that a slow reader has not
        read yet; and if the thread is erased meanwhile, whatever was read of it.
        """
        with self.storage.listen(self.log_id) as doorbell:
            self._doorbell = doorbell
            try:
                types = self.types
                while types is not None and types is self.types and not self.is_stopped:
                    after, entries = self.after, await self.read(types=types)
                    if doorbell.is_erased:
                        raise _erased(self.log_id, after)
                    if types is not self.types:
                        # Others were set meanwhile, and hold from where the cursor stood then.
                        self.after = after
                    elif not entries:
                        break
                    else:
                        yield entries

                # From here on every event is read, so that the cursor moves with the log. A cursor
                # that stays at the last event of the wanted types would fall behind what retention
                # removes, though nothing was missed.
                stopping = has_waited = False
                while not self.is_stopped:
                    # The doorbell was taken before this read, so what is written meanwhile rings.
                    after, entries = self.after, await self.read()
                    if doorbell.is_erased:
                        # Its numbers go on if it begins anew, but it is another thread.
                        raise _erased(self.log_id, after)
                    if entries or has_waited:
                        has_waited = False
                        yield self._wanted(entries)
                    elif stopping:
                        self.ended = "stopping"
                        return
                    else:
                        stopping = not await doorbell.wait(self._poll)
                        has_waited = not stopping
                self.ended = "stopped"
            finally:
                self._doorbell = None

    async def read(
        self, *, types: Collection[str] | None = None, run_id: str | None = None
    ) -> tuple[LogEntry, ...]:
        """The next events: only those of the types and the run, if given. Empty if there are none
        yet."""
        entries = await self._read_log(
            self.log_id, self.after, types=types, run_id=run_id, most_bytes=self._most_bytes
        )
        if entries:
            self.after = entries[-1].seq
        return entries

    def _wanted(self, entries: tuple[LogEntry, ...]) -> tuple[LogEntry, ...]:
        if self.types is None:
            return entries
        return tuple(entry for entry in entries if entry.type in self.types)


class Queued(Following):
    """The log of a thread, for whoever has started the run `run_id` there and sees only that. Where
    a run ahead of it pauses, nothing more comes for as long as nobody decides, and they would not
    learn why: the log ends for them with "paused", after `when_paused`."""

    def __init__(
        self, following: Following, run_id: str, when_paused: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(
            following.storage, following.log_id, following.after, types=following.types
        )
        self._run_id = run_id
        self._when_paused = when_paused

    async def batches(self) -> Batches:
        has_begun = False
        async with aclosing(super().batches()) as batches:
            async for entries in batches:
                yield entries
                for entry in entries:
                    has_begun = has_begun or entry.run_id == self._run_id
                if not has_begun and await self._is_paused(entries):
                    await self._when_paused()
                    self.ended = "paused"
                    return

    async def _is_paused(self, entries: tuple[LogEntry, ...]) -> bool:
        """True if a run among the entries has paused, and people are still asked."""
        paused = {entry.run_id for entry in entries if entry.type == "run_paused"}
        if not paused:
            return False
        thread = await self.storage.thread(self.log_id)
        return (
            thread is not None
            and thread.status is ThreadStatus.INTERRUPTED
            and thread.run_id in paused
        )


def _erased(thread_id: str, after: int) -> Gone:
    return Gone(
        f"The {named(thread_id)} has been erased, with its events up to number {after}.",
        first=after + 1,
    )


async def follow(
    storage: Storage, thread_id: str, after: int = 0, *, types: Collection[str] | None = None
) -> Batches:
    """The thread's events numbered above `after`, in order, until the process is about to end. With
    `types`, only those. Raises `Gone` as `Following.batches` does."""
    async with aclosing(Following(storage, thread_id, after, types=types).batches()) as batches:
        async for entries in batches:
            if entries:
                yield entries


async def wait_for_run(storage: Storage, run: Run) -> Run:
    """The run once it has ended or paused. Raises `NotFound` if it is removed before that, and
    `Unavailable` if the process is about to end, or the storage is away for long."""
    with storage.listen(run.thread_id) as doorbell:
        stopping = False
        while True:
            # In this order: an end that is not in the row yet has a higher number.
            after = await storage.last_seq(run.thread_id)
            stored = await storage.run(run.run_id)
            if stored is None:
                raise NotFound(
                    f"The run '{run.run_id}' was removed with its thread before it had ended."
                )
            if stored.status not in UNFINISHED:
                return stored
            if stopping:
                raise Unavailable(
                    "The server stops before the run has ended. It is kept: "
                    f"ask for GET /runs/{run.run_id}/wait when the server is back.",
                    run_id=run.run_id,
                )
            outage = storage.outage()
            if outage is not None and outage.seconds > STALL_SECONDS:
                raise Unavailable(
                    f"{outage.reason} The run is kept, and goes on when the storage is back: "
                    f"ask for GET /runs/{run.run_id}/wait then.",
                    run_id=run.run_id,
                )
            stopping = not await _wait_for_news(storage, run, after, doorbell)


async def _wait_for_news(storage: Storage, run: Run, after: int, doorbell: Doorbell) -> bool:
    """Wait until the run may have ended. Returns False if the process is about to end."""
    with suppress(Gone):
        while await doorbell.wait(POLL_SECONDS):
            entries = await storage.read_log(run.thread_id, after)
            if not entries:
                # Nothing rang. Check the row, in case a ring was lost.
                return True
            if _followed(run.run_id, entries)[1] != run.run_id:
                return True
            after = entries[-1].seq
        return False
    return True


async def wait_for_rest(storage: Storage, run: Run) -> Run:
    """The run that ended or paused last: this one, or one that went on at once because standing
    grants had answered. Raises as `wait_for_run` does."""
    last = await wait_for_run(storage, run)
    while last.next_run is not None:
        going_on = await storage.run(last.next_run)
        if going_on is None:
            break
        last = await wait_for_run(storage, going_on)
    return last


async def is_over(storage: Storage, run: Run, after: int) -> bool:
    """True if the run has ended or paused, as those have that went on after it, and no event of
    theirs is above `after`."""
    last = run
    while last.next_run is not None and (going_on := await storage.run(last.next_run)):
        last = going_on
    if last.status in UNFINISHED:
        return False
    newest = await storage.newest_event(last.thread_id, last.run_id)
    return newest is None or newest.seq <= after


async def replay_run(following: Following, run: Run) -> Batches:
    """The events that `follow_run` yields, past and to come. Raises `Gone` as it does."""
    storage = following.storage
    newest = await storage.last_seq(run.thread_id)
    following.after = min(following.after, newest)
    run_id: str | None = run.run_id
    while run_id is not None:
        # Read before the log, which has all events of a run that has ended.
        stored = await storage.run(run_id)
        ended = stored is None or stored.status not in UNFINISHED
        going_on = stored.next_run if stored else None
        while not following.is_stopped and (
            entries := await following.read(run_id=run_id, types=following.types)
        ):
            yield entries
            if entries[-1].type in TERMINAL_TYPES:
                ended, going_on = True, _next_run(entries[-1])
        if not ended:
            break
        run_id = going_on

    if run_id is not None:
        following.after = max(following.after, newest)
        async with aclosing(follow_run(following, run_id)) as batches:
            async for entries in batches:
                yield entries


async def follow_asked(following: Following, run: Run) -> Batches:
    """What `follow_run` yields of the run that a request asked for. If that has ended, the request
    has come before, and it is all that is left of the run, from its first event on."""
    if run.status in UNFINISHED:
        return follow_run(following, run.run_id)
    following.after = await first_of(following.storage, run.thread_id, run.run_id) - 1
    return replay_run(following, run)


async def follow_run(following: Following, run_id: str) -> Batches:
    """The run's events, until it ends, and what is told to all readers of its thread meanwhile. The
    run's last event is the last one yielded. Events of other runs on the thread are left out, and
    batches may be empty, as those of `Following.batches`.

    If the run pauses and standing grants answer at once, the events of the run that goes on
    follow.
    """
    async with aclosing(following.batches()) as batches:
        async for batch in batches:
            entries, going_on = _followed(run_id, batch)
            yield entries
            if going_on is None:
                return
            run_id = going_on


def _followed(
    run_id: str, entries: tuple[LogEntry, ...]
) -> tuple[tuple[LogEntry, ...], str | None]:
    """The entries of the run, of those that go on where it paused, and broadcasts; and the run to
    follow after them, None if that has ended."""
    followed: list[LogEntry] = []
    for entry in entries:
        if entry.run_id != run_id:
            if entry.type == "broadcast":
                followed.append(entry)
            continue
        followed.append(entry)
        if entry.type in TERMINAL_TYPES:
            going_on = _next_run(entry)
            if going_on is None:
                return tuple(followed), None
            run_id = going_on
    return tuple(followed), run_id


def _next_run(last: LogEntry) -> str | None:
    """The run that goes on after this last event of a run, if any."""
    event = decode(last.body) if last.type == "run_paused" else None
    return event.next_run or None if isinstance(event, RunPaused) else None


# ── executions ────────────────────────────────────────────────────────────────────────────────────


EXECUTION_TYPES = frozenset({
    "run_start", "run_resumed", "run_paused", "run_cancelled", "done", "error", "approval_required",
})  # fmt: skip
"""The types of the entries by which an `Execution` knows what belongs to it."""

_ENDS = TERMINAL_TYPES - {"run_paused"}


class Execution:
    """A run, and those that go on where it paused: one execution for a client that knows nothing of
    pauses. It is told the entries of their thread in order; I/O is none of its business.

    It begins with the run `root`, or else with the first that starts. `ends_with` is the entry with
    which it is over. A pause is not its end.
    """

    def __init__(self, root: str = "") -> None:
        self.ends_with: LogEntry | None = None
        self._runs = {root} if root else set()
        self._approvals: set[str] = set()
        self._is_paused = False

    def takes(self, entry: LogEntry) -> bool:
        """True if the entry, the next one of the thread's log, belongs to the execution."""
        if self.ends_with is not None:
            return False
        if not self._is_ours(entry):
            # A thread has one pause. Whoever has it now, nobody will go on from this one.
            if self._is_paused and entry.type == "run_start":
                self.ends_with = entry
            return False
        self._learn(entry)
        return True

    def _is_ours(self, entry: LogEntry) -> bool:
        if entry.run_id in self._runs:
            return True
        if entry.type == "run_start":
            return not self._runs
        if entry.type == "run_resumed":
            return self._goes_on(entry)
        if not entry.type.startswith("approval_"):
            return False
        # A decision is told under the run that goes on with it.
        event = decode(entry.body)
        return isinstance(event, ApprovalEvent) and event.approval_id in self._approvals

    def _goes_on(self, entry: LogEntry) -> bool:
        event = decode(entry.body)
        assert isinstance(event, RunResumed)
        if event.paused_run:
            return event.paused_run in self._runs
        # Older events, and those of programs without a server, do not name the run that paused.
        if event.approvals:
            return not self._approvals.isdisjoint(event.approvals)
        return self._is_paused

    def _learn(self, entry: LogEntry) -> None:
        if entry.type in _ENDS:
            self.ends_with = entry
        elif entry.type == "run_start":
            self._runs.add(entry.run_id)
        elif entry.type == "run_paused":
            self._is_paused = True
            if (next_run := _next_run(entry)) is not None:
                self._runs.add(next_run)
        elif entry.type == "run_resumed":
            self._runs.add(entry.run_id)
            self._is_paused = False
        elif entry.type == "approval_required":
            event = decode(entry.body)
            assert isinstance(event, ApprovalRequired)
            self._approvals.add(event.approval_id)


async def follow_execution(following: Following, execution: Execution) -> Batches:
    """The events of the execution until it ends, and what is told to all readers of its thread
    meanwhile. `following` begins at its first event or before, and gives `EXECUTION_TYPES` at
    least. Batches may be empty, as those of `Following.batches`."""
    async with aclosing(following.batches()) as batches:
        async for entries in batches:
            yield _taken(execution, entries)
            if execution.ends_with is not None:
                return


def _taken(execution: Execution, entries: tuple[LogEntry, ...]) -> tuple[LogEntry, ...]:
    taken: list[LogEntry] = []
    for entry in entries:
        if execution.takes(entry) or (entry.type == "broadcast" and execution.ends_with is None):
            taken.append(entry)
    return tuple(taken)


async def held_until_rest(following: Following, root: str) -> Batches:
    """The events of the execution that begins with the run `root`, whenever it comes to rest: it
    has ended, or waits for a person. Until then batches are empty. Nothing is kept meanwhile, and
    what came is read then. `following` is as for `follow_execution`."""
    storage, log_id, after = following.storage, following.log_id, following.after
    types, following.types = following.types, EXECUTION_TYPES
    told = Execution(root)
    async with aclosing(follow_execution(following, Execution(root))) as batches:
        async for entries in batches:
            rest = max((entry.seq for entry in entries if _is_rest(entry)), default=0)
            while after < rest and not following.is_stopped:
                page = await storage.read_log(log_id, after, types=types, most_bytes=PAGE_BYTES)
                page = tuple(entry for entry in page if entry.seq <= rest)
                if not page:
                    # Erased since it rested: following says so.
                    break
                after = page[-1].seq
                yield _taken(told, page)
            yield ()


def _is_rest(entry: LogEntry) -> bool:
    """True if the execution rests behind this entry of it."""
    return entry.type in TERMINAL_TYPES and _next_run(entry) is None


async def execution_so_far(storage: Storage, thread_id: str, root: str = "") -> Execution:
    """The execution that begins with the run `root`, and has been told all that is in the log."""
    execution = Execution(root)
    after = await first_of(storage, thread_id, root) - 1 if root else 0
    while execution.ends_with is None:
        entries = await storage.read_log(thread_id, after, types=EXECUTION_TYPES)
        if not entries:
            break
        after = entries[-1].seq
        _taken(execution, entries)
    return execution


async def entry_at(storage: Storage, log_id: str, seq: int) -> LogEntry | None:
    """The entry with this number; None if there is none, or it was removed."""
    try:
        entries = await storage.read_log(log_id, max(seq - 1, 0), limit=1)
    except Gone:
        return None
    return entries[0] if entries and entries[0].seq == seq else None


async def first_of(storage: Storage, thread_id: str, run_id: str) -> int:
    """The number of the run's first event that is left; of the thread's next one, if the run has
    none yet."""
    # In this order: the run's first event may come in between.
    last = await storage.last_seq(thread_id)
    entries = await storage.read_log(thread_id, run_id=run_id, limit=1)
    return entries[0].seq if entries else last + 1
