import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { assent } from "../../assent.ts";
import { useMe } from "../../layout/SessionGate.tsx";

/** Events that come together are answered by one look at the server. */
const GATHERED = 250;
/** Runs of others are in no feed that one may follow for sure, so they are looked at so often. */
const LOOKED_AT = 15_000;

const TYPES = ["run_start", "run_resumed", "run_paused", "run_recovered", "run_cancelled", "done", "error"] as const;

/** Has runs read anew as they change: those of the agent, or else those of who is here at once and
 * all others a little later. */
export function useLiveRuns(agent: string | null): void {
  const queries = useQueryClient();
  const { name } = useMe();
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        void queries.invalidateQueries({ queryKey: ["runs"] });
      }, GATHERED);
    };
    const follow = async () => {
      const { signal } = stop;
      const query = { before: "end", limit: 1 } as const;
      const { feeds } = assent;
      const end = await (agent === null ? feeds.user(name, query, { signal }) : feeds.agent(agent, query, { signal }));
      const feed = agent === null ? { user: name } : { agent };
      for await (const _event of assent.follow({ feed, after: end.last ?? 0, types: TYPES, share: true, signal })) look();
    };
    // Who may not follow it sees what the clock brings.
    follow().catch(() => undefined);
    const clock = setInterval(() => document.visibilityState === "visible" && look(), LOOKED_AT);
    return () => {
      stop.abort();
      clearTimeout(timer);
      clearInterval(clock);
    };
  }, [queries, agent, name]);
}
