import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

import { EMPTY, fold, type Event, type EventOf, type Message, type View } from "../src/index.ts";

const LOGS = new URL("./logs/", import.meta.url);

const logs: [string, Event[]][] = readdirSync(LOGS).map((name) => [
  name.replace(".json", ""),
  JSON.parse(readFileSync(new URL(name, LOGS), "utf8")),
]);

/** Numbers from 0 up to 1, the same for the same seed. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}

function inBatches(events: readonly Event[], random: () => number): View {
  let view = EMPTY;
  let at = 0;
  while (at < events.length) {
    const size = 1 + Math.floor(random() * 12);
    const from = Math.max(0, at - Math.floor(random() * 8));
    view = fold(view, events.slice(from, at + size));
    at += size;
  }
  return view;
}

const texts = (view: View) => view.messages.map(textOf);

function textOf(message: Message): string {
  switch (message.role) {
    case "person":
      return `person: ${message.text}`;
    case "agent":
      return `agent: ${message.parts
        .map((part) => {
          if (part.type === "call") return `${part.tool}(${JSON.stringify(part.args)}) ${part.status}`;
          return part.type === "media" ? part.media : part.text;
        })
        .join(" | ")}`;
    case "tool":
      return `tool: ${message.call.tool} ${message.call.status}`;
    case "approval":
      return `approval: ${message.approval.kind} ${message.approval.status}`;
    case "system":
      return `system: ${message.event.type}`;
  }
}

describe.each(logs)("the log %s", (name, events) => {
  test("is folded to what was said and done", () => {
    expect({ texts: texts(fold(EMPTY, events)) }).toMatchSnapshot(name);
  });

  test("gives the same in whatever batches it comes, with repeats", () => {
    const once = fold(EMPTY, events);
    for (let seed = 1; seed <= 40; seed += 1) {
      expect(inBatches(events, seeded(seed))).toEqual(once);
    }
  });

  test("can be folded on from any view of it, more than once", () => {
    const whole = fold(EMPTY, events);
    const half = fold(EMPTY, events.slice(0, events.length / 2));
    const rest = events.slice(events.length / 2);
    const before = structuredClone(half);
    expect(fold(half, rest)).toEqual(whole);
    expect(fold(half, rest)).toEqual(whole);
    expect(half).toEqual(before);
  });

  test("changes nothing when it is repeated", () => {
    const view = fold(EMPTY, events);
    expect(fold(view, events)).toBe(view);
  });
});

const at = "2026-01-01T00:00:00Z";
const of = { ts: at, thread_id: "t", run_id: "r" };

function started(message = "Hello"): EventOf<"run_start"> {
  return { ...of, type: "run_start", seq: 1, agent: "clerk", message };
}

function token(seq: number, message_id: string, content: string): EventOf<"token"> {
  return { ...of, type: "token", seq, message_id, content };
}

test("a message that did not change keeps its identity", () => {
  const before = fold(EMPTY, [started(), token(2, "a", "One")]);
  const after = fold(before, [token(3, "b", "Two")]);
  expect(after.messages[1]).toBe(before.messages[1]);
  expect(after.runs).toBe(before.runs);
  expect(after.approvals).toBe(before.approvals);
});

test("what a retried call of a model had written is taken back", () => {
  const error = { type: "Timeout", message: "" };
  const retry: Event = { ...of, type: "llm_retry", seq: 4, error, message_ids: ["a"] };
  const view = fold(EMPTY, [started(), token(2, "a", "Hal"), token(3, "a", "f"), retry]);
  expect(texts(fold(view, [token(5, "b", "Whole")]))).toEqual(["person: Hello", "agent: Whole"]);
});

test("what became of a call that was cut off is what a person says", () => {
  const call = { tool: "pay", tool_call_id: "c" };
  const about = { ...of, ...call, approval_id: "a", kind: "unknown_outcome" };
  const events: Event[] = [
    started(),
    { ...of, type: "tool_start", seq: 2, ...call, input: { amount: 3 } },
    { ...of, type: "tool_unknown", seq: 3, ...call },
    { ...about, type: "approval_required", seq: 4, allowed: ["approve", "respond", "reject"] },
  ];
  const asked = fold(EMPTY, events);
  expect(texts(asked)).toEqual(["person: Hello", "tool: pay unknown"]);
  expect(asked.pending).toHaveLength(1);
  const decided = { ...about, type: "approval_decided", seq: 5, by: "ann" } as const;
  const said = fold(asked, [{ ...decided, decision: "respond", message: "paid 3" }]);
  expect(texts(said)).toEqual(["person: Hello", "tool: pay done"]);
  const refused = fold(asked, [{ ...decided, decision: "reject" }]);
  expect(texts(refused)).toEqual(["person: Hello", "tool: pay denied"]);
});

test("what a gap hides the end of is neither at work nor waiting behind it", () => {
  const call = { tool: "pay", tool_call_id: "c" };
  const asked: Event = {
    ...of,
    type: "approval_required",
    seq: 4,
    approval_id: "a",
    kind: "input",
    allowed: ["respond"],
  };
  const open = fold(EMPTY, [
    started(),
    { ...of, type: "tool_start", seq: 2, ...call, input: {} },
    token(3, "m", "Half of it"),
    asked,
  ]);
  expect(open.active?.run_id).toBe("r");
  const later = { ...started("Later"), run_id: "later", seq: 20 };
  const view = fold(open, [{ type: "gap", first: 20 }, later]);
  expect(texts(view)).toEqual([
    "person: Hello",
    "tool: pay stopped",
    "agent: Half of it",
    "approval: input pending",
    "person: Later",
  ]);
  expect(view.gap).toBe(20);
  expect(view.pending).toEqual([]);
  expect(view.active?.run_id).toBe("later");
  expect(view.messages.filter((each) => each.role === "agent" && each.status === "writing")).toEqual([]);
});

test("10,000 events take less than 100 ms of a processor", () => {
  const events: Event[] = [started()];
  for (let seq = 2; seq <= 10_000; seq += 1) events.push(token(seq, `m${seq >> 4}`, "word "));
  const once = () => {
    const before = process.cpuUsage();
    const view = fold(EMPTY, events);
    const { user, system } = process.cpuUsage(before);
    expect(view.seq).toBe(10_000);
    return (user + system) / 1000;
  };
  expect(Math.min(...Array.from({ length: 5 }, once))).toBeLessThan(100);
});
