import type { Run, RunStatus as Status } from "@assent/client";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useEffect, useId, useState } from "react";
import { Link } from "wouter";
import { useAddress } from "../../address.ts";
import { assent } from "../../assent.ts";
import { Page } from "../../layout/Page.tsx";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { SelectField, TextField } from "../../parts/Field.tsx";
import { RunsIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Empty, ErrorState, Loading, Stale } from "../../parts/states.tsx";
import { RunStatus } from "../../parts/statuses.tsx";
import { Time, useNow } from "../../parts/Time.tsx";
import { dollars, duration, number, relativeTime } from "../../parts/times.ts";
import { useLiveRuns } from "./live.ts";
import styles from "./RunsPage.module.css";
import { type Summary, useSummaries } from "./titles.ts";

const words = messages.runs;

const PAGE = 50;
const STATUSES: Status[] = ["pending", "running", "cancelling", "interrupted", "success", "error", "timeout", "cancelled"];
const NAMES = ["status", "agent", "owner", "thread"] as const;

/** How long after the last key an id that is typed is looked for. */
const TYPED = 300;

interface Filters {
  status: Status | null;
  agent: string | null;
  owner: string | null;
  thread: string | null;
}

function useFilters(): [Filters, (name: (typeof NAMES)[number], value: string) => void, () => void] {
  const [address, change] = useAddress();
  const status = STATUSES.find((each) => each === address.get("status")) ?? null;
  const filters = { status, agent: address.get("agent"), owner: address.get("owner"), thread: address.get("thread") };
  const set = (name: string, value: string) => change({ [name]: value });
  const clear = () => change(Object.fromEntries(NAMES.map((name) => [name, null])));
  return [filters, set, clear];
}

export default function RunsPage() {
  const [filters, set, clear] = useFilters();
  const { status, agent, owner, thread } = filters;
  const isFiltered = NAMES.some((name) => filters[name] !== null);
  const runs = useInfiniteQuery({
    queryKey: ["runs", "list", filters],
    queryFn: ({ pageParam, signal }) =>
      assent.runs.list(
        {
          limit: PAGE,
          cursor: pageParam,
          ...(status && { status }),
          ...(agent && { agent }),
          ...(owner && { owner }),
          ...(thread && { thread_id: thread }),
        },
        { signal },
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
    placeholderData: (before) => before,
  });
  useLiveRuns(agent);
  const found = runs.data?.pages.flatMap((page) => page.items) ?? [];
  const threads = useSummaries(found.map((run) => run.thread_id));

  return (
    <Page title={words.title} sub={words.hint}>
      <Choice filters={filters} onChange={set} onClear={clear} isFiltered={isFiltered} />
      {runs.isPending && <Loading lines={8} />}
      {runs.isLoadingError && <ErrorState error={runs.error} retry={() => void runs.refetch()} />}
      {runs.isError && !runs.isLoadingError && <Stale error={runs.error} retry={() => void runs.refetch()} />}
      {runs.data !== undefined && found.length === 0 && <Nothing isFiltered={isFiltered} onClear={clear} />}
      {found.length > 0 && (
        <>
          <List runs={found} threads={threads} />
          <div className={styles.foot}>
            {runs.hasNextPage ? (
              <Button busy={runs.isFetchingNextPage} onClick={() => void runs.fetchNextPage()}>
                {words.older}
              </Button>
            ) : (
              words.end
            )}
          </div>
        </>
      )}
    </Page>
  );
}

function Nothing({ isFiltered, onClear }: { isFiltered: boolean; onClear: () => void }) {
  if (!isFiltered) {
    return (
      <Empty icon={<RunsIcon />} title={words.none}>
        {words.noneHint}
      </Empty>
    );
  }
  return (
    <Empty icon={<RunsIcon />} title={words.noneFound} actions={<Button onClick={onClear}>{words.all}</Button>}>
      {words.noneFoundHint}
    </Empty>
  );
}

interface ChoiceProps {
  filters: Filters;
  isFiltered: boolean;
  onChange: (name: (typeof NAMES)[number], value: string) => void;
  onClear: () => void;
}

function Choice({ filters, isFiltered, onChange, onClear }: ChoiceProps) {
  const me = useMe();
  const seesOthers = me.authentication !== "local" && me.rights.includes("watch");
  const agents = useQuery({ queryKey: ["agents"], queryFn: ({ signal }) => assent.agents.list({ signal }) });
  const names = new Set(agents.data?.map((each) => each.agent));
  if (filters.agent !== null) names.add(filters.agent);
  const statuses = STATUSES.map((value) => ({ value, label: messages.status.runs[value] }));
  const all = [...names].map((value) => ({ value, label: value }));
  return (
    <div className={styles.filters} role="search" aria-label={words.filters}>
      <SelectField
        label={words.status}
        value={filters.status ?? ""}
        options={[{ value: "", label: words.anyStatus }, ...statuses]}
        onChange={(event) => onChange("status", event.target.value)}
      />
      <SelectField
        label={words.agent}
        value={filters.agent ?? ""}
        options={[{ value: "", label: words.anyAgent }, ...all]}
        onChange={(event) => onChange("agent", event.target.value)}
      />
      {seesOthers && <Typed label={words.owner} hint={words.anyOwner} value={filters.owner ?? ""} onChange={(value) => onChange("owner", value)} />}
      <Typed isId label={words.thread} hint={words.threadHint} value={filters.thread ?? ""} onChange={(value) => onChange("thread", value)} />
      {isFiltered && (
        <Button look="quiet" onClick={onClear}>
          {words.clear}
        </Button>
      )}
    </div>
  );
}

interface TypedProps {
  label: string;
  hint: string;
  /** Takes nothing that an id has not. */
  isId?: boolean;
  value: string;
  onChange: (value: string) => void;
}

/** A name that is typed: it is looked for when no key was pressed for a moment. */
function Typed({ label, hint, isId, value, onChange }: TypedProps) {
  const [typed, setTyped] = useState(value);
  const [known, setKnown] = useState(value);
  // Another one came by the address.
  if (known !== value) {
    setKnown(value);
    setTyped(value);
  }
  useEffect(() => {
    if (typed.trim() === value) return undefined;
    const timer = setTimeout(() => onChange(typed.trim()), TYPED);
    return () => clearTimeout(timer);
  }, [typed, value, onChange]);
  return (
    <TextField
      label={label}
      type="search"
      placeholder={hint}
      maxLength={isId ? 64 : 200}
      spellCheck={false}
      value={typed}
      onChange={(event) => setTyped(isId ? event.target.value.replace(/[^\w-]/g, "") : event.target.value)}
    />
  );
}

/** The runs of these that a person is waited for: of a thread that waits, the newest that paused. */
function waitingOf(runs: readonly Run[], threads: Readonly<Record<string, Summary>>): ReadonlySet<string> {
  const newest = new Map<string, string>();
  for (const run of runs) {
    const waits = run.status === "interrupted" && threads[run.thread_id]?.status === "interrupted";
    if (waits && !newest.has(run.thread_id)) newest.set(run.thread_id, run.run_id);
  }
  return new Set(newest.values());
}

function List({ runs, threads }: { runs: readonly Run[]; threads: Readonly<Record<string, Summary>> }) {
  const heading = useId();
  const waiting = waitingOf(runs, threads);
  const { columns } = words;
  return (
    <div className={styles.frame}>
      {/* The roles are written down, since the styles of a phone take them off a table. */}
      <table className={styles.table} role="table" aria-labelledby={heading}>
        <caption className="sr-only" id={heading}>
          {words.title}
        </caption>
        <thead className={styles.head} role="rowgroup">
          <tr role="row">
            <th role="columnheader" scope="col">
              {columns.run}
            </th>
            <th role="columnheader" scope="col">
              {columns.status}
            </th>
            <th role="columnheader" scope="col">
              {columns.began}
            </th>
            <th role="columnheader" scope="col">
              {columns.took}
            </th>
            <th role="columnheader" scope="col">
              {columns.attempts}
            </th>
            <th role="columnheader" scope="col">
              {columns.cost}
            </th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {runs.map((run) => (
            <Row key={run.run_id} run={run} title={threads[run.thread_id]?.title} waits={waiting.has(run.run_id)} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

const A_SECOND = 1000;
const A_MINUTE = 60 * A_SECOND;

function Took({ run }: { run: Run }) {
  const now = useNow(run.ended_at === null ? A_SECOND : A_MINUTE);
  if (run.started_at === null) return run.due_at === null ? null : words.later(relativeTime(run.due_at, now));
  const end = run.ended_at === null ? now : Date.parse(run.ended_at);
  return duration(end - Date.parse(run.started_at));
}

function Row({ run, title, waits }: { run: Run; title: string | undefined; waits: boolean }) {
  const { cost } = run.usage;
  return (
    <tr className={styles.row} role="row">
      <td className={styles.what} role="cell">
        <Link href={`/runs/${run.run_id}`} className={styles.title}>
          <Marked text={title || run.thread_id} />
        </Link>
        <span className={styles.sub}>
          <Marked text={run.agent} />
          {run.requested_by.length > 0 && <Marked text={run.requested_by.join(", ")} />}
          {run.kind === "resume" && <span>{words.resumed}</span>}
        </span>
      </td>
      <td className={styles.status} role="cell">
        <RunStatus status={run.status} isOver={!waits} />
      </td>
      <td className={styles.time} role="cell">
        <Time at={run.started_at ?? run.created_at} />
      </td>
      <td className={styles.number} role="cell">
        <Took run={run} />
      </td>
      <td className={styles.number} role="cell">
        {run.attempt > 1 ? (
          <span className={styles.tried}>
            {number(run.attempt)} <span className={styles.unit}>{words.columns.attempts.toLowerCase()}</span>
          </span>
        ) : (
          <span className={styles.once}>1</span>
        )}
      </td>
      <td className={styles.number} role="cell">
        {cost === undefined ? <span className={styles.once}>–</span> : dollars(cost)}
      </td>
    </tr>
  );
}
