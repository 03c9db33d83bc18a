/**
 * `useStream` of @langchain/react, over the thread protocol, and that of LangGraph's SDK, as
 * `docs/how-to/use-from-usestream.md` says.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";

import { ask, letGo, newAmount, page, traces, until, url } from "./harness.mjs";
import { mounted } from "./react.mjs";

const client = new Client({ apiUrl: url });

const code = await page("use-from-usestream");
const { asked, decide, say } = code;

const open = (agent, thread = null) => mounted(() => code.useAgent(agent, thread));
const openOlder = (agent, thread = null) => mounted(() => code.useOlderAgent(agent, thread));

const isAtRest = (now) => !now.isLoading && !now.isThreadLoading;

const lastWords = ({ messages }) => {
  const last = messages.at(-1);
  return (last?.type ?? last?.getType?.()) === "ai" ? (last.text ?? last.content) : undefined;
};

const words = (count) => [...Array(count).keys()].map((number) => `word${number}`).join(" ");

/** A page that waits for a person. */
async function paused(agent, content) {
  const shown = await open(agent);
  await say(shown.now, content);
  await shown.until((now) => isAtRest(now) && now.interrupts.length > 0);
  return shown;
}

const answers = {
  approve: [() => ({ type: "approve" }), (amount) => [amount, `paid ${amount}`]],
  edit: [
    (amount) => ({ type: "edit", edited_action: { name: "pay", args: { amount: amount + 1 } } }),
    (amount) => [amount + 1, `paid ${amount + 1}`],
  ],
  reject: [() => ({ type: "reject", message: "Too much." }), () => [null, "Too much."]],
  respond: [() => ({ type: "respond", message: "It is paid." }), () => [null, "It is paid."]],
};

for (const agent of ["agent", "batched"]) {
  describe(agent, () => {
    for (const [kind, [answer, outcome]] of Object.entries(answers)) {
      test(`a page that is loaded on a pause shows it, and goes on with ${kind}`, async () => {
        const amount = newAmount();
        newAmount();
        const before = await paused(agent, `pay ${amount}`);
        before.unmount();

        const shown = await open(agent, before.now.threadId);
        await shown.until((now) => isAtRest(now) && now.interrupts.length > 0);
        const [action] = asked(shown.now);
        assert.deepEqual([action.name, action.args], ["pay", { amount }]);
        assert.ok(action.allowed.includes(kind));
        await decide(shown.now, answer(amount));
        const [paid, told] = outcome(amount);
        const isTold = (now) => isAtRest(now) && lastWords(now)?.includes(told);
        // Words and questions come in channels of their own.
        await shown.until((now) => isTold(now) && now.interrupts.length === 0);
        assert.equal(shown.now.messages.length, 4);
        assert.equal(traces(`pay ${amount}`), Number(paid === amount));
        assert.equal(traces(`pay ${amount + 1}`), Number(paid === amount + 1));
      });
    }

    test("of two calls that are asked at once, one is approved", async () => {
      const [first, second] = [newAmount(), newAmount()];
      const shown = await paused(agent, `pay ${first}; pay ${second}`);
      assert.equal(asked(shown.now).length, 2);
      await decide(shown.now, { type: "approve" }, { type: "reject", message: "Too much." });
      await shown.until((now) => isAtRest(now) && lastWords(now)?.includes(`paid ${first}`));
      assert.deepEqual([traces(`pay ${first}`), traces(`pay ${second}`)], [1, 0]);
    });

    test("words instead of a decision are no consent", async () => {
      const amount = newAmount();
      const shown = await paused(agent, `pay ${amount}`);
      await say(shown.now, "What for?");
      await shown.until((now) => isAtRest(now) && lastWords(now) === "You said: What for?");
      // The page itself may show the question on: a look at the thread's state that the hook began
      // before it was dropped, and that is answered after, brings it back there.
      const waiting = await ask("GET", "/approvals?status=pending&limit=100");
      const isAsked = ({ args }) => args.amount === amount;
      assert.equal(waiting.body.approvals.some(isAsked), false);
      assert.equal(traces(`pay ${amount}`), 0);
    });
  });
}

test("words come piece by piece, and each once", async () => {
  const shown = await open("slow_agent");
  const told = new Set();
  const said = say(shown.now, "tell 30");
  await until(() => {
    const now = lastWords(shown.now) ?? "";
    assert.ok(words(30).startsWith(now), now);
    told.add(now);
    return isAtRest(shown.now) && now === words(30);
  });
  await said;
  assert.ok(told.size > 3, [...told].join("\n"));
  assert.equal(shown.now.messages.length, 2);
});

test("a page that is loaded amid a run takes it up", async () => {
  const amount = newAmount();
  const before = await open("noted");
  say(before.now, `slow ${amount} then tell 20`);
  await until(() => traces(`slow ${amount}`));
  await before.until((now) => now.threadId);
  before.unmount();

  const shown = await open("noted", before.now.threadId);
  await shown.until((now) => now.isLoading && now.messages.length === 2);
  letGo(amount);
  await shown.until((now) => isAtRest(now) && lastWords(now) === words(20));
  assert.equal(shown.now.messages.length, 4);
  assert.equal((await client.runs.list(shown.now.threadId)).length, 1);
  assert.equal(traces(`slow ${amount}`), 1);
});

test("of two pages one decides, and the other is told who did", async () => {
  const amount = newAmount();
  const first = await paused("agent", `pay ${amount}`);
  const other = await open("agent", first.now.threadId);
  await other.until((now) => isAtRest(now) && now.interrupts.length > 0);
  const late = { ...other.now };
  await decide(first.now, { type: "approve" });
  await first.until((now) => isAtRest(now) && lastWords(now)?.includes(`paid ${amount}`));
  await assert.rejects(decide(late, { type: "reject" }), /approved by/);
  await other.until((now) => isAtRest(now) && lastWords(now)?.includes(`paid ${amount}`));
  assert.equal(traces(`pay ${amount}`), 1);
});

test("of several questions each is answered", async () => {
  const shown = await paused("asking", "Which?; How many?");
  const [first, second] = shown.now.interrupts;
  await shown.now.respondAll({ [first.id]: "This one", [second.id]: 2 });
  await shown.until((now) => isAtRest(now) && now.messages.length === 3);
  const told = shown.now.messages.slice(1).map((message) => message.text);
  assert.deepEqual(told.toSorted(), ["Answers: ['This one']", "Answers: [2]"]);
});

test("a run is stopped", async () => {
  const amount = newAmount();
  const shown = await open("noted");
  say(shown.now, `slow ${amount}`);
  await until(() => traces(`slow ${amount}`));
  await shown.now.stop();
  await until(async () => (await client.runs.list(shown.now.threadId))[0].status === "interrupted");
  await shown.until(isAtRest);
  letGo(amount);
});

test("the older hook is asked, also in another page, and decides", async () => {
  const amount = newAmount();
  const before = await openOlder("agent");
  await say(before.now, `pay ${amount}`);
  await before.until((now) => isAtRest(now) && now.interrupt);
  before.unmount();

  const asking = await client.threads.search({ status: "interrupted", limit: 100 });
  const { thread_id } = asking.find(({ values }) => JSON.stringify(values).includes(`${amount}`));
  const shown = await openOlder("agent", thread_id);
  await shown.until((now) => isAtRest(now) && now.interrupt);
  assert.deepEqual(shown.now.interrupt.value.action_requests[0].args, { amount });
  await code.decideByCommand(shown.now, { type: "approve" });
  await shown.until((now) => isAtRest(now) && lastWords(now)?.includes(`paid ${amount}`));
  assert.equal(traces(`pay ${amount}`), 1);
});
