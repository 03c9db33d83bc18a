/**
 * agent-inbox (github.com/langchain-ai/agent-inbox, read at f38301b). Its sources make these calls
 * of LangGraph's SDK, and each test makes them in its order:
 *
 *   add an inbox        GET /info
 *   the list            threads.search({ offset, limit, status, metadata: { graph_id } })
 *                       threads.getState, for a thread that lists no interrupts
 *   one thread          threads.get
 *   accept, edit, respond
 *                       runs.stream(…, { command: { resume: [answer] }, streamMode: "events" })
 *                       threads.get, and the list again
 *   ignore              runs.create(…, { command: { resume: [{ type: "ignore", args: null }] } })
 *   resolve             threads.updateState(…, { values: null, asNode: "__end__" })
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";

import { all, ask, newAmount, traces, until, url } from "./harness.mjs";

const client = new Client({ apiUrl: url });

/** A thread that asks, as it stands in the inbox. */
async function asked(graph, content) {
  const { thread_id } = await client.threads.create({ graphId: graph });
  const input = { messages: [{ role: "user", content }] };
  await all(client.runs.stream(thread_id, graph, { input }));
  return await found(graph, thread_id);
}

/** The thread in the list of those that wait for a person. */
async function found(graph, thread) {
  const threads = await client.threads.search({
    offset: 0,
    limit: 100,
    status: "interrupted",
    metadata: { graph_id: graph },
  });
  return threads.find((each) => each.thread_id === thread);
}

/** What the inbox reads of a HITLRequest: its first action, whose arguments are `arguments`. */
function request(thread) {
  const [[{ value }]] = Object.values(thread.interrupts);
  const [action] = value.action_requests;
  const allowed = value.review_configs[0].allowed_decisions;
  return { action: action.name, args: action.arguments ?? {}, allowed };
}

/** Let the run go on from this answer; the nodes that the inbox shows as those at work. */
async function answered(graph, thread, answer) {
  const chunks = await all(
    client.runs.stream(thread, graph, { command: { resume: [answer] }, streamMode: "events" }),
  );
  assert.deepEqual(chunks.filter((chunk) => chunk.event === "error"), []);
  return chunks
    .filter((chunk) => chunk.data?.event === "on_chain_start")
    .map((chunk) => chunk.data.metadata?.langgraph_node)
    .filter(Boolean);
}

const answers = {
  accept: [
    ({ action, args }) => ({ type: "accept", args: { action, args } }),
    (amount) => ({ paid: amount, words: `paid ${amount}` }),
  ],
  edit: [
    ({ action, args }) => ({
      type: "edit",
      args: { action, args: { ...args, amount: args.amount + 1 } },
    }),
    (amount) => ({ paid: amount + 1, words: `paid ${amount + 1}` }),
  ],
  response: [
    () => ({ type: "response", args: "Not today." }),
    () => ({ paid: null, words: "Not today." }),
  ],
};

test("it finds the server", async () => {
  const { status, body } = await ask("GET", "/info");
  assert.equal(status, 200);
  assert.equal(typeof body.flags, "object");
});

for (const [kind, [answer, outcome]] of Object.entries(answers)) {
  test(`it answers with ${kind}`, async () => {
    const amount = newAmount();
    newAmount();
    const listed = await asked("agent", `pay ${amount}`);
    const thread = await client.threads.get(listed.thread_id);
    assert.deepEqual(thread.interrupts, listed.interrupts);
    const read = request(thread);
    assert.deepEqual([read.action, read.args], ["pay", { amount }]);
    assert.ok(["approve", "edit", "reject"].every((each) => read.allowed.includes(each)));

    const nodes = await answered("agent", thread.thread_id, answer(read));
    const { paid, words } = outcome(amount);
    assert.ok(nodes.includes("agent"), nodes.join());
    assert.equal(nodes.includes("tools"), paid !== null);
    const after = await client.threads.get(thread.thread_id);
    assert.equal(after.status, "idle");
    assert.ok(after.values.messages.at(-1).content.includes(words));
    assert.equal(traces(`pay ${amount}`), Number(paid === amount));
    assert.equal(traces(`pay ${amount + 1}`), Number(paid === amount + 1));
    assert.equal(await found("agent", thread.thread_id), undefined);
  });
}

test("it ignores a request of its own form", async () => {
  const thread = await asked("inbox", "home");
  const [[{ value }]] = Object.values(thread.interrupts);
  assert.deepEqual(value[0].action_request, { action: "publish", args: { page: "home" } });
  const run = await client.runs.create(thread.thread_id, "inbox", {
    command: { resume: [{ type: "ignore", args: null }] },
  });
  await client.runs.join(thread.thread_id, run.run_id);
  const after = await client.threads.get(thread.thread_id);
  assert.equal(after.status, "idle");
  assert.ok(after.values.messages.at(-1).content.includes("ignore"));
});

test("it marks a thread as resolved, and nothing is done", async () => {
  const amount = newAmount();
  const { thread_id } = await asked("agent", `pay ${amount}`);
  const state = await client.threads.getState(thread_id);
  assert.notDeepEqual(state.tasks.at(-1).interrupts, []);
  await client.threads.updateState(thread_id, { values: null, asNode: "__end__" });
  await until(async () => (await client.threads.get(thread_id)).status === "idle");
  assert.equal(await found("agent", thread_id), undefined);
  assert.equal(traces(`pay ${amount}`), 0);
});
