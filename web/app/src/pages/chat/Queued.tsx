import type { View } from "@assent/client";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { IconButton } from "../../parts/Button.tsx";
import { ClockIcon, CrossIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { forgetQueued, queuedText } from "./drafts.ts";
import styles from "./Queued.module.css";

const words = messages.chat.queued;

/** What was said and waits its turn, each with a way to take it back. */
export function Queued({ thread, view }: { thread: string; view: View }) {
  const { data } = useQuery({
    queryKey: ["runs", "queued", thread],
    queryFn: () => assent.runs.list({ thread_id: thread, status: "pending", limit: 20 }),
  });
  const queued = data?.items.filter((run) => view.runs[run.run_id] === undefined) ?? [];
  useEffect(() => {
    for (const run of Object.keys(view.runs)) forgetQueued(run);
  }, [view.runs]);
  if (queued.length === 0) return null;
  return (
    <ul className={styles.queued} aria-label={words.label}>
      {queued.map((run) => (
        <QueuedLine key={run.run_id} runId={run.run_id} />
      ))}
    </ul>
  );
}

function QueuedLine({ runId }: { runId: string }) {
  const queries = useQueryClient();
  const takingBack = useMutation({
    mutationFn: () => assent.runs.cancel(runId),
    onSettled: () => queries.invalidateQueries({ queryKey: ["runs"] }),
  });
  const text = queuedText(runId);
  return (
    <li className={styles.line}>
      <ClockIcon />
      <span className={styles.text}>
        {words.waits} {text !== null && <Marked text={text} />}
        {takingBack.error !== null && <span role="alert"> {sentenceOf(takingBack.error)}</span>}
      </span>
      <IconButton small label={words.takeBack} busy={takingBack.isPending} onClick={() => takingBack.mutate()}>
        {!takingBack.isPending && <CrossIcon />}
      </IconButton>
    </li>
  );
}
