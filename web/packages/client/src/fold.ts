/**
 * The view of a thread from its events: pure, and the same in whatever batches they come.
 *
 * A batch is folded into a draft, which copies what it changes once. Where things are found again
 * (messages, calls, spans by their ids) is kept beside the view that was made last, and made anew
 * for any other.
 */

import type { Event, EventOf } from "./api.ts";
import type { Gap } from "./follow.ts";
import { isObject } from "./problems.ts";
import type {
  AgentMessage,
  ApprovalState,
  CallPart,
  Message,
  Part,
  RunState,
  Span,
  View,
} from "./view.ts";

/** A thread of which nothing is known. */
export const EMPTY: View = Object.freeze({
  seq: 0,
  thread_id: "",
  messages: [],
  approvals: {},
  pending: [],
  runs: {},
  active: null,
  spans: [],
  checkpoints: [],
  customs: [],
  budgets: {},
  gap: null,
});

/** The view after these events. Those that it has already change nothing. */
export function fold(view: View, events: Iterable<Event | Gap>): View {
  let draft = new Draft(view);
  for (const event of events) {
    if (event.type === "gap") {
      // The log was put back to an older copy, or begun again: what was told is told anew.
      if (event.first <= draft.seq) draft = new Draft(EMPTY);
      draft.leave();
      draft.gap = event.first;
      draft.isChanged = true;
      continue;
    }
    const seq = event.seq ?? 0;
    if (seq !== 0 && seq <= draft.seq) continue;
    if (seq !== 0) draft.seq = seq;
    draft.isChanged = true;
    if (event.thread_id && !draft.thread_id) draft.thread_id = event.thread_id;
    take(draft, event);
  }
  if (draft.isChanged) return draft.finished();
  indexes.set(view, draft.index);
  return view;
}

/** Where things of a view are. */
interface Index {
  readonly rows: Map<string, number>;
  /** By the id of a call: the row of its message. */
  readonly calls: Map<string, number>;
  /** By the id of an approval: the row that shows it. */
  readonly asked: Map<string, number>;
  /** By what a span is about: where the last one is. */
  readonly spans: Map<string, number>;
  /** The rows of messages that are written, and where spans are that run. */
  readonly writing: Set<number>;
  readonly running: Set<number>;
}

const indexes = new WeakMap<View, Index>();

function indexOf(view: View): Index {
  const kept = indexes.get(view);
  if (kept !== undefined) {
    // It goes on with the view that is made of this one, and changes with that.
    indexes.delete(view);
    return kept;
  }
  const index: Index = {
    rows: new Map(),
    calls: new Map(),
    asked: new Map(),
    spans: new Map(),
    writing: new Set(),
    running: new Set(),
  };
  indexMessages(index, view.messages);
  view.spans.forEach((span, at) => {
    index.spans.set(spanKey(span.kind, span.about), at);
    if (span.status === "running") index.running.add(at);
  });
  return index;
}

function indexMessages(index: Index, messages: readonly Message[]): void {
  for (const kept of [index.rows, index.calls, index.asked, index.writing]) kept.clear();
  messages.forEach((message, row) => {
    index.rows.set(message.id, row);
    if (message.role === "approval") index.asked.set(message.approval.approval_id, row);
    if (message.role === "agent" && message.status === "writing") index.writing.add(row);
    for (const call of callsOf(message)) {
      index.calls.set(call.id, row);
      if (call.approval) index.asked.set(call.approval.approval_id, row);
    }
  });
}

function callsOf(message: Message): CallPart[] {
  if (message.role === "tool") return [message.call];
  if (message.role !== "agent") return [];
  return message.parts.filter((part) => part.type === "call");
}

type Spoken = { readonly [name: string]: unknown };

/** A view that changes. */
class Draft {
  seq: number;
  thread_id: string;
  gap: number | null;
  isChanged = false;
  active: string | null;
  readonly #view: View;
  readonly index: Index;
  #messages: Message[] | null = null;
  #approvals: Record<string, ApprovalState> | null = null;
  #pending: readonly ApprovalState[];
  #runs: Record<string, RunState> | null = null;
  #spans: Span[] | null = null;
  #checkpoints: EventOf<"checkpoint">[] | null = null;
  #customs: EventOf<"custom">[] | null = null;
  #budgets: Record<string, View["budgets"][string]> | null = null;

  constructor(view: View) {
    this.#view = view;
    this.seq = view.seq;
    this.thread_id = view.thread_id;
    this.gap = view.gap;
    this.active = view.active?.run_id ?? null;
    this.#pending = view.pending;
    this.index = indexOf(view);
  }

  get messages(): readonly Message[] {
    return this.#messages ?? this.#view.messages;
  }

  get approvals(): Readonly<Record<string, ApprovalState>> {
    return this.#approvals ?? this.#view.approvals;
  }

  get runs(): Readonly<Record<string, RunState>> {
    return this.#runs ?? this.#view.runs;
  }

  get spans(): readonly Span[] {
    return this.#spans ?? this.#view.spans;
  }

  finished(): View {
    const runs = this.runs;
    const view: View = {
      seq: this.seq,
      thread_id: this.thread_id,
      messages: this.messages,
      approvals: this.approvals,
      pending: this.#pending,
      runs,
      active: this.active === null ? null : (runs[this.active] ?? null),
      spans: this.spans,
      checkpoints: this.#checkpoints ?? this.#view.checkpoints,
      customs: this.#customs ?? this.#view.customs,
      budgets: this.#budgets ?? this.#view.budgets,
      gap: this.gap,
    };
    indexes.set(view, this.index);
    return view;
  }

  /** Leaves what is open as it was last heard of: how it ended was removed with the events before a
   * gap, since a server keeps those of runs that are at work or wait for a person. */
  leave(): void {
    for (const at of [...this.index.running]) this.setSpan(at, { status: "stopped" });
    for (const row of [...this.index.writing]) stopWriting(this, row);
    for (const message of this.messages) {
      for (const call of callsOf(message)) {
        if (call.status === "running") this.setCall(call.id, { status: "stopped" });
      }
    }
    this.#pending = [];
    this.active = null;
  }

  // ── messages ──

  add(message: Message): number {
    this.#messages ??= [...this.#view.messages];
    const row = this.#messages.push(message) - 1;
    this.index.rows.set(message.id, row);
    return row;
  }

  set(row: number, message: Message): void {
    this.#messages ??= [...this.#view.messages];
    this.#messages[row] = message;
  }

  /** Takes messages back. */
  drop(ids: ReadonlySet<string>): void {
    if (![...ids].some((id) => this.index.rows.has(id))) return;
    this.#messages = this.messages.filter((message) => !ids.has(message.id));
    indexMessages(this.index, this.#messages);
  }

  at(id: string): { row: number; message: Message } | null {
    const row = this.index.rows.get(id);
    const message = row === undefined ? undefined : this.messages[row];
    return row === undefined || message === undefined ? null : { row, message };
  }

  call(id: string): CallPart | null {
    const message = this.#rowOfCall(id)?.message;
    if (message === undefined) return null;
    return callsOf(message).find((call) => call.id === id) ?? null;
  }

  setCall(id: string, change: Partial<CallPart>): void {
    const found = this.#rowOfCall(id);
    if (found === null) return;
    const { row, message } = found;
    if (message.role === "tool") {
      this.set(row, { ...message, call: { ...message.call, ...change } });
    } else if (message.role === "agent") {
      const parts = message.parts.map((part) =>
        part.type === "call" && part.id === id ? { ...part, ...change } : part,
      );
      this.set(row, { ...message, parts });
    }
  }

  #rowOfCall(id: string): { row: number; message: Message } | null {
    const row = this.index.calls.get(id);
    const message = row === undefined ? undefined : this.messages[row];
    return row === undefined || message === undefined ? null : { row, message };
  }

  // ── approvals ──

  setApproval(approval: ApprovalState): void {
    this.#approvals ??= { ...this.#view.approvals };
    this.#approvals[approval.approval_id] = approval;
    const id = approval.approval_id;
    const at = this.#pending.findIndex((each) => each.approval_id === id);
    if (approval.status !== "pending") {
      if (at >= 0) this.#pending = this.#pending.toSpliced(at, 1);
    } else if (at >= 0) {
      this.#pending = this.#pending.with(at, approval);
    } else {
      this.#pending = [...this.#pending, approval];
    }
    const row = this.index.asked.get(approval.approval_id);
    const message = row === undefined ? undefined : this.messages[row];
    if (row === undefined || message === undefined) return;
    if (message.role === "approval") {
      this.set(row, { ...message, approval });
      return;
    }
    const call = callsOf(message).find(
      (each) => each.approval?.approval_id === approval.approval_id,
    );
    if (call) this.setCall(call.id, { approval });
  }

  // ── runs and spans ──

  setRun(runId: string, change: Partial<RunState>): void {
    this.#runs ??= { ...this.#view.runs };
    const run = this.#runs[runId];
    if (run !== undefined) this.#runs[runId] = { ...run, ...change };
  }

  addRun(run: RunState): void {
    this.#runs ??= { ...this.#view.runs };
    this.#runs[run.run_id] = run;
  }

  addSpan(span: Span): void {
    this.#spans ??= [...this.#view.spans];
    const at = this.#spans.push(span) - 1;
    this.index.spans.set(spanKey(span.kind, span.about), at);
    this.index.running.add(at);
  }

  setSpan(at: number, change: Partial<Span>): void {
    this.#spans ??= [...this.#view.spans];
    const span = this.#spans[at];
    if (span === undefined) return;
    this.#spans[at] = { ...span, ...change };
    if (change.status && change.status !== "running") this.index.running.delete(at);
  }

  // ── other ──

  addCheckpoint(event: EventOf<"checkpoint">): void {
    this.#checkpoints ??= [...this.#view.checkpoints];
    this.#checkpoints.push(event);
  }

  addCustom(event: EventOf<"custom">): void {
    this.#customs ??= [...this.#view.customs];
    this.#customs.push(event);
  }

  setBudget(event: EventOf<"budget_warning" | "budget_exceeded">): void {
    this.#budgets ??= { ...this.#view.budgets };
    const { scope, budget, used, limit } = event;
    const is_exceeded = event.type === "budget_exceeded";
    this.#budgets[`${scope} ${budget}`] = { scope, budget, used, limit, is_exceeded, at: event.ts };
  }
}

function take(draft: Draft, event: Event): void {
  switch (event.type) {
    case "token":
      return grow(draft, event);
    case "reasoning":
      return reason(draft, event);
    case "tool_call_delta":
      return writeCall(draft, event);
    case "media":
      return show(draft, event);
    case "llm_start":
      return startModel(draft, event);
    case "llm_end":
      return endModel(draft, event);
    case "llm_error":
      takeBack(draft, [event.message_id ?? ""]);
      return endSpan(draft, "model", event.message_id ?? "", event.ts, "failed", {
        error: event.error,
      });
    case "llm_retry":
      return takeBack(draft, event.message_ids ?? []);
    case "run_start":
      return startRun(draft, event);
    case "run_resumed":
      return resumeRun(draft, event);
    case "run_paused":
      return pauseRun(draft, event);
    case "run_recovered":
      return recoverRun(draft, event);
    case "run_cancelled":
      return endRun(draft, event, {
        status: "cancelled",
        reason: event.reason ?? "",
        rolled_back: event.rolled_back ?? false,
      });
    case "done":
      return endRun(draft, event, {
        status: "success",
        usage: event.usage ?? null,
        steps: event.steps ?? 0,
      });
    case "error": {
      const { code, message, node = "" } = event;
      return endRun(draft, event, { status: "error", error: { code, message, node } });
    }
    case "node_start":
      return startNode(draft, event);
    case "node_end":
      return endSpan(draft, "node", nodeKey(event), event.ts, "done");
    case "node_error":
      return endSpan(draft, "node", nodeKey(event), event.ts, "failed", { error: event.error });
    case "tool_start":
      return startTool(draft, event);
    case "tool_progress":
      return draft.setCall(event.tool_call_id ?? "", { progress: event.data ?? null });
    case "tool_end":
      return endTool(draft, event, "done", {
        output: event.output ?? null,
        documents: event.documents ?? [],
      });
    case "tool_error":
      return endTool(draft, event, "failed", { error: event.error });
    case "tool_unknown":
      return endTool(draft, event, "unknown", {});
    case "retriever_start":
      return draft.addSpan(spanOf(event, "retriever", event.retriever, event.call_id ?? ""));
    case "retriever_end":
      return endSpan(draft, "retriever", event.call_id ?? "", event.ts, "done");
    case "retriever_error":
      return endSpan(draft, "retriever", event.call_id ?? "", event.ts, "failed", {
        error: event.error,
      });
    case "state_update":
      return written(draft, event);
    case "checkpoint":
      return draft.addCheckpoint(event);
    case "custom":
      return draft.addCustom(event);
    case "progress": {
      const at = draft.index.spans.get(spanKey("node", nodeKey(event)));
      if (at === undefined) return;
      const { progress, message = "" } = event;
      return draft.setSpan(at, { progress, progress_message: message });
    }
    case "budget_warning":
    case "budget_exceeded":
      draft.setBudget(event);
      return say(draft, event, `budget-${event.seq}`);
    case "broadcast":
      return say(draft, event, `broadcast-${event.seq || `${event.ts}-${event.by ?? ""}`}`);
    default:
      if (isAboutApproval(event)) return takeApproval(draft, event);
  }
}

// ── what models write ──

type InNode = EventOf<"llm_start" | "token" | "reasoning" | "media" | "tool_call_delta" | "llm_end">;

/** The message of a model, which begins with this event if it is not there. */
function messageOf(
  draft: Draft,
  event: InNode | EventOf<"state_update">,
  id: string,
): { row: number; message: AgentMessage } {
  const found = draft.at(id);
  if (found?.message.role === "agent") return { row: found.row, message: found.message };
  const message: AgentMessage = {
    ...said(event, id),
    ...inGraph(event),
    role: "agent",
    parts: [],
    status: "writing",
    model: "",
    finish_reason: "",
    usage: null,
    cost: null,
  };
  const row = draft.add(message);
  draft.index.writing.add(row);
  return { row, message };
}

function startModel(draft: Draft, event: EventOf<"llm_start">): void {
  const name = event.model || textIn(event.metadata, "ls_model_name") || "model";
  draft.addSpan(spanOf(event, "model", name, event.message_id));
}

function grow(draft: Draft, event: EventOf<"token">): void {
  const { row, message } = messageOf(draft, event, event.message_id);
  const last = message.parts.at(-1);
  const kind = event.kind ?? "";
  if (last?.type === "text" && last.is_open && last.kind === kind) {
    setLast(draft, row, message, { ...last, text: last.text + event.content });
    return;
  }
  const id = `${message.id}-${message.parts.length}`;
  addPart(draft, row, message, { type: "text", id, text: event.content, kind, is_open: true });
}

function reason(draft: Draft, event: EventOf<"reasoning">): void {
  const { row, message } = messageOf(draft, event, event.message_id);
  const last = message.parts.at(-1);
  const index = event.index ?? 0;
  if (last?.type === "reasoning" && last.is_open && last.index === index) {
    setLast(draft, row, message, { ...last, text: last.text + event.content });
    return;
  }
  const id = `${message.id}-${message.parts.length}`;
  const text = event.content;
  addPart(draft, row, message, { type: "reasoning", id, text, index, is_open: true });
}

function show(draft: Draft, event: EventOf<"media">): void {
  const { row, message } = messageOf(draft, event, event.message_id);
  const { media, mime_type = "", url = "", file_id = "", size = 0 } = event;
  const id = `${message.id}-${message.parts.length}`;
  addPart(draft, row, message, { type: "media", id, media, mime_type, url, file_id, size });
}

function writeCall(draft: Draft, event: EventOf<"tool_call_delta">): void {
  const { row, message } = messageOf(draft, event, event.message_id);
  const index = event.index ?? 0;
  const at = message.parts.findLastIndex(
    (part) => part.type === "call" && part.index === index && part.status === "writing",
  );
  const open = message.parts[at];
  const id = event.tool_call_id ?? "";
  if (open?.type === "call" && (!id || open.id === id)) {
    const parts = [...message.parts];
    parts[at] = { ...open, args_text: open.args_text + (event.args ?? "") };
    draft.set(row, { ...message, parts });
  } else if (id) {
    const call = newCall(id, event.tool ?? "", index, { args_text: event.args ?? "" });
    addPart(draft, row, message, call);
    draft.index.calls.set(id, row);
  }
}

function endModel(draft: Draft, event: EventOf<"llm_end">): void {
  const { message_id, ts, usage = null, cost = null } = event;
  endSpan(draft, "model", message_id, ts, "done", { usage, cost });
  const run = draft.runs[event.run_id];
  if (run) {
    const total = cost === null ? run.cost : (run.cost ?? 0) + cost;
    draft.setRun(run.run_id, { llm_calls: run.llm_calls + 1, cost: total });
  }
  const hasMessage = draft.at(message_id) !== null;
  if (!hasMessage && !event.tool_calls?.length) return;
  const { row, message } = messageOf(draft, event, message_id);
  const args = new Map(event.tool_calls?.map((call) => [call.id, call.args]));
  const parts = message.parts.map((part) => closed(part, args));
  const shown = new Set(parts.map((part) => part.id));
  for (const call of event.tool_calls ?? []) {
    if (shown.has(call.id) || draft.index.calls.has(call.id)) continue;
    parts.push(wholeCall(call.id, call.name, call.args));
    draft.index.calls.set(call.id, row);
  }
  const { model = "", finish_reason = "" } = event;
  draft.index.writing.delete(row);
  draft.set(row, { ...message, parts, status: "complete", model, finish_reason, usage, cost });
}

/** The part as it is when its message is complete. */
function closed(part: Part, args: ReadonlyMap<string, unknown>): Part {
  if (part.type === "call" && part.status === "writing") {
    const found = args.get(part.id) ?? parsed(part.args_text);
    return { ...part, args: found, status: found === undefined ? "stopped" : "ready" };
  }
  return "is_open" in part && part.is_open ? { ...part, is_open: false } : part;
}

function addPart(draft: Draft, row: number, message: AgentMessage, part: Part): void {
  const last = message.parts.at(-1);
  const parts = [...message.parts];
  if (last !== undefined && "is_open" in last && last.is_open) {
    parts[parts.length - 1] = { ...last, is_open: false };
  }
  parts.push(part);
  draft.set(row, { ...message, parts });
}

function setLast(draft: Draft, row: number, message: AgentMessage, part: Part): void {
  const parts = [...message.parts];
  parts[parts.length - 1] = part;
  draft.set(row, { ...message, parts });
}

function takeBack(draft: Draft, ids: readonly string[]): void {
  const gone = new Set(ids.filter((id) => id !== ""));
  draft.drop(gone);
  for (const id of gone) {
    const at = draft.index.spans.get(spanKey("model", id));
    if (at !== undefined && draft.spans[at]?.status === "running") {
      draft.setSpan(at, { status: "cut_off" });
    }
  }
}

// ── messages that a node wrote at once ──

function written(draft: Draft, event: EventOf<"state_update">): void {
  newMessages(event.update).forEach((message, place) => {
    if (message["type"] === "tool") return answerWritten(draft, event, message);
    const id = message["id"];
    if (typeof id === "string" && id) return writeWhole(draft, event, message, id);
    // One of a subgraph comes again, when that ends, and has an id then.
    if (!event.ns?.length) {
      writeWhole(draft, event, message, `${event.run_id}-${event.task_id ?? ""}-${place}`);
    }
  });
}

/** The messages of models and tools in what a node wrote, of the present turn: a subgraph gives back
 * the earlier ones too. */
function newMessages(update: unknown): Spoken[] {
  if (!isObject(update)) return [];
  return Object.values(update).flatMap((value) => {
    const listed: unknown[] = Array.isArray(value) ? value : [value];
    const messages = listed.filter(isObject).filter((each) => "content" in each);
    const asked = messages.findLastIndex((each) => each["type"] === "human");
    return messages
      .slice(asked + 1)
      .filter((each) => each["type"] === "ai" || each["type"] === "tool");
  });
}

function writeWhole(
  draft: Draft,
  event: EventOf<"state_update">,
  message: Spoken,
  id: string,
): void {
  const known = draft.at(id)?.message;
  const calls = spokenCalls(message).filter((call) => !draft.index.calls.has(call.id));
  const hasText =
    known?.role === "agent" &&
    (known.status === "complete" || known.parts.some((part) => part.type === "text"));
  const texts = hasText ? [] : contentTexts(message["content"]);
  if (calls.length === 0 && texts.length === 0 && known?.role !== "agent") return;
  const { row, message: present } = messageOf(draft, event, id);
  const isOpen = present.status === "writing";
  if (calls.length === 0 && texts.length === 0 && !isOpen) return;
  const parts = present.parts.map((part) => closed(part, new Map()));
  for (const { type, text } of texts) {
    const part = { id: `${id}-${parts.length}`, text, is_open: false };
    if (type === "text") parts.push({ type, ...part, kind: "" });
    else parts.push({ type, ...part, index: parts.length });
  }
  for (const call of calls) {
    parts.push(wholeCall(call.id, call.name, call.args));
    draft.index.calls.set(call.id, row);
  }
  draft.index.writing.delete(row);
  draft.set(row, { ...present, parts, status: "complete" });
}

function answerWritten(draft: Draft, event: EventOf<"state_update">, message: Spoken): void {
  const id = textIn(message, "tool_call_id");
  const call = draft.call(id);
  if (call === null || isOver(call)) return;
  const content = message["content"];
  // What the model is told of a call that was not let run is no failure of it.
  if (call.status === "denied") return draft.setCall(id, { output: content });
  const hasFailed = message["status"] === "error";
  const error = hasFailed ? { type: "", message: textOf(content) } : null;
  draft.setCall(id, {
    status: hasFailed ? "failed" : "done",
    output: content,
    error,
    ended_at: event.ts,
  });
}

const TEXTS: Readonly<Record<string, { type: "text" | "reasoning"; name: string }>> = {
  text: { type: "text", name: "text" },
  refusal: { type: "text", name: "refusal" },
  reasoning: { type: "reasoning", name: "reasoning" },
  thinking: { type: "reasoning", name: "thinking" },
};

function contentTexts(content: unknown): { type: "text" | "reasoning"; text: string }[] {
  const listed: unknown[] = Array.isArray(content) ? content : [content];
  return listed.flatMap((each) => {
    const block = typeof each === "string" ? { type: "text", text: each } : each;
    if (!isObject(block)) return [];
    const named = TEXTS[textIn(block, "type")];
    const text = named === undefined ? "" : textIn(block, named.name);
    return named !== undefined && text ? [{ type: named.type, text }] : [];
  });
}

function spokenCalls(message: Spoken): { id: string; name: string; args: unknown }[] {
  const calls = message["tool_calls"];
  if (!Array.isArray(calls)) return [];
  return calls.filter(isObject).flatMap((call) => {
    const id = textIn(call, "id");
    return id ? [{ id, name: textIn(call, "name"), args: call["args"] }] : [];
  });
}

// ── tools ──

type OfTool = EventOf<"tool_start" | "tool_end" | "tool_error" | "tool_unknown">;

function startTool(draft: Draft, event: EventOf<"tool_start">): void {
  const id = event.tool_call_id ?? "";
  draft.addSpan(spanOf(event, "tool", event.tool, id));
  if (!id) return;
  if (draft.call(id) === null) {
    const call = wholeCall(id, event.tool, event.input ?? null);
    const row = draft.add({ ...said(event, `call-${id}`), ...inGraph(event), role: "tool", call });
    draft.index.calls.set(id, row);
  }
  draft.setCall(id, {
    status: "running",
    args: event.input ?? draft.call(id)?.args,
    started_at: event.ts,
    ended_at: null,
    error: null,
  });
}

function endTool(
  draft: Draft,
  event: OfTool,
  status: "done" | "failed" | "unknown",
  change: Partial<CallPart>,
): void {
  const id = event.tool_call_id ?? "";
  endSpan(draft, "tool", id, event.ts, status, { error: change.error ?? null });
  if (id) draft.setCall(id, { ...change, status, ended_at: event.ts });
}

function isOver(call: CallPart): boolean {
  return call.status === "done" || call.status === "failed" || call.status === "unknown";
}

// ── runs ──

function startRun(draft: Draft, event: EventOf<"run_start">): void {
  draft.addRun({ ...newRun(event, "input"), message: event.message ?? "" });
  draft.active = event.run_id;
  if (event.metadata) draft.setRun(event.run_id, { metadata: event.metadata });
  const { message = "", input = null } = event;
  if (message === "" && input === null) return;
  const id = `said-${event.run_id}`;
  draft.add({ ...said(event, id), role: "person", text: message || inputText(input), input });
}

function resumeRun(draft: Draft, event: EventOf<"run_resumed">): void {
  const paused_run = event.paused_run ?? "";
  draft.addRun({ ...newRun(event, "resume"), paused_run });
  draft.active = event.run_id;
  if (paused_run) draft.setRun(paused_run, { next_run: event.run_id });
  // The nodes that paused begin anew under their tasks.
}

function pauseRun(draft: Draft, event: EventOf<"run_paused">): void {
  const { approvals = [], next = [], next_run = "" } = event;
  draft.setRun(event.run_id, {
    status: "interrupted",
    ended_at: event.ts,
    approvals,
    next,
    next_run,
  });
  endAll(draft, event, "paused");
  if (draft.active === event.run_id) draft.active = null;
}

function recoverRun(draft: Draft, event: EventOf<"run_recovered">): void {
  draft.setRun(event.run_id, { attempt: event.attempt, status: "running" });
  draft.active = event.run_id;
  takeBack(draft, event.message_ids ?? []);
  endAll(draft, event, "cut_off");
  say(draft, event, `recovered-${event.seq}`);
}

function endRun(
  draft: Draft,
  event: EventOf<"done" | "error" | "run_cancelled">,
  change: Partial<RunState>,
): void {
  if (draft.runs[event.run_id] === undefined) draft.addRun(newRun(event, "input"));
  draft.setRun(event.run_id, { ...change, ended_at: event.ts });
  endAll(draft, event, "stopped");
  for (const row of [...draft.index.writing]) {
    if (draft.messages[row]?.run_id === event.run_id) stopWriting(draft, row);
  }
  if (draft.active === event.run_id) draft.active = null;
  if (event.type !== "done") say(draft, event, `${event.type}-${event.seq}`);
}

function stopWriting(draft: Draft, row: number): void {
  const message = draft.messages[row];
  if (message?.role !== "agent") return;
  const parts = message.parts.map((part) => {
    if (part.type !== "call") return closed(part, new Map());
    return part.status === "writing" ? { ...part, status: "stopped" as const } : part;
  });
  draft.index.writing.delete(row);
  draft.set(row, { ...message, parts, status: "stopped" });
}

/** The spans of a run that are still open, and the calls that they are about. */
function endAll(draft: Draft, event: Event, status: "paused" | "cut_off" | "stopped"): void {
  for (const at of [...draft.index.running]) {
    const span = draft.spans[at];
    if (span === undefined || span.run_id !== event.run_id) continue;
    draft.setSpan(at, { status, ended_at: event.ts });
    if (span.kind === "tool" && draft.call(span.about)?.status === "running") {
      const after = status === "stopped" ? "stopped" : "ready";
      draft.setCall(span.about, { status: after, ended_at: event.ts });
    }
  }
}

function newRun(event: Event & { readonly agent?: string }, kind: RunState["kind"]): RunState {
  return {
    run_id: event.run_id ?? "",
    agent: event.agent ?? "",
    kind,
    status: "running",
    attempt: 1,
    started_at: event.ts,
    ended_at: null,
    message: "",
    metadata: {},
    approvals: [],
    next: [],
    paused_run: "",
    next_run: "",
    usage: null,
    cost: null,
    llm_calls: 0,
    steps: null,
    error: null,
    reason: "",
    rolled_back: false,
  };
}

/** The text of the last message of a person in a graph's input, if there is one. */
function inputText(input: unknown): string {
  const messages = isObject(input) ? input["messages"] : null;
  if (typeof messages === "string") return messages;
  if (!Array.isArray(messages)) return "";
  const last: unknown = messages.at(-1);
  if (typeof last === "string") return last;
  return isObject(last) ? contentTexts(last["content"]).map((each) => each.text).join("\n") : "";
}

// ── nodes ──

function nodeKey(event: { readonly node?: string; readonly task_id?: string }): string {
  return `${event.node ?? ""} ${event.task_id ?? ""}`;
}

function startNode(draft: Draft, event: EventOf<"node_start">): void {
  const key = nodeKey(event);
  const before = draft.index.spans.get(spanKey("node", key));
  if (before !== undefined && draft.spans[before]?.status === "running") {
    draft.setSpan(before, { status: "cut_off", ended_at: event.ts });
  }
  draft.addSpan({ ...spanOf(event, "node", event.node ?? "", key), step: event.step ?? 0 });
}

function spanKey(kind: Span["kind"], about: string): string {
  return `${kind} ${about}`;
}

type Spanned = EventOf<"node_start" | "llm_start" | "tool_start" | "retriever_start">;

function spanOf(event: Spanned, kind: Span["kind"], name: string, about: string): Span {
  return {
    ...inGraph(event),
    id: `${kind}-${event.seq}`,
    kind,
    name,
    run_id: event.run_id,
    seq: event.seq,
    attempt: event.attempt ?? 1,
    step: null,
    started_at: event.ts,
    ended_at: null,
    status: "running",
    error: null,
    about,
    usage: null,
    cost: null,
    progress: null,
    progress_message: "",
  };
}

function endSpan(
  draft: Draft,
  kind: Span["kind"],
  about: string,
  ended_at: string,
  status: Span["status"],
  change: Partial<Span> = {},
): void {
  const at = draft.index.spans.get(spanKey(kind, about));
  if (at === undefined) return;
  const isOpen = draft.spans[at]?.status === "running";
  if (isOpen || status === "unknown") draft.setSpan(at, { ...change, status, ended_at });
}

// ── approvals ──

type AboutApproval = Extract<Event, { approval_id: string }>;

function isAboutApproval(event: Event): event is AboutApproval {
  return "approval_id" in event;
}

function takeApproval(draft: Draft, event: AboutApproval): void {
  if (event.type === "approval_required") return require(draft, event);
  const present = draft.approvals[event.approval_id] ?? unasked(event);
  const approval = { ...present, ...changed(present, event) };
  draft.setApproval(approval);
  const call = draft.call(approval.tool_call_id);
  if (call === null || call.approval?.approval_id !== approval.approval_id) return;
  if (event.type === "approval_edited") draft.setCall(call.id, { args: event.args ?? null });
  const isUnknown = approval.kind === "unknown_outcome" && call.status === "unknown";
  if (approval.status === "pending" || (isOver(call) && !isUnknown)) return;
  draft.setCall(call.id, decidedCall(call, approval));
}

/** What becomes of a call whose approval is no longer pending. */
function decidedCall(call: CallPart, approval: ApprovalState): Partial<CallPart> {
  switch (approval.status) {
    case "approved":
      return { status: "ready" };
    case "edited":
      return { status: "ready", args: approval.args };
    case "responded":
      return { status: "done", output: approval.message };
    default:
      return { status: "denied", ended_at: approval.decided_at ?? call.ended_at };
  }
}

function require(draft: Draft, event: EventOf<"approval_required">): void {
  const approval: ApprovalState = {
    ...unasked(event),
    args: event.args ?? null,
    digest: event.digest ?? "",
    schema: event.schema ?? null,
    allowed: event.allowed ?? [],
    requested_by: event.requested_by ?? [],
    preview: event.preview ?? null,
    expires_at: event.expires_at ?? null,
    interrupt_id: event.interrupt_id ?? null,
  };
  const callId = calledBy(draft, event);
  if (callId !== null) {
    const row = draft.index.calls.get(callId);
    if (row !== undefined) draft.index.asked.set(approval.approval_id, row);
    const status = approval.kind === "unknown_outcome" ? "unknown" : "waiting";
    draft.setCall(callId, { approval, status });
    draft.setApproval({ ...approval, tool_call_id: callId });
    return;
  }
  const id = `asked-${approval.approval_id}`;
  const row = draft.add({ ...said(event, id), role: "approval", approval });
  draft.index.asked.set(approval.approval_id, row);
  draft.setApproval(approval);
}

/** The id of the call that the approval is about, null if none is shown. */
function calledBy(draft: Draft, event: EventOf<"approval_required">): string | null {
  if (event.kind === "input" || event.kind === "budget") return null;
  const id = event.tool_call_id ?? "";
  if (id) return draft.index.calls.has(id) ? id : null;
  if (!event.tool) return null;
  const args = JSON.stringify(event.args);
  for (const message of draft.messages.slice(-RECENT)) {
    for (const call of callsOf(message)) {
      const isFree = call.approval === null && !isOver(call) && call.tool === event.tool;
      if (isFree && JSON.stringify(call.args) === args) return call.id;
    }
  }
  return null;
}

/** An approval that names no call is about one of so many messages. */
const RECENT = 20;

function unasked(event: AboutApproval): ApprovalState {
  return {
    approval_id: event.approval_id,
    run_id: event.run_id,
    kind: kindOf(event.kind),
    tool: event.tool ?? "",
    tool_call_id: event.tool_call_id ?? "",
    agent: event.agent ?? "",
    node: event.node ?? "",
    args: null,
    digest: "",
    first_args: null,
    edited_by: null,
    schema: null,
    allowed: [],
    requested_by: [],
    requested_at: event.ts,
    preview: null,
    expires_at: null,
    interrupt_id: null,
    status: "pending",
    votes: [],
    quorum: 1,
    delegations: [],
    comments: [],
    escalated_to: [],
    decision: null,
    decided_by: null,
    decided_at: null,
    message: null,
    grant: "",
    reason: "",
  };
}

const KINDS = ["tool", "node", "input", "unknown_outcome", "budget"] as const;

function kindOf(kind: string | undefined): ApprovalState["kind"] {
  return KINDS.find((each) => each === kind) ?? "tool";
}

const OUTCOMES = {
  approve: "approved",
  edit: "edited",
  reject: "rejected",
  respond: "responded",
} as const;

const DECISIONS = ["approve", "edit", "reject", "respond"] as const;

function changed(approval: ApprovalState, event: AboutApproval): Partial<ApprovalState> {
  const by = "by" in event ? (event.by ?? "") : "";
  switch (event.type) {
    case "approval_voted": {
      const { decision, message = null, grant = "", ts: at, quorum = 1 } = event;
      const others = approval.votes.filter((vote) => vote.by !== by);
      return { votes: [...others, { by, decision, message, grant, at }], quorum };
    }
    case "approval_withdrawn":
      return { votes: approval.votes.filter((vote) => vote.by !== by) };
    case "approval_edited":
      return {
        args: event.args ?? null,
        digest: event.digest ?? "",
        // It showed what the arguments before would do.
        preview: null,
        first_args: approval.edited_by === null ? approval.args : approval.first_args,
        edited_by: by,
        allowed: event.allowed ?? approval.allowed,
        expires_at: event.expires_at ?? null,
        votes: [],
      };
    case "approval_delegated":
      return { delegations: [...approval.delegations, event] };
    case "approval_commented":
      return { comments: [...approval.comments, event] };
    case "approval_reminder":
      return { expires_at: event.expires_at ?? approval.expires_at };
    case "approval_escalated":
      return {
        escalated_to: [...approval.escalated_to, ...(event.to ?? [])],
        expires_at: event.expires_at ?? null,
      };
    case "approval_decided": {
      const decision = DECISIONS.find((each) => each === event.decision) ?? "approve";
      const isEdit = decision === "edit";
      return {
        status: OUTCOMES[decision],
        decision,
        decided_by: by,
        decided_at: event.ts,
        message: event.message ?? null,
        grant: event.grant ?? "",
        ...(isEdit ? { args: event.args ?? null, first_args: firstArgs(approval) } : {}),
      };
    }
    case "approval_expired":
      return { status: "expired", decided_at: event.ts };
    case "approval_cancelled":
      return { status: "cancelled", decided_at: event.ts, decided_by: by || null };
    case "approval_superseded":
      return { status: "superseded", decided_at: event.ts, reason: event.reason ?? "" };
    default:
      return {};
  }
}

function firstArgs(approval: ApprovalState): unknown {
  return approval.edited_by === null ? approval.args : approval.first_args;
}

// ── parts ──

type Speaking = EventOf<
  "error" | "run_cancelled" | "run_recovered" | "budget_warning" | "budget_exceeded" | "broadcast"
>;

function say(draft: Draft, event: Speaking, id: string): void {
  if (draft.at(id) === null) draft.add({ ...said(event, id), role: "system", event });
}

function said(event: Event, id: string) {
  return { id, run_id: event.run_id ?? "", at: event.ts, seq: event.seq ?? 0 };
}

function inGraph(event: { readonly node?: string; readonly ns?: string[]; readonly task_id?: string }) {
  return { node: event.node ?? "", ns: event.ns ?? NOWHERE, task_id: event.task_id ?? "" };
}

const NOWHERE: readonly string[] = [];

function newCall(id: string, tool: string, index: number, given: Partial<CallPart>): CallPart {
  return {
    type: "call",
    id,
    tool,
    index,
    args_text: "",
    args: undefined,
    status: "writing",
    output: null,
    error: null,
    progress: null,
    documents: [],
    approval: null,
    started_at: null,
    ended_at: null,
    ...given,
  };
}

function wholeCall(id: string, tool: string, args: unknown): CallPart {
  return newCall(id, tool, -1, { args_text: JSON.stringify(args) ?? "", args, status: "ready" });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function textIn(value: unknown, name: string): string {
  const found = isObject(value) ? value[name] : null;
  return typeof found === "string" ? found : "";
}
