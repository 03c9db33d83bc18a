/** What the server tells the page by itself: that approvals changed, and that it is there. */

import { type EventPage, type EventType, type Followed, mayPass, Problem, sleep } from "@assent/client";
import { hashKey, type QueryClient, type QueryKey, useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";
import { assent } from "./assent.ts";
import { useSignIns } from "./layout/SessionGate.tsx";
import { serverNow } from "./parts/times.ts";

/** Whether what the server tells arrives: `lost` after it did not for a moment. */
export type Link = "open" | "lost";

const LinkState = createContext<Link>("open");

export function useLink(): Link {
  return useContext(LinkState);
}

/** How many questions wait for who is here. */
export function useWaiting(): number {
  const { data } = useQuery({
    queryKey: ["approvals", "waiting"],
    queryFn: () => assent.approvals.list({ status: "pending", mine: true, limit: 100 }),
  });
  return data?.items.length ?? 0;
}

/** Events that come together are answered by one look at the server, so many milliseconds later. */
const GATHERED = 250;
/** What was read may be so old, in milliseconds: from a page that was left, or on its way. */
const RECENT = 60_000;
/** The milliseconds before a server that does not answer is asked again. */
const AGAIN = 2_000;

/** The log of a thread, the feed of an agent or of a user, or that of all approvals, without an id. */
type Log = "thread" | "agent" | "user" | "approvals";

function followed(log: Log, id: string): Followed {
  switch (log) {
    case "thread":
      return { thread: id };
    case "agent":
      return { feed: { agent: id } };
    case "user":
      return { feed: { user: id } };
    case "approvals":
      return { approvals: true };
  }
}

function lastPage(log: Log, id: string, types: readonly EventType[] | undefined, signal: AbortSignal): Promise<EventPage> {
  const query = { before: "end", limit: 1, ...(types && { types }) } as const;
  if (log === "thread") return assent.threads.events(id, query, { signal });
  return log === "approvals" ? assent.feeds.approvals(query, { signal }) : assent.feeds[log](id, query, { signal });
}

interface Following {
  log: Log;
  id: string;
  types?: readonly EventType[];
  signal: AbortSignal;
  onNews: () => void;
  onLink?: (link: Link) => void;
}

/** Tells of events from now on, and of one that came so shortly before that the page may have read
 * without it. A server that does not answer is asked until it does. */
async function follow({ log, id, types, signal, onNews, onLink }: Following): Promise<void> {
  let page: EventPage | undefined;
  while (page === undefined) {
    try {
      page = await lastPage(log, id, types, signal);
    } catch (error) {
      if (signal.aborted || !mayPass(error)) throw error;
      onLink?.("lost");
      await sleep(AGAIN, signal);
    }
  }
  const [newest] = page.events;
  if (newest !== undefined && Date.parse(newest.ts) > serverNow() - RECENT) onNews();
  const told = assent.follow({
    ...followed(log, id),
    after: page.last ?? 0,
    types,
    share: true,
    signal,
    onLink: (state) => onLink?.(state === "lost" || state === "retrying" ? "lost" : "open"),
  });
  for await (const _event of told) onNews();
}

/** Whether the next page of a list is on its way. */
function isTurning(queries: QueryClient, queryKey: QueryKey): boolean {
  return queries
    .getQueryCache()
    .findAll({ queryKey, fetchStatus: "fetching" })
    .some(({ state }) => state.fetchMeta?.fetchMore !== undefined);
}

/**
 * Reads the queries anew whose key begins with this one, whenever what it returns is called: not
 * before the last time is answered, so that a slow server gets to answer at all.
 */
function reader(queries: QueryClient, queryKey: QueryKey, signal: AbortSignal): () => void {
  let isWanted = false;
  let isAtWork = false;
  const read = async () => {
    isAtWork = true;
    while (isWanted && !signal.aborted) {
      await sleep(GATHERED, signal);
      if (signal.aborted) break;
      // Whoever asked for the next page gets it first: reading anew would drop what they pressed.
      if (isTurning(queries, queryKey)) continue;
      isWanted = false;
      // What was asked for before the news may be answered without them.
      await queries.cancelQueries({ queryKey });
      await queries.invalidateQueries({ queryKey });
      // The next page, asked for meanwhile, has ended the reading.
      isWanted ||= isTurning(queries, queryKey);
    }
    isAtWork = false;
  };
  return () => {
    isWanted = true;
    if (!isAtWork) void read();
  };
}

const APPROVALS = ["approvals"];

/**
 * Follows the feed of approvals as long as the page is open, and has read anew what it changed:
 * every query whose key begins with "approvals".
 */
export function LiveApprovals({ children }: { children: ReactNode }) {
  const queries = useQueryClient();
  const [link, setLink] = useState<Link>("open");
  const signIns = useSignIns();
  useEffect(() => {
    const stop = new AbortController();
    const { signal } = stop;
    const onNews = reader(queries, APPROVALS, signal);
    follow({ log: "approvals", id: "", signal, onNews, onLink: setLink }).catch((error: unknown) => {
      // Who may not see approvals has none to follow. Whoever is signed out is told by the gate.
      if (!(error instanceof Problem) && !signal.aborted) setLink("lost");
    });
    return () => stop.abort();
  }, [queries, signIns]);
  return <LinkState.Provider value={link}>{children}</LinkState.Provider>;
}

/**
 * Has a query read anew when events of these types come: those from now on, of the log with this
 * id; of none with null. What cannot be followed stays as it was read, but for what is looked at
 * `every` so many milliseconds, as long as the page is seen.
 */
export function useLive(log: Log, id: string | null, types: readonly EventType[], queryKey: QueryKey, every?: number): void {
  const queries = useQueryClient();
  const signIns = useSignIns();
  const hash = hashKey(queryKey); // The key is another array each time that the page is drawn.
  useEffect(() => {
    if (id === null) return undefined;
    const stop = new AbortController();
    const { signal } = stop;
    const onNews = reader(queries, queryKey, signal);
    follow({ log, id, types, signal, onNews }).catch(() => undefined);
    const clock = every === undefined ? undefined : setInterval(() => document.visibilityState === "visible" && onNews(), every);
    return () => {
      stop.abort();
      clearInterval(clock);
    };
  }, [queries, log, id, types, hash, every, signIns]);
}
