/** What the server tells the page by itself: that approvals changed, and that it is there. */

import { type EventType, type Followed, Problem } from "@assent/client";
import { hashKey, type QueryKey, useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";
import { assent } from "./assent.ts";
import { useSignIns } from "./layout/SessionGate.tsx";

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
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = () => {
      timer = undefined;
      void queries.invalidateQueries({ queryKey: ["approvals"] });
    };
    const follow = async () => {
      const told = assent.follow({
        approvals: true,
        share: true,
        signal: stop.signal,
        onLink: (state) => setLink(state === "lost" || state === "retrying" ? "lost" : "open"),
      });
      for await (const _event of told) timer ??= setTimeout(look, GATHERED);
    };
    follow().catch((error: unknown) => {
      // Who may not see approvals has none to follow. Whoever is signed out is told by the gate.
      if (!(error instanceof Problem) && !stop.signal.aborted) setLink("lost");
    });
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [queries, signIns]);
  return <LinkState.Provider value={link}>{children}</LinkState.Provider>;
}

/** The log of a thread, or the feed of an agent or of a user. */
export type Log = "thread" | "agent" | "user";

function followed(log: Log, id: string): Followed {
  switch (log) {
    case "thread":
      return { thread: id };
    case "agent":
      return { feed: { agent: id } };
    case "user":
      return { feed: { user: id } };
  }
}

async function lastOf(log: Log, id: string, signal: AbortSignal): Promise<number> {
  const query = { before: "end", limit: 1 } as const;
  const page =
    log === "thread" ? assent.threads.events(id, query, { signal }) : assent.feeds[log](id, query, { signal });
  return (await page).last ?? 0;
}

/**
 * Has a query read anew when events of these types come: those from now on, of the log with this
 * id; of none with null. What cannot be followed stays as it was read.
 */
export function useLive(log: Log, id: string | null, types: readonly EventType[], queryKey: QueryKey): void {
  const queries = useQueryClient();
  const signIns = useSignIns();
  const hash = hashKey(queryKey); // The key is another array each time that the page is drawn.
  useEffect(() => {
    if (id === null) return undefined;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = () => {
      timer = undefined;
      void queries.invalidateQueries({ queryKey });
    };
    const follow = async () => {
      const { signal } = stop;
      const after = await lastOf(log, id, signal);
      for await (const _event of assent.follow({ ...followed(log, id), after, types, share: true, signal })) {
        timer ??= setTimeout(look, GATHERED);
      }
    };
    follow().catch(() => undefined);
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [queries, log, id, types, hash, signIns]);
}
