/** A server that is killed amid a stream: each client has heard all of it, once, as it counts. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Client as Client1 } from "@langchain/langgraph-sdk";
import { Client as Client2 } from "langgraph-sdk-2";

import { all, killed, newAmount, page, traces, until, url } from "./harness.mjs";
import { mounted } from "./react.mjs";

const MODES = ["values", "messages-tuple", "updates"];
const COUNT = 60;
const WORDS = [...Array(COUNT).keys()].map((number) => `word${number}`).join(" ");

const say = (content) => ({ messages: [{ role: "user", content }] });

/** What the pieces of messages make, those that were taken back left out. */
function written(parts) {
  const texts = new Map();
  for (const { event, data } of parts) {
    if (event !== "messages") continue;
    const [message] = data;
    if (message.type === "remove") texts.delete(message.id);
    else if (message.type === "AIMessageChunk") {
      texts.set(message.id, (texts.get(message.id) ?? "") + message.content);
    }
  }
  return [...texts.values()];
}

const states = (parts) => parts.filter(({ event }) => event === "values").map(({ data }) => data);

for (const [version, Client] of [["1", Client1], ["2", Client2]]) {
  describe(`version ${version} of LangGraph's SDK`, () => {
    const client = new Client({ apiUrl: url });

    test("a stream goes on", async () => {
      const { thread_id } = await client.threads.create();
      const input = say(`tell ${COUNT}`);
      const parts = [];
      const stream = client.runs.stream(thread_id, "slow_agent", { input, streamMode: MODES });
      let kill;
      for await (const part of stream) {
        parts.push(part);
        if (!kill && written(parts)[0]?.includes("word9")) kill = killed();
      }
      await kill;
      assert.deepEqual(written(parts), [WORDS]);
      assert.equal(states(parts).at(-1).messages.length, 2);
      const ids = parts.map((part) => part.id).filter(Boolean);
      assert.equal(new Set(ids).size, ids.length);
      assert.equal((await client.runs.list(thread_id)).length, 1);
    });

    test("a stream that is joined again goes on where it was", async () => {
      const { thread_id } = await client.threads.create();
      const { run_id } = await client.runs.create(thread_id, "slow_agent", {
        input: say(`tell ${COUNT}`),
        streamMode: MODES,
      });
      const options = { streamMode: MODES, lastEventId: "-1" };
      const before = [];
      for await (const part of client.runs.joinStream(thread_id, run_id, options)) {
        before.push(part);
        if (written(before)[0]?.includes("word9")) break;
      }
      await killed();
      const lastEventId = before.findLast((part) => part.id).id;
      const rest = await all(
        client.runs.joinStream(thread_id, run_id, { ...options, lastEventId }),
      );
      assert.deepEqual(written([...before, ...rest]), [WORDS]);
      const heard = new Set(before.map((part) => part.id).filter(Boolean));
      assert.deepEqual(rest.filter((part) => heard.has(part.id)), []);
      assert.equal(states(rest).at(-1).messages.length, 2);
    });
  });
}

describe("useStream", async () => {
  const { useAgent, say, asked, decide } = await page("use-from-usestream");

  test("goes on amid words, and a pause outlives the server", async () => {
    const shown = await mounted(() => useAgent("slow_agent"));
    const isAtRest = () => !shown.now.isLoading && !shown.now.isThreadLoading;
    // What was cut off stays as a message without words.
    const told = () => shown.now.messages.map((message) => message.text).filter(Boolean);
    const lastWords = () => told().at(-1);
    const said = say(shown.now, `tell ${COUNT}`);
    await until(() => lastWords()?.includes("word9"));
    await killed();
    await until(() => isAtRest() && lastWords() === WORDS, lastWords);
    await said;
    assert.deepEqual(told(), [`tell ${COUNT}`, WORDS]);

    const amount = newAmount();
    await say(shown.now, `pay ${amount}`);
    await until(() => isAtRest() && shown.now.interrupts.length);
    await killed();
    await decide(shown.now, { type: "approve" });
    await until(() => isAtRest() && lastWords()?.includes(`paid ${amount}`));
    assert.equal(asked(shown.now).length, 0);
    assert.equal(traces(`pay ${amount}`), 1);
  });
});
