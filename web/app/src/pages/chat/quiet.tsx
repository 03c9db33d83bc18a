/** Rows that stand between what is said: what a turn took, what is at work, what was tried again. */

import type { RunState, Span } from "@assent/client";
import { Link } from "wouter";
import { messages } from "../../messages/en.ts";
import { WarningIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { dollars, duration, number } from "../../parts/times.ts";
import type { Turn } from "./rows.ts";
import styles from "./quiet.module.css";

const words = messages.chat.quiet;

/** What the turn took, and the way to its timeline. */
export function TurnRow({ turn }: { turn: Turn }) {
  const facts = [
    duration(turn.worked),
    turn.tokens > 0 && words.tokens(number(turn.tokens)),
    turn.cost !== null && dollars(turn.cost),
  ].filter((fact) => fact !== false);
  return (
    <div className={styles.turn}>
      <span>{facts.join(" · ")}</span>
      <Link href={`/runs/${encodeURIComponent(turn.run_id)}`}>{words.timeline}</Link>
    </div>
  );
}

/** That the agent is at work, and on what. */
export function WorkingRow({ run, doing }: { run: RunState; doing: Span | null }) {
  const place = doing === null ? "" : [...doing.ns.map((step) => step.split(":")[0]), doing.name].join(" › ");
  const progress = doing?.progress ?? null;
  return (
    <div className={styles.working}>
      <span className={styles.dots} aria-hidden="true">
        <span />
        <span />
        <span />
      </span>
      <span>{words.working(run.agent)}</span>
      {place !== "" && <code className={styles.place}>{place}</code>}
      {doing !== null && doing.progress_message !== "" && <Marked text={doing.progress_message} />}
      {progress !== null && (
        <progress className={styles.progress} value={progress} max={1} aria-label={words.progress} />
      )}
    </div>
  );
}

/** An attempt that failed and was made again. */
export function FailureRow({ span }: { span: Span }) {
  return (
    <div className={styles.failure}>
      <WarningIcon />
      <span>
        {words.again[span.kind](span.name)} {span.error && <Marked text={span.error.message ?? span.error.type} />}
      </span>
    </div>
  );
}
