/** assistant-ui's LangGraph runtime, made and used as `docs/how-to/use-from-assistant-ui.md` says. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";

import { letGo, newAmount, page, traces, until, url } from "./harness.mjs";
import { mounted } from "./react.mjs";

const { createElement } = await import("react");
const { AssistantRuntimeProvider } = await import("@assistant-ui/react");

const client = new Client({ apiUrl: url });

/** The page's code, for one of the agents. */
const pageFor = (agent) => page("use-from-assistant-ui", [['"clerk"', JSON.stringify(agent)]]);

/** A page of React that shows a thread: its runtime and what it asks. */
async function opened({ useAgent, useApproval }, threadId) {
  let runtime;
  const around = ({ children }) => {
    // It warns of events that it leaves out, as of LangGraph's own.
    runtime = useAgent({ threadId, eventHandlers: { onCustomEvent: () => {} } });
    return createElement(AssistantRuntimeProvider, { runtime }, children);
  };
  const shown = await mounted(() => useApproval(), around);
  const thread = () => runtime.thread.getState();
  const isAtRest = () => !thread().isRunning && !thread().isLoading;
  return Object.assign(shown, {
    thread,
    isAtRest,
    say: (words) => runtime.thread.append(words),
    regenerate: () => runtime.thread.startRun({ parentId: thread().messages.at(-2).id }),
    edit: (message, words) =>
      runtime.thread.append({
        parentId: message.parentId,
        sourceId: message.id,
        role: "user",
        content: [{ type: "text", text: words }],
      }),
    cancel: () => runtime.thread.cancelRun(),
    id: () => runtime.threads.mainItem.getState().externalId,
    comesTo: (check) => until(() => isAtRest() && check(), check),
  });
}

/** What the last message says, with the parts that are no text left out. */
function lastWords({ messages }) {
  const last = messages.at(-1);
  if (last?.role !== "assistant") return undefined;
  return last.content.map((part) => (part.type === "text" ? part.text : "")).join("");
}

for (const agent of ["agent", "batched"]) {
  describe(agent, async () => {
    const code = await pageFor(agent);

    /** A page whose agent waits for a person. */
    async function paused(amount) {
      const shown = await opened(code);
      shown.say(`pay ${amount}`);
      await shown.comesTo(() => shown.now);
      return shown;
    }

    const answers = {
      approve: [() => ({ type: "approve" }), (amount) => [amount, `paid ${amount}`]],
      edit: [
        (amount) => ({ type: "edit", edited_action: { name: "pay", args: { amount: amount + 1 } } }),
        (amount) => [amount + 1, `paid ${amount + 1}`],
      ],
      reject: [() => ({ type: "reject", message: "Too much." }), () => [null, "Too much."]],
    };
    for (const [kind, [answer, outcome]] of Object.entries(answers)) {
      test(`what it asks is shown, also in another page, and goes on with ${kind}`, async () => {
        const amount = newAmount();
        newAmount();
        const before = await paused(amount);
        const asked = before.now.actions;
        before.unmount();

        const shown = await opened(code, before.id());
        await shown.comesTo(() => shown.now);
        assert.deepEqual(shown.now.actions, asked);
        assert.deepEqual([asked[0].name, asked[0].args], ["pay", { amount }]);
        assert.equal(shown.thread().messages[0].content[0].text, `pay ${amount}`);
        await shown.now.decide(answer(amount));
        const [paid, words] = outcome(amount);
        await shown.comesTo(() => lastWords(shown.thread())?.includes(words));
        assert.equal(shown.now, null);
        assert.equal(traces(`pay ${amount}`), Number(paid === amount));
        assert.equal(traces(`pay ${amount + 1}`), Number(paid === amount + 1));
      });
    }

    test("of two pages one decides, and the other is told who did", async () => {
      const amount = newAmount();
      const first = await paused(amount);
      const other = await opened(code, first.id());
      await other.comesTo(() => other.now);
      await first.now.decide({ type: "approve" });
      await assert.rejects(other.now.decide({ type: "reject" }), /approved by/);
      assert.equal(traces(`pay ${amount}`), 1);
    });

    test("words instead of a decision are no consent", async () => {
      const amount = newAmount();
      const shown = await paused(amount);
      shown.say("What for?");
      await shown.comesTo(() => lastWords(shown.thread()) === "You said: What for?");
      assert.equal(shown.now, null);
      assert.equal(traces(`pay ${amount}`), 0);
      const { values } = await client.threads.getState(shown.id());
      assert.ok(!JSON.stringify(values).includes("cancelled"), JSON.stringify(values.messages));
    });
  });
}

describe("slow_agent", async () => {
  const code = await pageFor("slow_agent");

  test("words come piece by piece, and each once", async () => {
    const shown = await opened(code);
    shown.say("tell 20");
    const seen = new Set();
    const words = [...Array(20).keys()].map((number) => `word${number}`).join(" ");
    await until(() => {
      const told = lastWords(shown.thread()) ?? "";
      assert.ok(words.startsWith(told), told);
      seen.add(told);
      return shown.isAtRest() && told === words;
    });
    assert.ok(seen.size > 3, [...seen].join("\n"));
    assert.equal(shown.thread().messages.length, 2);
  });
});

describe("noted", async () => {
  const code = await pageFor("noted");

  test("a run is cancelled", async () => {
    const amount = newAmount();
    const shown = await opened(code);
    shown.say(`slow ${amount}`);
    await until(() => traces(`slow ${amount}`));
    shown.cancel();
    await until(async () => (await client.runs.list(shown.id()))[0].status === "interrupted");
    await shown.comesTo(() => true);
    letGo(amount);
  });

  test("an answer is given anew, and a message changed", async () => {
    const shown = await opened(code);
    shown.say("hello");
    await shown.comesTo(() => lastWords(shown.thread()) === "You said: hello");
    const first = shown.thread().messages.at(-1).id;
    shown.regenerate();
    await shown.comesTo(() => shown.thread().messages.at(-1).id !== first);
    await shown.comesTo(() => lastWords(shown.thread()) === "You said: hello");
    shown.edit({ parentId: null, id: shown.thread().messages[0].id }, "goodbye");
    await shown.comesTo(() => lastWords(shown.thread()) === "You said: goodbye");
    const { values } = await client.threads.getState(shown.id());
    assert.deepEqual(
      values.messages.map((message) => [message.content].flat()[0].text ?? message.content),
      ["goodbye", "You said: goodbye"],
    );
  });
});
