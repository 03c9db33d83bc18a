import { EMPTY, type Event, fold } from "@assent/client";
import { expect, test } from "vitest";
import { chainOf, millisecondsOf, placeAt, roundStep, ticksOf, waterfall } from "./waterfall.ts";

const BEGIN = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;

let seq = 0;
function told(after: number, run_id: string, event: object): Event {
  seq += 1;
  const ts = new Date(BEGIN + after).toISOString();
  // What the fold reads of each is given by the tests below.
  return { seq, ts, thread_id: "t", run_id, ...event } as Event;
}

const inNode = { node: "act", task_id: "n1" };
const question = { approval_id: "a", kind: "tool", tool: "pay", tool_call_id: "c", node: "approval", digest: "d" };
const LOG = [
  told(0, "one", { type: "run_start", agent: "agent", message: "pay" }),
  told(100, "one", { type: "node_start", step: 1, ...inNode }),
  told(300, "one", { type: "node_end", step: 1, ...inNode }),
  told(400, "one", { type: "approval_required", args: {}, ...question }),
  told(400, "one", { type: "run_paused", approvals: ["a"], next: ["approval"] }),
  told(HOUR, "two", { type: "approval_decided", decision: "approve", by: "ann", ...question }),
  told(HOUR, "two", { type: "run_resumed", approvals: ["a"], paused_run: "one" }),
  told(HOUR + 100, "two", { type: "node_start", step: 2, node: "tools", task_id: "n2" }),
  told(HOUR + 200, "two", { type: "run_recovered", attempt: 2 }),
  told(HOUR + 300, "two", { type: "node_start", step: 2, node: "tools", task_id: "n2" }),
  told(HOUR + 500, "two", { type: "node_end", step: 2, node: "tools", task_id: "n2" }),
  told(HOUR + 600, "two", { type: "done", steps: 2 }),
];

const view = fold(EMPTY, LOG);
const picture = waterfall(view, chainOf(view, "two"), BEGIN + 2 * HOUR);

test("runs that go on from each other are one picture, with what happened in its order", () => {
  expect(picture.rows.map((row) => (row.kind === "span" ? row.span.name : row.kind))).toEqual([
    ...["run", "act", "wait"],
    ...["run", "tools", "crash", "tools"],
  ]);
  const [lost] = picture.rows.filter((row) => row.kind === "span" && row.span.status === "cut_off");
  expect(lost).toMatchObject({ seen: BEGIN + HOUR + 100, to: BEGIN + HOUR + 200 });
});

test("a wait is drawn short, and time goes to the right", () => {
  const wait = picture.stretches.find((each) => each.kind === "wait");
  expect(wait?.to).toBe(BEGIN + HOUR);
  expect((wait?.right ?? 1) - (wait?.left ?? 0)).toBeLessThan(0.15);
  const places = LOG.map((event) => placeAt(picture.stretches, millisecondsOf(event.ts)));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(places[0]).toBe(0);
  expect(places.at(-1)).toBe(1);
  for (const tick of ticksOf(picture.stretches, 8)) expect(tick.left).toBeLessThan(1);
});

test("steps of a scale are round, and times have their microseconds", () => {
  expect([0.3, 3, 12, 130, 700, 40_000, 3 * HOUR].map(roundStep)).toEqual([0.5, 5, 20, 200, 1000, 60_000, 4 * HOUR]);
  expect(millisecondsOf("2026-01-01T00:00:00.000250Z") - BEGIN).toBeCloseTo(0.25);
});
