import type { State } from "@assent/client";
import { useInfiniteQuery } from "@tanstack/react-query";
import { assent } from "../../assent.ts";
import { useLive } from "../../live.tsx";

/** States that are asked for at once: each comes with all of its values. */
const PAGE = 20;
const CHANGED_BY = ["checkpoint", "run_paused", "approval_decided", "run_cancelled", "done", "error"] as const;

/** The states of a thread, newest first, read anew as they come. */
export function useHistory(threadId: string) {
  const history = useInfiniteQuery({
    queryKey: ["state", threadId],
    queryFn: ({ pageParam, signal }) =>
      assent.threads.history(threadId, { limit: PAGE, ...(pageParam && { before: pageParam }) }, { signal }),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
  });
  useLive("thread", threadId, CHANGED_BY, ["state", threadId]);
  return history;
}

/** A state, and what is known of it from its neighbours. */
export interface Known {
  readonly id: string;
  readonly state: State;
  readonly step: number | null;
  /** What made it: `input`, `loop`, `update` or `fork`. */
  readonly source: string;
  readonly runId: string;
  /** The nodes that have written it, and the channels that they wrote. */
  readonly nodes: readonly string[];
  readonly channels: readonly string[];
}

/** The states with what their parents tell: whose tasks made them. */
export function knownOf(states: readonly State[]): Known[] {
  const byId = new Map(states.map((state) => [state.checkpoint_id, state]));
  return states.flatMap((state) => {
    const { checkpoint_id: id, metadata } = state;
    if (id === null) return [];
    const { step, source, run_id } = metadata ?? {};
    const parent = byId.get(state.parent_checkpoint_id);
    const isOfNodes = source === "loop";
    const tasks = isOfNodes ? (parent?.tasks ?? []) : [];
    const channels = tasks.flatMap(({ result }) => (typeof result === "object" && result !== null ? Object.keys(result) : []));
    return [
      {
        id,
        state,
        step: typeof step === "number" ? step : null,
        source: typeof source === "string" ? source : "",
        runId: typeof run_id === "string" ? run_id : "",
        nodes: [...new Set(tasks.map((task) => task.name))],
        channels: [...new Set(channels)],
      },
    ];
  });
}
