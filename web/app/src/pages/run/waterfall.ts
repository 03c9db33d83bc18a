/** The picture of a run: rows of spans, and a scale on which long waits are short. Pure. */

import type { ApprovalState, RunState, Span, View } from "@assent/client";

/** A time of the log in milliseconds; it has microseconds, which `Date` drops. */
export function millisecondsOf(at: string): number {
  const whole = Date.parse(at);
  const micros = /\.\d{3}(\d{1,3})/.exec(at)?.[1];
  return micros === undefined ? whole : whole + Number(micros.padEnd(3, "0")) / 1000;
}

interface Piece {
  readonly id: string;
  /** How far it is indented. */
  readonly depth: number;
  readonly from: number;
  /** Null while it goes on. */
  readonly to: number | null;
}

export interface RunRow extends Piece {
  readonly kind: "run";
  readonly run: RunState;
  /** Another one has gone on from it. */
  readonly isOver: boolean;
}

export interface SpanRow extends Piece {
  readonly kind: "span";
  readonly span: Span;
  /** Until when it was seen at work, if it was cut off after that. */
  readonly seen: number | null;
}

/** A person was waited for. */
export interface WaitRow extends Piece {
  readonly kind: "wait";
  readonly approval: ApprovalState;
}

/** The process died after `from`, and the run was taken up again at `to`. */
export interface CrashRow extends Piece {
  readonly kind: "crash";
  readonly to: number;
  readonly run: RunState;
}

export type Row = RunRow | SpanRow | WaitRow | CrashRow;

/** A stretch of time in which something was at work, somebody was waited for, or nothing lived. */
export interface Stretch {
  readonly kind: "work" | "wait" | "crash";
  readonly from: number;
  readonly to: number;
  /** Where it is drawn, from 0 to 1. */
  readonly left: number;
  readonly right: number;
}

export interface Waterfall {
  readonly rows: readonly Row[];
  readonly stretches: readonly Stretch[];
  readonly from: number;
  readonly to: number;
}

const END = (row: { to: number | null }, now: number) => row.to ?? now;

/** Names the graph around a span: `outer:task` of each enclosing node. */
const placeOf = (ns: readonly string[]) => ns.join(" ");

/** The run that goes on from where this one has paused. */
function nextOf(view: View, { run_id, next_run }: RunState): RunState | undefined {
  return Object.values(view.runs).find((each) => each.run_id === next_run || each.paused_run === run_id);
}

/** The run and its neighbours: those that it goes on from, and those that go on from it. */
export function chainOf(view: View, runId: string): RunState[] {
  const first = view.runs[runId];
  if (first === undefined) return [];
  const chain = [first];
  for (let before = view.runs[first.paused_run]; before; before = view.runs[before.paused_run]) chain.unshift(before);
  for (let next = nextOf(view, first); next; next = nextOf(view, next)) chain.push(next);
  return chain;
}

/** The rows and the scale of these runs, in their order. `now` is the time of the server. */
export function waterfall(view: View, runs: readonly RunState[], now: number): Waterfall {
  const crashes = crashesOf(view);
  const rows = runs.flatMap((run) => rowsOf(view, run, crashes, run !== runs.at(-1)));
  const stretches = scaled(stretchesOf(runs, crashes, now));
  return { rows, stretches, from: stretches[0]?.from ?? now, to: stretches.at(-1)?.to ?? now };
}

/** When each run was lost and taken up again, by run. */
function crashesOf(view: View): CrashRow[] {
  const found: CrashRow[] = [];
  for (const message of view.messages) {
    if (message.role !== "system" || message.event.type !== "run_recovered") continue;
    const run = view.runs[message.run_id];
    if (run === undefined) continue;
    const to = millisecondsOf(message.at);
    const from = lastSign(view, run, to);
    found.push({ kind: "crash", id: message.id, depth: 1, from, to, run });
  }
  return found;
}

/** The last time before the recovery at which the run was heard of. */
function lastSign(view: View, run: RunState, before: number): number {
  let last = millisecondsOf(run.started_at);
  for (const span of view.spans) {
    if (span.run_id !== run.run_id) continue;
    for (const at of [span.started_at, span.ended_at]) {
      const time = at === null ? before : millisecondsOf(at);
      if (time < before) last = Math.max(last, time);
    }
  }
  return last;
}

function rowsOf(view: View, run: RunState, crashes: readonly CrashRow[], isOver: boolean): Row[] {
  const head: RunRow = {
    kind: "run",
    id: `run-${run.run_id}`,
    depth: 0,
    from: millisecondsOf(run.started_at),
    to: run.ended_at === null ? null : millisecondsOf(run.ended_at),
    run,
    isOver,
  };
  const own = crashes.filter((crash) => crash.run.run_id === run.run_id);
  const spans = view.spans.filter((span) => span.run_id === run.run_id);
  const waits = Object.values(view.approvals).filter((each) => each.run_id === run.run_id);
  // Waits and crashes stand between the nodes of the run, by time; what is below a node stays there.
  const between = [...waits.map(waitRow), ...own].sort((a, b) => a.from - b.from);
  const rows: Row[] = [];
  for (const row of treeOf(spans, own)) {
    const earlier = row.depth === 1 ? between.findIndex((each) => each.from >= row.from) : 0;
    rows.push(...between.splice(0, earlier < 0 ? between.length : earlier), row);
  }
  return [head, ...rows, ...between];
}

function waitRow(approval: ApprovalState): WaitRow {
  const isOpen = approval.status === "pending";
  const to = isOpen || approval.decided_at === null ? null : millisecondsOf(approval.decided_at);
  return { kind: "wait", id: approval.approval_id, depth: 1, from: millisecondsOf(approval.requested_at), to, approval };
}

/** Each span below the node in which it was: nodes of a subgraph below its node. */
function treeOf(spans: readonly Span[], crashes: readonly CrashRow[]): SpanRow[] {
  const below = new Map<Span | null, Span[]>();
  const nodes: Span[] = [];
  for (const span of spans) {
    const parent = parentOf(span, nodes);
    const siblings = below.get(parent);
    if (siblings) siblings.push(span);
    else below.set(parent, [span]);
    if (span.kind === "node") nodes.push(span);
  }
  const rows: SpanRow[] = [];
  const add = (parent: Span | null, depth: number) => {
    for (const span of below.get(parent) ?? []) {
      rows.push(spanRow(span, depth, crashes));
      add(span, depth + 1);
    }
  };
  add(null, 1);
  return rows;
}

/** The last attempt of the node in which it began. */
function parentOf(span: Span, nodes: readonly Span[]): Span | null {
  if (span.kind !== "node" && span.task_id !== "") {
    const own = nodes.findLast(
      (node) => node.task_id === span.task_id && node.attempt === span.attempt && placeOf(node.ns) === placeOf(span.ns),
    );
    if (own) return own;
  }
  const around = span.ns.at(-1);
  if (around === undefined) return null;
  const task = around.slice(around.lastIndexOf(":") + 1);
  return nodes.findLast((node) => node.task_id === task) ?? null;
}

function spanRow(span: Span, depth: number, crashes: readonly CrashRow[]): SpanRow {
  const from = millisecondsOf(span.started_at);
  const to = span.ended_at === null ? null : millisecondsOf(span.ended_at);
  const crash = crashes.find((each) => from <= each.from && to !== null && to >= each.to);
  const isLost = span.status === "cut_off" || span.status === "unknown";
  const seen = isLost && crash ? crash.from : null;
  return { kind: "span", id: span.id, depth, from, to, span, seen };
}

/** Times of work, of waits and of crashes, one behind the other. */
function stretchesOf(runs: readonly RunState[], crashes: readonly CrashRow[], now: number): Omit<Stretch, "left" | "right">[] {
  const found: Omit<Stretch, "left" | "right">[] = [];
  for (const [place, run] of runs.entries()) {
    const from = millisecondsOf(run.started_at);
    const to = run.ended_at === null ? Math.max(from, now) : millisecondsOf(run.ended_at);
    const before = found.at(-1);
    if (before && before.to < from) found.push({ kind: "wait", from: before.to, to: from });
    let at = from;
    for (const crash of crashes.filter((each) => each.run.run_id === run.run_id)) {
      found.push({ kind: "work", from: at, to: crash.from }, { kind: "crash", from: crash.from, to: crash.to });
      at = crash.to;
    }
    found.push({ kind: "work", from: at, to: Math.max(at, to) });
    const isLast = place === runs.length - 1;
    if (isLast && run.status === "interrupted" && to < now) found.push({ kind: "wait", from: to, to: now });
  }
  return found;
}

/** A wait that is longer than this part of all work is drawn as long as that. */
const LONGEST_WAIT = 0.12;

/** Gives each stretch its place: work in proportion to its time, waits at most a part of that. */
function scaled(stretches: readonly Omit<Stretch, "left" | "right">[]): Stretch[] {
  const work = stretches.reduce((sum, each) => sum + (each.kind === "work" ? each.to - each.from : 0), 0);
  const most = Math.max(work * LONGEST_WAIT, 1);
  const weight = (each: { kind: string; from: number; to: number }) => {
    const time = each.to - each.from;
    return each.kind === "work" ? time : Math.min(time, most);
  };
  const all = stretches.reduce((sum, each) => sum + weight(each), 0) || 1;
  let left = 0;
  return stretches.map((each) => {
    const right = left + weight(each) / all;
    const stretch = { ...each, left, right };
    left = right;
    return stretch;
  });
}

/** Where a time is drawn, from 0 to 1. */
export function placeAt(stretches: readonly Stretch[], time: number): number {
  const found = stretches.findLast((each) => each.from <= time) ?? stretches[0];
  if (found === undefined) return 0;
  const length = found.to - found.from;
  const part = length === 0 ? 0 : Math.min(1, Math.max(0, (time - found.from) / length));
  return found.left + part * (found.right - found.left);
}

export interface Tick {
  readonly left: number;
  /** Milliseconds since the beginning of its stretch of work. */
  readonly after: number;
  /** True for a stretch behind a wait: its times are counted anew. */
  readonly isAnew: boolean;
}

/** Ticks at round times of each stretch of work, about `wanted` in all. */
export function ticksOf(stretches: readonly Stretch[], wanted: number): Tick[] {
  const ticks: Tick[] = [];
  for (const [place, stretch] of stretches.entries()) {
    const width = stretch.right - stretch.left;
    const length = stretch.to - stretch.from;
    if (stretch.kind !== "work" || width < 0.5 / wanted) continue;
    const step = roundStep(length / Math.max(1, width * wanted));
    for (let after = 0; after <= length * (1 - 0.5 / (width * wanted)); after += step) {
      ticks.push({ left: stretch.left + (after / length) * width, after, isAnew: place > 0 });
    }
  }
  return ticks;
}

const MINUTE = 60_000;
const STEPS_ABOVE = [1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440].map((minutes) => minutes * MINUTE);

/** The least round time of at least so many milliseconds. */
export function roundStep(least: number): number {
  if (least > 30_000) return STEPS_ABOVE.find((step) => step >= least) ?? Math.ceil(least / (1440 * MINUTE)) * 1440 * MINUTE;
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 0.001)));
  const step = [1, 2, 5, 10].find((each) => each * power >= least) ?? 10;
  return step * power;
}

/** How long a row took, or takes so far. */
export function lengthOf(row: Row, now: number): number {
  return Math.max(0, END(row, now) - row.from);
}

/** What a row shows of itself as a bar: its places, from 0 to 1. */
export function barOf(row: Row, stretches: readonly Stretch[], now: number): { left: number; right: number; seen: number | null } {
  const left = placeAt(stretches, row.from);
  const right = Math.max(left, placeAt(stretches, END(row, now)));
  const seen = row.kind === "span" && row.seen !== null ? placeAt(stretches, row.seen) : null;
  return { left, right, seen };
}
