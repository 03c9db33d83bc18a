/** The rows of a conversation from the view of its thread: what is shown, in order. Pure. */

import { type AgentMessage, isObject, type Message, type RunState, type Span, type Usage, type View } from "@assent/client";

/** What a turn took: the runs from a person's words to the end, over all pauses. */
export interface Turn {
  run_id: string;
  tokens: number;
  cost: number | null;
  steps: number;
  /** Milliseconds at work, without those in which a person was waited for. */
  worked: number;
}

export type Row =
  | { kind: "gap"; key: string; isWithin: boolean }
  | { kind: "message"; key: string; message: Message; agent: string; opens: boolean; files: SentFile[] }
  | { kind: "failure"; key: string; span: Span }
  | { kind: "turn"; key: string; turn: Turn }
  | { kind: "asked"; key: string; approvalId: string }
  | { kind: "working"; key: string; run: RunState; doing: Span | null };

/** A file that went with a message. */
export interface SentFile {
  file_id: string;
  name: string;
  mime_type: string;
  /** 0 if it is not known. */
  size: number;
}

/** The field of a run's metadata that names the files of its message: events have only its text. */
export const FILES = "files";

/**
 * The rows. `waiting` are the ids of the questions that wait, as the server lists them; with
 * `isWhole`, all that is left of the conversation was read.
 */
export function rowsOf(view: View, waiting: readonly string[], isWhole: boolean): Row[] {
  const rows: Row[] = [];
  let gap = isWhole ? view.gap : null;
  /** Says that what was before this event was removed: above all, or below what had been read. */
  const tellOfGap = (seq: number) => {
    if (gap === null || seq < gap) return;
    rows.push({ kind: "gap", key: "gap", isWithin: rows.length > 0 });
    gap = null;
  };

  const usage = usageByRun(view.messages);
  const failures = failuresIn(view);
  let failure = 0;
  view.messages.forEach((message, place) => {
    tellOfGap(message.seq);
    while ((failures[failure]?.seq ?? Infinity) < message.seq) rows.push(failed(failures[failure++]));
    const before = view.messages[place - 1];
    const run = view.runs[message.run_id];
    rows.push({
      kind: "message",
      key: message.id,
      message,
      agent: run?.agent ?? "",
      opens: before === undefined || !isOfAgent(before),
      files: message.role === "person" ? filesOf(run, message.input) : NO_FILES,
    });
    const next = view.messages[place + 1];
    if (next?.run_id === message.run_id) return;
    const turn = run && turnOf(view, run, usage);
    if (turn) rows.push({ kind: "turn", key: `turn-${turn.run_id}`, turn });
  });
  while (failure < failures.length) rows.push(failed(failures[failure++]));
  tellOfGap(Infinity);

  for (const approvalId of waiting) {
    if (view.approvals[approvalId] === undefined) {
      rows.push({ kind: "asked", key: `asked-${approvalId}`, approvalId });
    }
  }
  if (view.active !== null && !isWriting(view)) {
    rows.push({ kind: "working", key: "working", run: view.active, doing: innermost(view) });
  }
  return rows;
}

const NO_FILES: SentFile[] = [];

function failed(span: Span | undefined): Row {
  if (span === undefined) throw new RangeError("There is no such failure.");
  return { kind: "failure", key: `failure-${span.id}`, span };
}

function isOfAgent(message: Message): boolean {
  return message.role === "agent" || message.role === "tool" || message.role === "approval";
}

function isWriting(view: View): boolean {
  const last = view.messages.at(-1);
  return last?.role === "agent" && last.status === "writing";
}

/** The work that began last and goes on. */
function innermost(view: View): Span | null {
  return view.spans.findLast((span) => span.status === "running") ?? null;
}

// ── failures ──

/** Attempts that failed and were made again; what ends a run says so itself. */
function failuresIn(view: View): Span[] {
  const failures = view.spans.filter((span) => span.status === "failed" && span.kind !== "tool");
  if (failures.length === 0) return failures;
  return failures.filter((span) => {
    const run = view.runs[span.run_id];
    return run?.status !== "error" || view.spans.some((later) => isAgain(span, later));
  });
}

function isAgain(span: Span, later: Span): boolean {
  const isSameWork = span.node === later.node && span.task_id === later.task_id;
  return later.seq > span.seq && later.kind === span.kind && isSameWork && later.name === span.name;
}

// ── turns ──

function usageByRun(messages: readonly Message[]): Map<string, number> {
  const tokens = new Map<string, number>();
  for (const message of messages) {
    if (message.role !== "agent") continue;
    tokens.set(message.run_id, (tokens.get(message.run_id) ?? 0) + tokensOf(message));
  }
  return tokens;
}

function tokensOf(message: AgentMessage): number {
  return totalOf(message.usage);
}

function totalOf(usage: Usage | null): number {
  if (usage === null) return 0;
  const { input_tokens = 0, output_tokens = 0, total_tokens = 0 } = usage;
  return total_tokens || input_tokens + output_tokens;
}

/** What the turn took that ends with this run; null while it goes on, or waits for a person. */
function turnOf(view: View, last: RunState, tokens: Map<string, number>): Turn | null {
  if (last.ended_at === null || last.status === "interrupted" || last.next_run !== "") return null;
  const turn: Turn = { run_id: last.run_id, tokens: 0, cost: null, steps: 0, worked: 0 };
  const seen = new Set<string>();
  let run: RunState | undefined = last;
  while (run !== undefined && !seen.has(run.run_id)) {
    seen.add(run.run_id);
    turn.tokens += totalOf(run.usage) || (tokens.get(run.run_id) ?? 0);
    if (run.cost !== null) turn.cost = (turn.cost ?? 0) + run.cost;
    turn.steps += run.steps ?? 0;
    if (run.ended_at !== null) turn.worked += Date.parse(run.ended_at) - Date.parse(run.started_at);
    run = view.runs[run.paused_run];
  }
  return turn;
}

// ── files ──

function filesOf(run: RunState | undefined, input: unknown): SentFile[] {
  const named = run?.metadata[FILES];
  if (Array.isArray(named)) return named.filter(isSentFile);
  const found = filesIn(input);
  return found.length === 0 ? NO_FILES : found;
}

/** The files in the last message of a graph's own input, as other clients send them: blocks that
 * name an upload. */
function filesIn(input: unknown): SentFile[] {
  const messages: unknown = isObject(input) ? input["messages"] : null;
  const last: unknown = Array.isArray(messages) ? messages.at(-1) : null;
  const content = isObject(last) ? last["content"] : null;
  if (!Array.isArray(content)) return [];
  return content.filter(isObject).flatMap((block) => {
    const { type, file_id, filename, mime_type } = block;
    if (typeof file_id !== "string") return [];
    const kind = typeof type === "string" ? type : "file";
    const name = typeof filename === "string" ? filename : kind;
    // Without one, the kind of the block tells whether it can be drawn.
    const mime = typeof mime_type === "string" ? mime_type : `${kind}/*`;
    return [{ file_id, name, mime_type: mime, size: 0 }];
  });
}

/** Metadata is whatever the sender wrote, so each entry is looked at. */
export function isSentFile(value: unknown): value is SentFile {
  if (typeof value !== "object" || value === null) return false;
  const { file_id, name, mime_type, size }: Partial<Record<keyof SentFile, unknown>> = value;
  return (
    typeof file_id === "string" &&
    typeof name === "string" &&
    typeof mime_type === "string" &&
    typeof size === "number"
  );
}
