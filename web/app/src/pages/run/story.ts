/** What the log tells of a run, and of the runs that it goes on from and that go on from it. */

import { type Event, EMPTY, type EventType, fold, Gone, type RunState, Unauthorized, type View } from "@assent/client";
import { useCallback, useEffect, useRef, useState } from "react";
import { assent } from "../../assent.ts";
import { useSignIns } from "../../layout/SessionGate.tsx";
import { chainOf } from "./waterfall.ts";

/** All that spans, waits and crashes are made of: what models write, piece by piece, is left out. */
const STORY: readonly EventType[] = [
  ...(["run_start", "run_resumed", "run_paused", "run_recovered", "run_cancelled", "done", "error"] as const),
  ...(["node_start", "node_end", "node_error", "progress", "interrupt"] as const),
  ...(["llm_start", "llm_end", "llm_error", "llm_retry"] as const),
  ...(["tool_start", "tool_end", "tool_error", "tool_unknown"] as const),
  ...(["retriever_start", "retriever_end", "retriever_error"] as const),
  ...(["approval_required", "approval_voted", "approval_withdrawn", "approval_edited"] as const),
  ...(["approval_delegated", "approval_decided", "approval_expired", "approval_cancelled"] as const),
  ...(["approval_superseded", "approval_escalated", "budget_warning", "budget_exceeded"] as const),
];

const BEGINNINGS: readonly EventType[] = ["run_start", "run_resumed"];

export interface Story {
  view: View;
  /** The run, those before it and those behind it, in order. */
  runs: readonly RunState[];
  /** All that there is was read; what comes is followed. */
  isRead: boolean;
  /** Events that it began with were removed since. */
  isCut: boolean;
  error: unknown;
  again: () => void;
}

/** Nothing will come any more. */
function isOver(chain: readonly RunState[]): boolean {
  const status = chain.at(-1)?.status;
  return status !== undefined && !["running", "cancelling", "pending", "interrupted"].includes(status);
}

type Reading = (query: { after: number; types: readonly EventType[] }) => Promise<{ events: readonly Event[]; next: number; more: boolean }>;

/** The number behind which the first run of the chain begins. */
async function beginningOf(read: Reading, runId: string, removed: number): Promise<number> {
  interface Begun {
    seq: number;
    /** The run that it goes on from, or an empty text. */
    before: string;
  }
  const begun = new Map<string, Begun>();
  for (let after = removed, more = true; more; ) {
    const page = await read({ after, types: BEGINNINGS });
    for (const event of page.events) {
      const before = event.type === "run_resumed" ? (event.paused_run ?? "") : "";
      // Decisions come just before the run that they resume.
      const { run_id = "" } = event;
      if (!begun.has(run_id)) begun.set(run_id, { seq: event.seq ?? 0, before });
    }
    ({ next: after, more } = page);
  }
  let first = begun.get(runId);
  for (let earlier = first; earlier; earlier = begun.get(earlier.before)) first = earlier;
  // A run that has not begun yet will do so behind all that there is.
  if (first === undefined) return removed;
  return first.before === "" ? first.seq - 1 : removed;
}

async function tell(threadId: string, runId: string, signal: AbortSignal, change: (part: Partial<Story>) => void): Promise<void> {
  const read: Reading = (query) => assent.threads.events(threadId, { ...query, limit: 1000 }, { signal });
  let removed = 0;
  let view = EMPTY;
  let after: number;
  try {
    after = await beginningOf(read, runId, 0);
  } catch (error) {
    if (!(error instanceof Gone) || error.first === null) throw error;
    removed = Math.max(0, error.first - 1);
    after = await beginningOf(read, runId, removed);
  }
  const take = (events: Iterable<Event | { readonly type: "gap"; readonly first: number }>) => {
    view = fold(view, events);
    change({ view, runs: chainOf(view, runId) });
  };
  for (let more = true; more; ) {
    const page = await read({ after, types: STORY });
    take(page.events);
    ({ next: after, more } = page);
    if (isOver(chainOf(view, runId))) more = false;
  }
  change({ isRead: true, isCut: removed > 0 && after > 0 });
  if (isOver(chainOf(view, runId))) return;
  const following = assent.follow({ thread: threadId, after, types: STORY, share: true, signal });
  for await (const batch of following.batches()) {
    take(batch);
    if (isOver(chainOf(view, runId))) return;
  }
}

const NOTHING = { view: EMPTY, runs: [], isRead: false, isCut: false, error: null };

/** Reads the story of a run, and follows it while it goes on. */
export function useStory(threadId: string | undefined, runId: string): Story {
  const [story, setStory] = useState<Omit<Story, "again">>(NOTHING);
  const [round, setRound] = useState(0);
  const shown = useRef("");
  useEffect(() => {
    if (threadId === undefined) return undefined;
    const stop = new AbortController();
    // What was shown of this run stays until it is read again.
    const key = `${threadId} ${runId}`;
    setStory((before) => (shown.current === key ? { ...before, error: null } : NOTHING));
    shown.current = key;
    const change = (part: Partial<Story>) => {
      if (!stop.signal.aborted) setStory((before) => ({ ...before, ...part }));
    };
    tell(threadId, runId, stop.signal, change).catch((error: unknown) => change({ error }));
    return () => stop.abort();
  }, [threadId, runId, round]);
  const again = useCallback(() => setRound((before) => before + 1), []);
  // Whoever has signed in again goes on reading where that had ended.
  const isSignedOut = story.error instanceof Unauthorized;
  const signIns = useSignIns();
  const signedIn = useRef(signIns);
  useEffect(() => {
    if (isSignedOut && signedIn.current !== signIns) again();
    signedIn.current = signIns;
  }, [isSignedOut, signIns, again]);
  return { ...story, again };
}
