"""Opening: everything that runs agents is put together here, and closed here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from assent.approvals.people import People
from assent.approvals.record import APPROVAL_TIMER
from assent.core.clock import Clock
from assent.core.errors import ConfigurationError, InvalidRequest
from assent.core.policy import PolicyBook
from assent.graph.interrupts.matching import matched
from assent.graph.kinds import Agent
from assent.graph.loading import Project
from assent.graph.model_files import show_uploads_to_models
from assent.graph.retrying import unwrapped
from assent.graph.state_types import state_types as state_types_of
from assent.graph.task_options import TaskRules
from assent.runs.approvals import Approvals
from assent.runs.budgets import Budgets
from assent.runs.distrust import end_unreadable
from assent.runs.engine import OnTimer
from assent.runs.executor import GraphExecutor
from assent.runs.inputs import shapes_of, task_models
from assent.runs.inspection import check_people, check_policies, log_roles_of_rights
from assent.runs.loop_watch import watched_loop
from assent.runs.metrics import LoopLag, Metrics
from assent.runs.recursion import RecursionLimits
from assent.runs.schedules import SCHEDULE_TIMER
from assent.runs.service import CheckWebhook, Runs
from assent.runs.sync_threads import MAX_THREADS, SyncThreads
from assent.runs.temporary import ERASE_TIMER, KEPT, Temporary, with_erase_timers
from assent.runs.uploads import UploadLimits, Uploads
from assent.runs.worker import EmbeddedEngine
from assent.storage.base import Caps, QueueLimits, Storage
from assent.storage.store import StoreOptions
from assent.storage.wrapped import told


def no_webhooks(url: str) -> None:
    """Raise `InvalidRequest`: nobody is told of the ends of runs."""
    raise InvalidRequest("There are no webhooks here that could be told of the end of a run.")


@asynccontextmanager
async def open_runs(
    storage: Storage,
    agents: Mapping[str, Agent],
    *,
    clock: Clock | None = None,
    recursion: RecursionLimits = RecursionLimits(),
    drain_seconds: float = 5.0,
    max_runs: int = 500,
    sync_threads: int = MAX_THREADS,
    state_types: Iterable[tuple[str, str]] = (),
    budgets: Budgets = Budgets(),
    policies: PolicyBook = PolicyBook(),
    people: People = People(),
    queue: QueueLimits = QueueLimits(),
    caps: Caps = Caps(),
    store: StoreOptions = StoreOptions(),
    configurable: Mapping[str, Collection[str]] | None = None,
    tasks: Mapping[str, TaskRules] | None = None,
    uploads: UploadLimits = UploadLimits(),
    watch_loop: bool = True,
    metrics: Metrics | None = None,
    check_webhook: CheckWebhook = no_webhooks,
    temporary_kept: timedelta = KEPT,
) -> AsyncIterator[Runs]:
    """Go on with what the last process left, and take runs until the context is left.

    Then active runs get `drain_seconds` to reach the end of a step. Those that need longer are cut
    off, and all go on at the next start.

    At most `max_runs` run at once, and `sync_threads` of their sync nodes and tools; more wait
    their turn, as many as `queue` admits. What people ask for makes no more than `caps` permit.
    `state_types` are the types, as module and name, that agents keep in their state without
    declaring them. `configurable` are keys of the config that clients may set, by agent, besides
    those that the graphs declare, and `tasks` is what tasks may choose of an agent. `recursion` and
    `budgets` limit what runs may do and use, `policies` say how calls are approved, and `people`
    are those who decide. Agents without a store of their own get the storage's, with the options
    `store`. With `watch_loop` the log names code that blocks the event loop. What happens is
    counted in `metrics`. `check_webhook` refuses the webhooks of runs that are told nothing; by
    default all of them. A thread that goes with its run is kept for `temporary_kept` after its end.
    Raises `ConfigurationError` for limits, budgets, keys, tasks or policies of an unknown agent,
    for models that cannot be set up, for policies that contradict the agent's code, and for those
    that none of the people can meet.
    """
    clock = clock or Clock()
    metrics = metrics or Metrics()
    storage = with_erase_timers(told(storage, metrics.learn), clock, temporary_kept)
    temporary = Temporary(storage, clock)
    late = agents.store if isinstance(agents, Project) else None
    agents = {name: unwrapped(agent) for name, agent in agents.items()}
    check_agents("budget", budgets.agents, agents)
    check_agents("recursion limit", recursion.agents, agents)
    recursion.check_highest()
    check_policies(policies, agents)
    check_people(people, policies, agents)
    log_roles_of_rights(policies, agents)
    check_agents("configurable", configurable or {}, agents)
    check_agents("section of tasks", tasks or {}, agents)
    memory = storage.store(store)
    if late is not None:
        late.open(memory)
    # The server's checkpointer takes the place of a graph's own: a pause must outlive the process.
    # A store of its own is left to it: nothing else depends on what it remembers.
    saver = storage.checkpointer.with_allowlist(list(state_types))
    served: dict[str, Agent] = {}
    for name, agent in agents.items():
        checkpointer = saver.with_allowlist(state_types_of(agent))
        given = memory if agent.store is None else agent.store
        update = {"checkpointer": checkpointer, "store": given}
        served[name] = matched(agent).copy(update=update)

    show_uploads_to_models()
    shapes = shapes_of(served, configurable, tasks)
    threads = SyncThreads(sync_threads)
    metrics.waiting_for_threads = lambda: threads.waiting
    executor = GraphExecutor(
        storage,
        served,
        clock=clock,
        recursion=recursion,
        threads=threads,
        budgets=budgets,
        policies=policies,
        people=people,
        shapes=shapes,
        task_models=task_models(shapes),
    )
    # The engine needs these, and they the engine: it calls them only once it works.
    on_timer: dict[str, OnTimer] = {
        SCHEDULE_TIMER: lambda timer: runs.schedules.fire(timer),
        ERASE_TIMER: temporary.fire,
        APPROVAL_TIMER: lambda timer: approvals.check_deadline(timer),
    }
    engine = EmbeddedEngine(storage, executor, clock=clock, max_runs=max_runs, on_timer=on_timer)
    approvals = Approvals(storage, engine, served, clock=clock, policies=policies, people=people)
    runs = Runs(
        storage,
        served,
        engine,
        approvals,
        clock=clock,
        recursion=recursion,
        drain_seconds=drain_seconds,
        queue=queue,
        caps=caps,
        shapes=shapes,
        uploads=Uploads(storage, clock, uploads),
        check_webhook=check_webhook,
        temporary=temporary,
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(threads.taking_over())
        if watch_loop:
            metrics.loop_lag = LoopLag()
            stack.enter_context(watched_loop(metrics.loop_lag))
        stack.push_async_callback(runs.drain)
        await end_unreadable(storage)
        await runs.uploads.remove_spare()
        await stack.enter_async_context(engine.working())
        yield runs


def check_agents(what: str, named: Iterable[str], agents: Collection[str]) -> None:
    """Raise `ConfigurationError` if there is a budget, or `what` else, for an agent that does not
    exist."""
    for name in named:
        if name not in agents:
            raise ConfigurationError(
                f"There is a {what} for the agent '{name}', and no such agent. "
                f"There are: {', '.join(agents)}."
            )
