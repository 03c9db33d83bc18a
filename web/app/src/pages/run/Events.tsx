import { type Event, Gone, type Run } from "@assent/client";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { Copy } from "../../parts/Copy.tsx";
import { cx } from "../../parts/cx.ts";
import { SelectField } from "../../parts/Field.tsx";
import { DownloadIcon } from "../../parts/icons.tsx";
import { Json, Text } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Rows } from "../../parts/Rows.tsx";
import { save } from "../../parts/save.ts";
import { Empty, ErrorState, Loading, Notice, Stale } from "../../parts/states.tsx";
import { bytes, number, preciseTime, fullTime } from "../../parts/times.ts";
import styles from "./Events.module.css";
import { aboutOf, GROUPS, type LogRow, rowsOf, textOf } from "./log.ts";

const words = messages.run.events;

/** Events that are asked for at once. */
const PAGE = 1000;
/** From here on an event is shown only on request: characters of its JSON. */
const LARGE = 50_000;
const ROW_HEIGHT = 36;
/** Rows that fill a page. */
const ENOUGH = 20;
/** Events that come are shown together, at most so often. */
const FLUSH = 150;

export interface EventsProps {
  run: Run;
  group: string;
  onGroup: (group: string) => void;
}

/** The events of a run as they are in the log, newest first. */
export function Events({ run, group, onGroup }: EventsProps) {
  const { run_id } = run;
  const types = GROUPS[group];
  const pages = useInfiniteQuery({
    queryKey: ["events", run_id, group],
    queryFn: ({ pageParam, signal }) => assent.runs.events(run_id, { before: pageParam, limit: PAGE, ...(types && { types }) }, { signal }),
    initialPageParam: "end" as number | "end",
    getNextPageParam: (page) => (page.more ? page.next : null),
    // What is new comes by itself; a whole log is not read again for it.
    staleTime: Infinity,
    gcTime: 0,
    refetchOnWindowFocus: false,
  });
  const last = pages.data?.pages[0]?.last;
  const fresh = useFresh(run, group, last);
  const rows = useMemo(() => {
    const older = pages.data?.pages.flatMap((page) => page.events.toReversed()) ?? [];
    return rowsOf([...fresh.toReversed(), ...older]);
  }, [pages.data, fresh]);
  // A page of tokens is hardly a row: more is read until there is something to see.
  const { hasNextPage, isFetchingNextPage, isError, fetchNextPage } = pages;
  const isThin = rows.length < ENOUGH && hasNextPage && !isFetchingNextPage && !isError;
  useEffect(() => {
    if (isThin) void fetchNextPage();
  }, [isThin, fetchNextPage]);
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const toggle = (id: string) =>
    setOpen((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });

  const options = ["all", ...Object.keys(GROUPS)].map((value) => ({ value, label: groupWord(value) }));
  return (
    <div className={styles.events}>
      <div className={styles.bar}>
        <div className={styles.filter}>
          <SelectField label={words.filter} hideLabel options={options} value={group} onChange={(event) => onGroup(event.target.value)} />
        </div>
        <Download runId={run_id} />
      </div>
      {pages.isPending && <Loading />}
      {pages.isError && rows.length === 0 && <ErrorState error={pages.error} retry={() => void pages.refetch()} />}
      {pages.isError && rows.length > 0 && <Stale error={pages.error} retry={() => void pages.refetch()} />}
      {pages.isSuccess && rows.length === 0 && <Empty title={words.none}>{words.noneHint}</Empty>}
      {rows.length > 0 && (
        <Rows items={rows} keyOf={(row) => row.id} estimate={ROW_HEIGHT} label={words.label}>
          {(row) => <Entry row={row} isOpen={open.has(row.id)} onToggle={() => toggle(row.id)} />}
        </Rows>
      )}
      {rows.length > 0 && (
        <div className={styles.foot}>
          {pages.hasNextPage ? (
            <Button busy={pages.isFetchingNextPage} onClick={() => void pages.fetchNextPage()}>
              {words.older}
            </Button>
          ) : (
            words.begin
          )}
        </div>
      )}
    </div>
  );
}

function groupWord(group: string): string {
  const all: Record<string, string> = words.groups;
  return all[group] ?? group;
}

const ENDED = new Set(["success", "error", "timeout", "cancelled"]);

/** What comes while the run goes on, oldest first. */
function useFresh(run: Run, group: string, after: number | undefined): readonly Event[] {
  const { run_id, thread_id } = run;
  const [fresh, setFresh] = useState<readonly Event[]>([]);
  const isOver = useRef(ENDED.has(run.status));
  useEffect(() => {
    setFresh([]);
    if (after === undefined || isOver.current) return undefined;
    const stop = new AbortController();
    const types = GROUPS[group];
    let waiting: Event[] = [];
    const flush = () => {
      const taken = waiting;
      waiting = [];
      setFresh((before) => [...before, ...taken]);
    };
    const follow = async () => {
      const following = assent.follow({ thread: thread_id, after, share: true, signal: stop.signal, ...(types && { types }) });
      for await (const event of following) {
        if (event.type === "gap" || event.run_id !== run_id) continue;
        if (waiting.length === 0) setTimeout(flush, FLUSH);
        waiting.push(event);
      }
    };
    // What cannot be followed is still there to be read; the head of the page says why.
    follow().catch(() => undefined);
    return () => stop.abort();
  }, [run_id, thread_id, group, after]);
  return fresh;
}

interface EntryProps {
  row: LogRow;
  isOpen: boolean;
  onToggle: () => void;
}

function Entry({ row, isOpen, onToggle }: EntryProps) {
  const first = row.kind === "event" ? row.event : row.events[0];
  if (first === undefined) return null;
  const about = row.kind === "event" ? aboutOf(first) : textOf(row.events.slice(0, 40)).trim();
  return (
    <div className={cx(styles.entry, isOpen && styles.open)}>
      <button type="button" className={styles.line} aria-expanded={isOpen} onClick={onToggle}>
        <span className={styles.number}>{first.seq}</span>
        <time className={styles.time} dateTime={first.ts} title={fullTime(first.ts)}>
          {preciseTime(first.ts)}
        </time>
        <code className={cx(styles.type, styles[toneOf(first.type)])}>{first.type}</code>
        {row.kind === "pieces" && <span className={styles.count}>{`× ${number(row.events.length)}`}</span>}
        <Marked className={styles.about} text={about.slice(0, 200)} />
      </button>
      {isOpen && (row.kind === "event" ? <Whole event={row.event} /> : <Pieces events={row.events} />)}
    </div>
  );
}

function toneOf(type: string): string {
  if (/error|unknown|cancelled|expired/.test(type)) return "bad";
  if (/^approval|^run_paused|^interrupt/.test(type)) return "waiting";
  if (/^(done|run_)/.test(type)) return "strong";
  return "plain";
}

function Whole({ event }: { event: Event }) {
  const text = useMemo(() => JSON.stringify(event), [event]);
  const [isShown, setIsShown] = useState(text.length <= LARGE);
  return (
    <div className={styles.whole}>
      {isShown ? (
        <>
          <div className={styles.copy}>
            <Copy text={text} />
          </div>
          <Json value={event} depth={2} />
        </>
      ) : (
        <Notice>
          {words.large(bytes(text.length))}{" "}
          <Button small onClick={() => setIsShown(true)}>
            {words.show}
          </Button>
        </Notice>
      )}
    </div>
  );
}

function Pieces({ events }: { events: readonly Event[] }) {
  return (
    <div className={styles.whole}>
      <p className={styles.quiet}>{words.pieces(events.length)}</p>
      <Text text={textOf(events)} />
    </div>
  );
}

/** All events of the run, one line of JSON each. */
async function wholeLog(runId: string, tell: (count: number) => void): Promise<Blob> {
  const lines: string[] = [];
  for (let after = 0, more = true; more; ) {
    try {
      const page = await assent.runs.events(runId, { after, limit: PAGE });
      for (const event of page.events) lines.push(`${JSON.stringify(event)}\n`);
      tell(lines.length);
      ({ next: after, more } = page);
    } catch (error) {
      // What is left of a log whose beginning was removed.
      if (!(error instanceof Gone) || error.first === null || error.first - 1 <= after) throw error;
      after = error.first - 1;
    }
  }
  return new Blob(lines, { type: "application/x-ndjson" });
}

function Download({ runId }: { runId: string }) {
  const [count, setCount] = useState<number | null>(null);
  const [error, setError] = useState<unknown>(null);
  const download = async () => {
    setError(null);
    setCount(0);
    try {
      save(await wholeLog(runId, setCount), `run-${runId}.ndjson`);
    } catch (failure) {
      setError(failure);
    } finally {
      setCount(null);
    }
  };
  return (
    <div className={styles.download}>
      {error !== null && <span className={styles.failed}>{sentenceOf(error)}</span>}
      <Button busy={count !== null} onClick={() => void download()}>
        <DownloadIcon />
        {count ? words.downloading(number(count)) : words.download}
      </Button>
    </div>
  );
}
