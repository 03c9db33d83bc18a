import type { ThreadStatus } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import { assent } from "../../assent.ts";

export interface Summary {
  /** Empty if the thread has none. */
  title: string;
  status: ThreadStatus;
}

/** As many threads are asked for at once as the server takes. */
const AT_ONCE = 100;

/** The title and the status of threads, by id. */
export function useSummaries(threadIds: readonly string[]): Readonly<Record<string, Summary>> {
  const ids = [...new Set(threadIds)].sort();
  const { data } = useQuery({
    queryKey: ["runs", "threads", ids],
    queryFn: async ({ signal }) => {
      const summaries: Record<string, Summary> = {};
      for (let from = 0; from < ids.length; from += AT_ONCE) {
        for (const thread of await assent.threads.summaries(ids.slice(from, from + AT_ONCE), { signal })) {
          summaries[thread.thread_id] = { title: thread.title ?? "", status: thread.status };
        }
      }
      return summaries;
    },
    enabled: ids.length > 0,
    placeholderData: (before) => before,
  });
  return data ?? {};
}
