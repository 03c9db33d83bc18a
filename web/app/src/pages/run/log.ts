/** The raw events of a run for people: newest first, tokens of one message in one row. Pure. */

import type { Event, EventType } from "@assent/client";

/** Pieces of one message, which stand beside each other in the log. */
export interface PiecesRow {
  readonly kind: "pieces";
  readonly id: string;
  /** Newest first. */
  readonly events: readonly Event[];
}

export interface EventRow {
  readonly kind: "event";
  readonly id: string;
  readonly event: Event;
}

export type LogRow = PiecesRow | EventRow;

const PIECES = new Set<string>(["token", "reasoning", "tool_call_delta"]);

function messageOf(event: Event): string | null {
  return PIECES.has(event.type) && "message_id" in event ? `${event.message_id}` : null;
}

/** The rows of events that are newest first. Pieces of a message that stand together are one. */
export function rowsOf(events: readonly Event[]): LogRow[] {
  const rows: LogRow[] = [];
  let pieces: Event[] = [];
  let about: string | null = null;
  const close = () => {
    const newest = pieces[0];
    const oldest = pieces.at(-1);
    // Older pieces may come with the next page: the newest one names the row.
    if (newest && oldest) rows.push({ kind: "pieces", id: `m${newest.seq}`, events: pieces });
    pieces = [];
  };
  for (const event of events) {
    const message = messageOf(event);
    if (message === null || message !== about) close();
    about = message;
    if (message === null) rows.push({ kind: "event", id: `${event.seq}`, event });
    else pieces.push(event);
  }
  close();
  return rows;
}

/** The text of pieces that are newest first. */
export function textOf(pieces: readonly Event[]): string {
  let text = "";
  for (const event of pieces.toReversed()) {
    if (event.type === "token" || event.type === "reasoning") text += event.content;
    if (event.type === "tool_call_delta") text += event.args ?? "";
  }
  return text;
}

/** The kinds of events that one may look at alone, and their types. */
export const GROUPS: Record<string, readonly EventType[]> = {
  run: ["run_start", "run_resumed", "run_paused", "run_recovered", "run_cancelled", "done", "error"],
  node: ["node_start", "node_end", "node_error", "progress", "interrupt"],
  model: ["llm_start", "token", "reasoning", "media", "tool_call_delta", "llm_end", "llm_error", "llm_retry"],
  tool: ["tool_start", "tool_progress", "tool_end", "tool_error", "tool_unknown", "retriever_start", "retriever_end", "retriever_error"],
  person: [
    ...(["approval_required", "approval_voted", "approval_withdrawn", "approval_edited"] as const),
    ...(["approval_delegated", "approval_commented", "approval_decided", "approval_reminder"] as const),
    ...(["approval_escalated", "approval_expired", "approval_cancelled", "approval_superseded"] as const),
  ],
  state: ["state_update", "checkpoint"],
  other: ["custom", "budget_warning", "budget_exceeded", "broadcast"],
};

/** What an event is about, in a few words. */
export function aboutOf(event: Event): string {
  const said: Record<string, unknown> = { ...event };
  const parts: string[] = [];
  for (const name of ["node", "tool", "retriever", "model", "decision", "by", "message", "name", "reason", "checkpoint_id"]) {
    const value = said[name];
    if (typeof value === "string" && value !== "") parts.push(value);
  }
  const { error } = said;
  if (typeof error === "object" && error !== null && "message" in error) parts.push(String(error.message));
  return parts.join(" · ");
}
