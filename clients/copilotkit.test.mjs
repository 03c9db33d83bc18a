/**
 * CopilotKit's core, which its hooks for React are made of, with both kinds of agents that lead to
 * this server: AG-UI's `HttpAgent`, of the version that it brings, and the `LangGraphAgent` of
 * @ag-ui/langgraph. What is asked is answered as `useInterrupt` of @copilotkit/react-core 1.74.0
 * does it:
 *
 *   a run ends with the outcome "interrupt", or after the event `on_interrupt`
 *                       a card for each interrupt
 *   resolve, cancel     once each is answered: an answer that is made up for each call as a message
 *                       of a tool; runAgent({ runId: <that of the run that asked>, resume })
 *   resolve, after `on_interrupt`
 *                       runAgent({ runId, forwardedProps: { command: { resume, interruptEvent } } })
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { describe, test } from "node:test";

import { LangGraphAgent } from "@ag-ui/langgraph";
import { CopilotKitCore, ɵInterruptState as InterruptState } from "@copilotkit/core";
import { Client } from "@langchain/langgraph-sdk";

import { letGo, newAmount, page as pageOf, traces, until, url } from "./harness.mjs";

const { HttpAgent } = createRequire(import.meta.resolve("@copilotkit/core"))("@ag-ui/client");

const client = new Client({ apiUrl: url });

const KINDS = {
  HttpAgent: (graph) => new HttpAgent({ url: `${url}/agui/${graph}`, threadId: randomUUID() }),
  LangGraphAgent: (graphId) =>
    new LangGraphAgent({ deploymentUrl: url, graphId, threadId: randomUUID() }),
  "LangGraphAgent with outcomes": (graphId) =>
    new LangGraphAgent({
      deploymentUrl: url,
      graphId,
      threadId: randomUUID(),
      emitInterruptOutcome: true,
    }),
};

/** A page that shows the agent: `say`, and what `useInterrupt` gives. */
function shown(agent) {
  const core = new CopilotKitCore({ agents__unsafe_dev_only: { agent } });
  const state = new InterruptState();
  const told = [];
  const errors = [];
  let runId, asked, legacy;
  agent.subscribe({
    onEvent: ({ event }) => void told.push(event),
    onRunStartedEvent: () => state.clear(),
    onCustomEvent({ event }) {
      if (event.name === "on_interrupt") legacy = event;
    },
    onRunFinishedEvent(params) {
      if (params.outcome === "interrupt") asked = params.interrupts;
    },
    onRunFinalized({ input }) {
      runId = input.runId;
      if (asked?.length) state.setStandard(asked);
      else if (legacy) state.setLegacy(legacy);
      asked = legacy = undefined;
    },
  });
  core.subscribe({ onError: ({ error }) => void errors.push(error.message) });

  async function answered(decision) {
    if (decision.kind === "legacy-resume") {
      const command = { resume: decision.payload, interruptEvent: decision.interruptValue };
      await core.runAgent({ agent, runId, forwardedProps: { command } });
    } else if (decision.kind === "resume") {
      for (const { toolCallId, content } of decision.toolResults) {
        agent.addMessage({ id: randomUUID(), role: "tool", toolCallId, content });
      }
      await core.runAgent({ agent, resume: decision.resume, runId });
    }
    return decision.kind;
  }

  return {
    agent,
    told,
    errors,
    state,
    get interrupts() {
      return state.pending?.interrupts ?? [];
    },
    stop: () => core.stopAgent({ agent }),
    run: () => core.runAgent({ agent }),
    async say(words) {
      agent.addMessage({ id: randomUUID(), role: "user", content: words });
      await core.runAgent({ agent });
    },
    resolve: (payload, id) => answered(state.resolve(payload, id)),
    cancel: (id) => answered(state.cancel(id)),
  };
}

/** What stands in the request of LangGraph's form, wherever the page has it from. */
function requested({ pending }) {
  if (pending.kind === "legacy") return JSON.parse(pending.event.value).action_requests;
  return pending.interrupts.flatMap(
    ({ metadata }) => metadata.langgraph?.raw.action_requests ?? [metadata],
  );
}

const lastWords = (page) => page.agent.messages.at(-1).content;

/** Approval and rejection, as the agents take them. */
const worded = (kind, approved) => {
  if (kind === "HttpAgent") return { approved, ...(approved ? {} : { reason: "Too much." }) };
  return {
    decisions: [approved ? { type: "approve" } : { type: "reject", message: "Too much." }],
  };
};

for (const [kind, make] of Object.entries(KINDS)) {
  describe(kind, () => {
    for (const approved of [true, false]) {
      test(`a call is ${approved ? "approved" : "rejected"}`, async () => {
        const amount = newAmount();
        const page = shown(make("agent"));
        await page.say(`pay ${amount}`);
        assert.deepEqual(requested(page.state)[0].args, { amount });
        assert.equal(traces(`pay ${amount}`), 0);
        await page.resolve(worded(kind, approved));
        assert.deepEqual(page.errors, []);
        assert.match(lastWords(page), approved ? new RegExp(`paid ${amount}`) : /Too much\./);
        assert.equal(page.state.pending, null);
        assert.equal(traces(`pay ${amount}`), Number(approved));
      });
    }

    test("one turn follows another, and each word comes once", async () => {
      const page = shown(make("agent"));
      await page.say("tell 20");
      const words = [...Array(20).keys()].map((number) => `word${number}`).join(" ");
      assert.equal(lastWords(page), words);
      const pieces = page.told.filter((event) => event.type === "TEXT_MESSAGE_CONTENT");
      assert.equal(pieces.map((event) => event.delta).join(""), words);
      assert.ok(pieces.length > 3, `${pieces.length} pieces`);
      await page.say("hello");
      assert.equal(lastWords(page), "You said: hello");
      assert.deepEqual(
        page.agent.messages.map((message) => message.role),
        ["user", "assistant", "user", "assistant"],
      );
      assert.deepEqual(page.errors, []);
    });

    test("words instead of a decision are no consent", async () => {
      const amount = newAmount();
      const page = shown(make("agent"));
      await page.say(`pay ${amount}`);
      const { pending } = page.state;
      await page.say("Yes, do that.");
      // Its agents send no words where something is asked, and ask it again.
      assert.deepEqual(page.state.pending, pending);
      assert.equal(traces(`pay ${amount}`), 0);
      await page.resolve(worded(kind, true));
      assert.equal(traces(`pay ${amount}`), 1);
    });

    test("a run is stopped", async () => {
      const amount = newAmount();
      const page = shown(make("noted"));
      const run = page.say(`slow ${amount}`);
      await until(() => traces(`slow ${amount}`));
      page.stop();
      await run;
      const isCancelled = async () =>
        (await client.runs.list(page.agent.threadId))[0].status === "interrupted";
      await until(isCancelled);
      letGo(amount);
    });
  });
}

for (const [kind, make] of Object.entries(KINDS).filter(([kind]) => kind !== "LangGraphAgent")) {
  test(`${kind}: what is cancelled is rejected`, async () => {
    const amount = newAmount();
    const page = shown(make("agent"));
    await page.say(`pay ${amount}; pay ${newAmount()}`);
    for (const { id } of page.state.pending.interrupts) await page.cancel(id);
    assert.deepEqual(page.errors, []);
    assert.equal(page.state.pending, null);
    assert.equal(traces(`pay ${amount}`), 0);
    const [thread] = await client.threads.search({ ids: [page.agent.threadId] });
    assert.equal(thread.status, "idle");
  });

  test(`${kind}: of several questions each is answered`, async () => {
    const page = shown(make("asking"));
    await page.say("Which?; How many?");
    const [first, second] = page.state.pending.interrupts;
    assert.equal(await page.resolve("This one", first.id), "waiting");
    await page.resolve(2, second.id);
    assert.deepEqual(page.errors, []);
    const words = page.agent.messages.slice(-2).map((message) => message.content);
    assert.deepEqual(words.toSorted(), ["Answers: ['This one']", "Answers: [2]"]);
  });
}

test("LangGraphAgent: an answer is given anew", async () => {
  const amount = newAmount();
  const page = shown(KINDS.LangGraphAgent("agent"));
  // The page says what the model is to know, as CopilotKit does: no state has this message.
  page.agent.addMessage({ id: randomUUID(), role: "system", content: "Be brief." });
  await page.say("hello");
  await page.say(`look ${amount}`);
  const asked = page.agent.messages.findLast((message) => message.role === "user");
  const { messages } = page.agent;
  const before = messages.slice(0, messages.indexOf(asked) + 1);
  page.agent.setMessages([{ id: randomUUID(), role: "system", content: "Be brief." }, ...before]);
  await page.run();
  assert.deepEqual(page.errors, []);
  assert.equal(traces(`look ${amount}`), 2);
  const { values } = await client.threads.getState(page.agent.threadId);
  assert.deepEqual(
    values.messages.map((message) => message.type),
    ["human", "ai", "human", "ai", "tool", "ai"],
  );
  assert.equal(page.agent.messages.length, 6);
});

describe("the page's code", async () => {
  const code = await pageOf("use-from-copilotkit", [
    ["/agui/clerk", "/agui/agent"],
    ['graphId: "clerk"', 'graphId: "agent"'],
  ]);

  test("its HttpAgent asks, and each decision is made", async () => {
    const [paid, changed, kept] = [newAmount(), newAmount(), newAmount()];
    const page = shown(code.agents.clerk.clone());
    await page.say(`pay ${paid}; pay ${changed}; pay ${kept}`);
    const [first, second, third] = code.asked(page);
    assert.deepEqual([first.args, third.args], [{ amount: paid }, { amount: kept }]);
    assert.equal(first.message, `May pay be called with {"amount":${paid}}?`);
    assert.ok(first.allowed.includes("edit"));
    const others = newAmount();
    await code.approve(page, first.id);
    await code.edit(page, second.id, { amount: others });
    await code.reject(page, third.id, "Too much.");
    assert.deepEqual(page.errors, []);
    const counts = [paid, changed, others, kept].map((amount) => traces(`pay ${amount}`));
    assert.deepEqual(counts, [1, 0, 1, 0]);

    await page.say(`pay ${newAmount()}`);
    const later = shown(code.agents.clerk.clone());
    later.agent.threadId = page.agent.threadId;
    await later.run();
    assert.deepEqual(code.asked(later), code.asked(page));
    await code.reject(later, code.asked(later)[0].id, "No.");
    await code.approve(page, code.asked(page)[0].id);
    assert.match(page.errors[0], /it was rejected by/);
  });

  test("its LangGraphAgent asks, and decides", async () => {
    const amount = newAmount();
    const page = shown(code.agents.langgraph.clone());
    page.agent.threadId = randomUUID();
    await page.say(`pay ${amount}; pay ${amount}`);
    const [{ id, actions }] = code.requested(page);
    assert.deepEqual(actions.map((action) => action.args), [{ amount }, { amount }]);
    await code.decide(page, id, { type: "approve" }, { type: "reject" });
    assert.deepEqual(page.errors, []);
    assert.equal(traces(`pay ${amount}`), 1);
  });
});
