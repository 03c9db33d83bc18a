import { EMPTY, fold, type Event, type EventOf } from "@assent/client";
import { expect, test } from "vitest";

import { decisionOf, toMessage } from "../src/index.ts";

const of = { ts: "2026-01-01T00:00:00Z", thread_id: "t", run_id: "r" };
const call = { tool: "pay", tool_call_id: "c" };

const written: Event[] = [
  { ...of, type: "run_start", seq: 1, agent: "clerk", message: "Pay." },
  { ...of, type: "token", seq: 2, message_id: "m", content: "I pay." },
  { ...of, type: "tool_call_delta", seq: 3, message_id: "m", ...call, args: '{"amount":' },
];

const asked: Event[] = [
  ...written,
  { ...of, type: "tool_call_delta", seq: 4, message_id: "m", args: "3}" },
  { ...of, type: "llm_end", seq: 5, message_id: "m" },
  required("tool", call, { amount: 3 }),
];

function required(
  kind: string,
  about: { tool?: string; tool_call_id?: string },
  args: unknown,
): EventOf<"approval_required"> {
  const allowed = ["approve", "edit", "reject"];
  const event = { ...of, ...about, seq: 6, approval_id: "a", kind, args, digest: "d", allowed };
  return { ...event, type: "approval_required" };
}

const ended = { ...of, ...call, seq: 7, approval_id: "a" };

/** The last message, as assistant-ui shows it. */
function last(events: readonly Event[]) {
  const message = fold(EMPTY, events).messages.at(-1);
  if (message === undefined) throw new Error("There is no message.");
  return toMessage(message);
}

test("a call is shown while its arguments are written", () => {
  const message = last(written);
  expect(message.status).toEqual({ type: "running" });
  expect(message.content).toMatchObject([
    { type: "text", text: "I pay." },
    { type: "tool-call", toolCallId: "c", argsText: '{"amount":' },
  ]);
});

test("a call that is asked has an approval without an answer", () => {
  const message = last(asked);
  expect(message.status).toEqual({ type: "requires-action", reason: "tool-calls" });
  expect(message.content).toMatchObject([
    {},
    { args: { amount: 3 }, approval: { id: "a" }, artifact: { approval: { digest: "d" } } },
  ]);
  expect(message.content[1]).not.toHaveProperty("approval.approved");
});

test("a decision is the approval's answer, and its reason", () => {
  const rejected: Event = {
    ...ended,
    type: "approval_decided",
    decision: "reject",
    by: "ann",
    message: "No.",
  };
  expect(last([...asked, rejected]).content[1]).toMatchObject({
    approval: { approved: false, reason: "No." },
  });
});

test.each([
  ["approval_expired", "expired"],
  ["approval_cancelled", "cancelled"],
  ["approval_superseded", "cancelled"],
] as const)("%s is no decision", (type, resolution) => {
  const content = last([...asked, { ...ended, type }]).content;
  expect(content[1]).toMatchObject({ approval: { id: "a", resolution } });
  expect(content[1]).not.toHaveProperty("approval.approved");
});

test("a question is a call of its own, which takes words", () => {
  const question = required("input", {}, { question: "Which?" });
  expect(last([...written, question]).content).toMatchObject([
    { type: "tool-call", toolName: "input", approval: { display: "text", prompt: "Which?" } },
  ]);
});

test("yes, no and words become the decisions that they are", () => {
  const { approvals } = fold(EMPTY, asked);
  const approval = approvals["a"];
  if (approval === undefined) throw new Error("There is no approval.");
  const yes = { approvalId: "a", approved: true };
  expect(decisionOf(approval, yes)).toEqual({ type: "approve" });
  expect(decisionOf(approval, { ...yes, approved: false, reason: "No." })).toEqual({
    type: "reject",
    message: "No.",
  });
  const question = { ...approval, kind: "input" as const };
  expect(decisionOf(question, { ...yes, text: "Red" })).toEqual({
    type: "respond",
    message: "Red",
  });
});
