/** AG-UI's `HttpAgent`, which verifies the order of all that it is told, on `/agui/{agent}`. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { HttpAgent } from "@ag-ui/client";

import { newAmount, traces, url } from "./harness.mjs";

const talk = (agent = "agent") =>
  new HttpAgent({ url: `${url}/agui/${agent}`, threadId: randomUUID() });

/** The types of the events that the run is told in. */
async function run(agent, words, parameters = {}) {
  if (words) agent.addMessage({ id: randomUUID(), role: "user", content: words });
  const types = [];
  await agent.runAgent(parameters, { onEvent: ({ event }) => void types.push(event.type) });
  return types;
}

test("words and a tool's result are told in order", async () => {
  const agent = talk();
  const types = await run(agent, "look 3 then tell 5");
  assert.equal(types[0], "RUN_STARTED");
  assert.equal(types.at(-1), "RUN_FINISHED");
  assert.deepEqual(
    agent.messages.map((message) => message.role),
    ["user", "assistant", "tool", "assistant"],
  );
  assert.equal(agent.messages.at(-1).content, "word0 word1 word2 word3 word4");
  assert.deepEqual(agent.pendingInterrupts, []);
});

test("what a model thinks is told apart from what it says", async () => {
  const agent = talk("graph");
  const types = await run(agent, "tell 3");
  assert.deepEqual(
    types.filter((type) => type.startsWith("REASONING")),
    [
      "REASONING_START",
      "REASONING_MESSAGE_START",
      "REASONING_MESSAGE_CONTENT",
      "REASONING_MESSAGE_END",
      "REASONING_END",
    ],
  );
  assert.equal(types.filter((type) => type === "TEXT_MESSAGE_START").length, 1);
});

test("of two calls that are asked at once, one is approved and one cancelled", async () => {
  const [first, second] = [newAmount(), newAmount()];
  const agent = talk();
  await run(agent, `pay ${first}; pay ${second}`);
  const asked = agent.pendingInterrupts;
  assert.deepEqual(asked.map((each) => each.metadata.args.amount), [first, second]);
  assert.deepEqual([traces(`pay ${first}`), traces(`pay ${second}`)], [0, 0]);

  await run(agent, null, {
    resume: [
      { interruptId: asked[0].id, status: "resolved", payload: { approved: true } },
      { interruptId: asked[1].id, status: "cancelled" },
    ],
  });
  assert.deepEqual(agent.pendingInterrupts, []);
  assert.ok(agent.messages.at(-1).content.includes(`paid ${first}`));
  assert.deepEqual([traces(`pay ${first}`), traces(`pay ${second}`)], [1, 0]);
});

test("a call is edited", async () => {
  const [asked, paid] = [newAmount(), newAmount()];
  const agent = talk();
  await run(agent, `pay ${asked}`);
  const [{ id }] = agent.pendingInterrupts;
  const payload = { approved: true, editedArgs: { amount: paid } };
  await run(agent, null, { resume: [{ interruptId: id, status: "resolved", payload }] });
  assert.deepEqual([traces(`pay ${asked}`), traces(`pay ${paid}`)], [0, 1]);
});
