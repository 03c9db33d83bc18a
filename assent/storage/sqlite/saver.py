"""LangGraph's checkpointer over one SQLite file, which grows with what happens in a thread and not
with the square of it.

    async with SqliteSaver.from_conn_string("checkpoints.db") as saver:
        graph = builder.compile(checkpointer=saver)

It differs from LangGraph's `AsyncSqliteSaver` on purpose:

1. One process has the file. A second one that opens it is refused.
2. Only types that were allowed are made from what the file holds (`serializer.py`), whatever the
   environment says.
3. `with` works too, and then the methods that are not async may be called anywhere.
4. A channel is stored when its version is new, as in `InMemorySaver` and `PostgresSaver`; versions
   are integers.
5. Messages that several checkpoints of one `list` have in common are the same objects there. What
   any other call returns is its caller's alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Concatenate, ParamSpec, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from assent.checkpoint.serializer import StrictSerializer, Type
from assent.core.clock import Clock, utc_now
from assent.core.sealing import NoSeal, Seal, parse_keys
from assent.storage.sqlite import database
from assent.storage.sqlite.checkpoints.store import Checkpoints
from assent.storage.sqlite.file_keys import seal_of
from assent.storage.sqlite.handing_over import from_thread, on_loop
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.writer import Writer

T = TypeVar("T")
P = ParamSpec("P")

CACHE_BYTES = 64 << 20
"""The memory of the lists to remember, roughly."""


def _from_another_thread(
    method: Callable[Concatenate[SqliteSaver, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SqliteSaver, P], T]:
    """The method that waits in this thread for the async one."""

    def wait(self: SqliteSaver, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._there(method(self, *args, **kwargs))

    return wait


class SqliteSaver(BaseCheckpointSaver[int]):
    """A checkpointer for any graph. Made by `from_conn_string`, or by `over` the writer and the
    reader of a file that is open already.

    Every method raises `Unavailable` if the file cannot serve it; then nothing was changed. Only
    what a server's run writes, under its lease, waits for the file instead.
    """

    def __init__(self, checkpoints: Checkpoints, serde: SerializerProtocol) -> None:
        super().__init__(serde=serde)
        self._checkpoints = checkpoints
        self._loop = asyncio.get_running_loop()

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str | Path,
        *,
        serde: SerializerProtocol | None = None,
        allowed: Iterable[type | Type] = (),
        cache_bytes: int = CACHE_BYTES,
        encryption_key: str | None = None,
    ) -> Opening:
        """Open the saver over the file of that name, by `async with` or by `with`.

        The file is made if there is none; ":memory:" is a temporary one. `allowed` names the types
        in your graphs' states, beside messages, LangGraph's own and those of the standard library.
        `encryption_key` seals what is stored: `id:base64 of 32 bytes`, and behind a comma older
        keys, which only open.

        On entering raises `ConfigurationError` if the file cannot be used, another process has it,
        or it is not sealed with these keys.
        """
        serde = serde or StrictSerializer(allowed)
        return Opening(cls._open(conn_string, serde, cache_bytes, encryption_key))

    @classmethod
    @asynccontextmanager
    async def _open(
        cls,
        name: str | Path,
        serde: SerializerProtocol,
        cache_bytes: int,
        encryption_key: str | None,
    ) -> AsyncIterator[SqliteSaver]:
        keys = parse_keys(encryption_key)
        async with AsyncExitStack() as stack:
            if name == ":memory:":
                folder = stack.enter_context(TemporaryDirectory(prefix="assent-"))
                name = Path(folder) / "checkpoints.db"
            path = database.resolved(name)
            connection = stack.enter_context(database.opened(path, Clock()))
            seal = seal_of(connection, path, keys)
            writer = Writer(connection, path.name, lambda stored: None, seal)
            stack.push_async_callback(writer.close)
            reader = await stack.enter_async_context(Reader.open(path))
            yield await cls.over(writer, reader, serde=serde, cache_bytes=cache_bytes, seal=seal)

    @classmethod
    async def over(
        cls,
        writer: Writer,
        reader: Reader,
        *,
        serde: SerializerProtocol | None = None,
        cache_bytes: int = CACHE_BYTES,
        seal: Seal | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> SqliteSaver:
        """The saver over a file that is open already. `now` is the time of the events of runs."""
        checkpoints = await Checkpoints.open(
            writer, reader, seal or NoSeal(), cache_bytes=cache_bytes, now=now
        )
        return cls(checkpoints, serde or StrictSerializer())

    def with_allowlist(self, extra_allowlist: Collection[Type]) -> SqliteSaver:
        """The same saver, which makes these types too."""
        other = super().with_allowlist(extra_allowlist)
        assert isinstance(other, SqliteSaver)
        return other

    def get_next_version(self, current: Any, channel: None) -> Any:
        # A thread that came from another saver goes on with that one's versions, which are texts
        # that sort.
        if isinstance(current, str):
            return f"{int(current.split('.')[0]) + 1:032}"
        return 1 if current is None else current + 1

    # ── on an event loop ──

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._here(self._checkpoints.get(config, self.serde))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        found = self._checkpoints.search(config, filter, before, limit, self.serde)
        while (each := await self._here(_next(found))) is not None:
            yield each

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self._here(
            self._checkpoints.put(config, checkpoint, metadata, new_versions, self.serde)
        )

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await self._here(
            self._checkpoints.put_writes(config, writes, task_id, task_path, self.serde)
        )

    async def adelete_thread(self, thread_id: str) -> None:
        await self._here(self._checkpoints.delete_thread(str(thread_id)))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._here(self._checkpoints.delete_for_runs([str(each) for each in run_ids]))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        source, target = str(source_thread_id), str(target_thread_id)
        await self._here(self._checkpoints.copy_thread(source, target, self.serde))

    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep: int = 1
    ) -> None:
        """Remove checkpoints. `keep_latest` keeps the latest `keep` checkpoints of each namespace,
        and those that their delta channels need; but nothing of a subgraph's call in a step whose
        checkpoint goes. It leaves threads that a run of the server has. `delete` keeps none.

        Raises `ValueError` for another strategy, or if `keep` is below 1.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(
                f"There is no strategy {strategy!r} to prune by. Use 'keep_latest' or 'delete'."
            )
        if keep < 1:
            raise ValueError(
                "At least one checkpoint is kept. Use the strategy 'delete' to keep none."
            )
        threads = [str(each) for each in thread_ids]
        if strategy == "keep_latest":
            await self._here(self._checkpoints.prune(threads, keep, self.serde))
            return
        for thread_id in threads:
            await self.adelete_thread(thread_id)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await self._here(self._checkpoints.delta_history(config, channels, self.serde))

    def forget_thread(self, thread_id: str) -> None:
        """Keep nothing of an erased thread in memory. On the event loop that opened the file."""
        self._checkpoints.forget_thread(thread_id)

    async def _here(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await on_loop(self._loop, coroutine)

    # ── from another thread ──

    get_tuple = _from_another_thread(aget_tuple)
    put = _from_another_thread(aput)
    put_writes = _from_another_thread(aput_writes)
    delete_thread = _from_another_thread(adelete_thread)
    delete_for_runs = _from_another_thread(adelete_for_runs)
    copy_thread = _from_another_thread(acopy_thread)
    prune = _from_another_thread(aprune)
    get_delta_channel_history = _from_another_thread(aget_delta_channel_history)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        found = self.alist(config, filter=filter, before=before, limit=limit)
        while (each := self._there(_next(found))) is not None:
            yield each

    def _there(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return from_thread(self._loop, coroutine)


class Opening:
    """Opens a saver: by `async with` on the event loop that is running, or by `with` on one in a
    thread of its own."""

    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread

    def __init__(self, opened: AbstractAsyncContextManager[SqliteSaver]) -> None:
        self._opened = opened

    async def __aenter__(self) -> SqliteSaver:
        return await self._opened.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._opened.__aexit__(*error)

    def __enter__(self) -> SqliteSaver:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="assent-checkpoints", daemon=True
        )
        self._thread.start()
        try:
            return self._wait(self._opened.__aenter__())
        except BaseException:
            self._end()
            raise

    def __exit__(self, *error: Any) -> None:
        try:
            self._wait(self._opened.__aexit__(None, None, None))
        finally:
            self._end()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(found: AsyncIterator[CheckpointTuple]) -> CheckpointTuple | None:
    return await anext(found, None)
