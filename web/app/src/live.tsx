/** What the server tells the page by itself: that approvals changed, and that it is there. */

import { Problem } from "@assent/client";
import { useQuery, useQueryClient } from "@tanstack/react-query";
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
    const follow = async () => {
      const told = assent.follow({
        approvals: true,
        share: true,
        signal: stop.signal,
        onLink: (state) => setLink(state === "lost" || state === "retrying" ? "lost" : "open"),
      });
      for await (const _event of told) void queries.invalidateQueries({ queryKey: ["approvals"] });
    };
    follow().catch((error: unknown) => {
      // Who may not see approvals has none to follow. Whoever is signed out is told by the gate.
      if (!(error instanceof Problem) && !stop.signal.aborted) setLink("lost");
    });
    return () => stop.abort();
  }, [queries, signIns]);
  return <LinkState.Provider value={link}>{children}</LinkState.Provider>;
}
