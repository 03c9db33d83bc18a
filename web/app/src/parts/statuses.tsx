/** The states of things, with the colour that each has everywhere. */

import { messages } from "../messages/en.ts";
import { Badge, type Tone } from "./Badge.tsx";

const RUNS: Record<string, Tone> = {
  pending: "neutral",
  running: "active",
  cancelling: "active",
  busy: "active",
  interrupted: "waiting",
  idle: "neutral",
  success: "good",
  error: "bad",
  timeout: "bad",
  cancelled: "neutral",
};

const APPROVALS: Record<string, Tone> = {
  pending: "waiting",
  approved: "good",
  edited: "good",
  responded: "good",
  rejected: "bad",
  expired: "bad",
  cancelled: "neutral",
  superseded: "neutral",
};

/** The colour of a run, or a thread, that stands so. */
export function toneOfRun(status: string): Tone {
  return RUNS[status] ?? "neutral";
}

/** The colour of a question of which this became. */
export function toneOfApproval(status: string): Tone {
  return APPROVALS[status] ?? "neutral";
}

const RISKS: Record<string, Tone> = { low: "neutral", medium: "waiting", high: "bad" };

function wordOf(words: Record<string, string>, value: string): string {
  return words[value] ?? value;
}

/** How a run, or a thread, stands. One that has paused, and whose pause `isOver`, waits for nobody. */
export function RunStatus({ status, isOver }: { status: string; isOver?: boolean }) {
  if (status === "interrupted" && isOver) return <Badge dot>{messages.status.paused}</Badge>;
  return (
    <Badge tone={toneOfRun(status)} dot>
      {wordOf(messages.status.runs, status)}
    </Badge>
  );
}

/** What became of a question. */
export function ApprovalStatus({ status }: { status: string }) {
  return (
    <Badge tone={toneOfApproval(status)} dot>
      {wordOf(messages.status.approvals, status)}
    </Badge>
  );
}

/** How much may go wrong. */
export function Risk({ risk }: { risk: string }) {
  return <Badge tone={RISKS[risk] ?? "neutral"}>{wordOf(messages.status.risks, risk)}</Badge>;
}
