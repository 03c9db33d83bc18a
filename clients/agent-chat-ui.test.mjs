/**
 * agent-chat-ui (github.com/langchain-ai/agent-chat-ui, read at fdc87e6) and the `useStream` that it
 * is made of. Its sources make these calls, and the tests make them in its order, in a page of
 * React:
 *
 *   start               GET /info
 *                       useStream({ apiUrl, assistantId, threadId, fetchStateHistory: true,
 *                                   onThreadId })
 *   the list            threads.search({ metadata: { graph_id }, limit: 100 })
 *   send                submit({ messages: [...made up answers of open calls, words] },
 *                              { streamMode: ["values"], streamSubgraphs, streamResumable,
 *                                optimisticValues })
 *   approve, edit, reject
 *                       submit({}, { command: { resume: { decisions } } })
 *   mark as resolved    submit({}, { command: { goto: "__end__" } })
 *   edit a message      submit({ messages: [words] }, { checkpoint, streamMode, … })
 *   regenerate          submit(undefined, { checkpoint, streamMode, … })
 *   another branch      setBranch(branch), from getMessagesMetadata(message)
 *   cancel              stop(), which leaves the run to go on where it is resumable, as here
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";

import { ask, letGo, newAmount, traces, until, url } from "./harness.mjs";
import { mounted } from "./react.mjs";

const { useState } = await import("react");
const { useStream } = await import("@langchain/langgraph-sdk/react");

const client = new Client({ apiUrl: url });
const STREAMED = { streamMode: ["values"], streamSubgraphs: true, streamResumable: true };

/** The chat, on a new thread or on one that is there. */
async function chat(assistantId, threadId = null, options = {}) {
  return await mounted(() => {
    const [thread, onThreadId] = useState(threadId);
    const stream = useStream({
      apiUrl: url,
      assistantId,
      threadId: thread,
      fetchStateHistory: true,
      onThreadId,
      ...options,
    });
    return Object.defineProperty(Object.create(stream), "thread", { value: thread });
  });
}

const human = (words) => ({
  id: randomUUID(),
  type: "human",
  content: [{ type: "text", text: words }],
});

/** Answers that the chat makes up for calls without any, as somebody types instead of deciding. */
const madeUp = (messages) =>
  messages.flatMap((message, place) =>
    message.type !== "ai" || messages[place + 1]?.type === "tool"
      ? []
      : (message.tool_calls ?? []).map((call) => ({
          type: "tool",
          tool_call_id: call.id,
          id: `do-not-render-${randomUUID()}`,
          name: call.name,
          content: "Successfully handled tool call.",
        })),
  );

async function said(page, words) {
  const message = human(words);
  const messages = [...madeUp(page.now.messages), message];
  await page.now.submit(
    { messages, context: undefined },
    {
      ...STREAMED,
      optimisticValues: (before) => ({
        ...before,
        messages: [...(before.messages ?? []), ...messages],
      }),
    },
  );
  return message;
}

const decided = (page, decision) =>
  page.now.submit({}, { command: { resume: { decisions: [decision] } } });

const lastWords = ({ messages }) => {
  const last = messages.at(-1);
  return last?.type === "ai" ? last.content : undefined;
};

const isAtRest = (now) => !now.isLoading && !now.isThreadLoading;

test("it finds the server, and lists the threads of its agent", async () => {
  assert.equal((await ask("GET", "/info")).status, 200);
  const page = await chat("agent");
  await said(page, "hello");
  await page.until((now) => isAtRest(now) && lastWords(now) === "You said: hello");
  const threads = await client.threads.search({ metadata: { graph_id: "agent" }, limit: 100 });
  assert.ok(threads.some((thread) => thread.thread_id === page.now.thread));
});

for (const agent of ["agent", "batched"]) {
  describe(agent, () => {
    /** A chat that has come to a pause. */
    async function paused(amount) {
      const page = await chat(agent);
      await said(page, `pay ${amount}`);
      await page.until((now) => isAtRest(now) && now.interrupt);
      return page;
    }

    const answers = {
      approve: [() => ({ type: "approve" }), (amount) => `paid ${amount}`],
      edit: [
        (amount) => ({ type: "edit", edited_action: { name: "pay", args: { amount: amount + 1 } } }),
        (amount) => `paid ${amount + 1}`,
      ],
      reject: [() => ({ type: "reject", message: "Too much." }), () => "Too much."],
    };
    for (const [kind, [answer, words]] of Object.entries(answers)) {
      test(`a page that is loaded on a pause shows it, and goes on with ${kind}`, async () => {
        const amount = newAmount();
        newAmount();
        const before = await paused(amount);
        before.unmount();

        const page = await chat(agent, before.now.thread);
        await page.until((now) => isAtRest(now) && now.interrupt);
        const { action_requests, review_configs } = page.now.interrupt.value;
        assert.deepEqual(action_requests[0].args, { amount });
        assert.equal(review_configs[0].action_name, "pay");
        await decided(page, answer(amount));
        await page.until((now) => isAtRest(now) && lastWords(now)?.includes(words(amount)));
        assert.equal(page.now.interrupt, undefined);
        assert.equal(traces(`pay ${amount}`), Number(kind === "approve"));
        assert.equal(traces(`pay ${amount + 1}`), Number(kind === "edit"));
      });
    }

    test("words instead of a decision are no consent", async () => {
      const amount = newAmount();
      const page = await paused(amount);
      await said(page, "What for?");
      await page.until((now) => isAtRest(now) && lastWords(now) === "You said: What for?");
      assert.equal(page.now.interrupt, undefined);
      assert.equal(traces(`pay ${amount}`), 0);
      const kept = (await client.threads.getState(page.now.thread)).values.messages;
      assert.ok(!JSON.stringify(kept).includes("Successfully handled tool call."));
    });

    test("a thread that is marked as resolved asks nothing any more", async () => {
      const amount = newAmount();
      const page = await paused(amount);
      await page.now.submit({}, { command: { goto: "__end__" } });
      await until(async () => (await client.threads.get(page.now.thread)).status === "idle");
      assert.equal(traces(`pay ${amount}`), 0);
    });

    test("a message that is edited begins a branch beside the first", async () => {
      const page = await chat(agent);
      const message = await said(page, "hello");
      await page.until((now) => isAtRest(now) && lastWords(now) === "You said: hello");

      const checkpoint = () =>
        page.now.getMessagesMetadata(message)?.firstSeenState?.parent_checkpoint;
      await page.until(checkpoint);
      const edited = human("goodbye");
      await page.now.submit(
        { messages: [edited] },
        {
          checkpoint: checkpoint(),
          ...STREAMED,
          optimisticValues: (before) => ({ ...before, messages: [edited] }),
        },
      );
      await page.until((now) => isAtRest(now) && lastWords(now) === "You said: goodbye");
      const shown = page.now.getMessagesMetadata(page.now.messages[0]);
      assert.equal(shown.branchOptions.length, 2);
      page.now.setBranch(shown.branchOptions[0]);
      await page.until((now) => lastWords(now) === "You said: hello");
    });

    test("an answer is given anew", async () => {
      const page = await chat(agent);
      await said(page, "hello");
      await page.until((now) => isAtRest(now) && lastWords(now) === "You said: hello");
      const first = page.now.messages.at(-1);
      const { firstSeenState } = page.now.getMessagesMetadata(first);
      await page.now.submit(undefined, {
        checkpoint: firstSeenState.parent_checkpoint,
        ...STREAMED,
      });
      await page.until((now) => isAtRest(now) && now.messages.at(-1).id !== first.id);
      assert.equal(lastWords(page.now), "You said: hello");
      assert.equal(page.now.messages.length, 2);
    });
  });
}

test("a run is stopped with its page", async () => {
  const amount = newAmount();
  const page = await chat("noted");
  page.now.submit({ messages: [human(`slow ${amount}`)] });
  await until(() => traces(`slow ${amount}`));
  await page.now.stop();
  await until(async () => (await client.runs.list(page.now.thread))[0].status === "interrupted");
  letGo(amount);
});

test("a page that is loaded amid a run takes it up again", async () => {
  const before = await chat("slow_agent", null, { reconnectOnMount: true });
  said(before, "tell 100");
  await before.until((now) => now.thread && now.messages.length > 1);
  await until(async () => window.sessionStorage.getItem(`lg:stream:${before.now.thread}`));
  before.unmount();

  const page = await chat("slow_agent", before.now.thread, { reconnectOnMount: true });
  await page.until((now) => isAtRest(now) && lastWords(now)?.endsWith("word99"));
});
