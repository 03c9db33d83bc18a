/**
 * LangGraph's SDK, in the two versions that are in use: runs that stream, ask, are decided, joined,
 * cut off, cancelled and gone back from.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Client as Client1 } from "@langchain/langgraph-sdk";
import { Client as Client2 } from "langgraph-sdk-2";

import { all, cutting, letGo, newAmount, traces, until, url } from "./harness.mjs";

const MODES = ["values", "messages-tuple", "updates"];

const say = (content) => ({ messages: [{ role: "user", content }] });

for (const [version, Client] of [["1", Client1], ["2", Client2]]) {
  describe(`version ${version}`, () => {
    const client = new Client({ apiUrl: url });

    /** A thread on which this has been said, and what came of it. */
    async function said(content, { agent = "agent", through = client } = {}) {
      const { thread_id } = await through.threads.create({ graphId: agent });
      const parts = await all(
        through.runs.stream(thread_id, agent, { input: say(content), streamMode: MODES }),
      );
      return { thread: thread_id, parts, asked: parts.at(-2)?.data.__interrupt__ };
    }

    const decided = async (thread, resume, agent = "agent") =>
      await all(client.runs.stream(thread, agent, { command: { resume }, streamMode: MODES }));

    const lastWords = (parts) =>
      parts.filter((part) => part.event === "values").at(-1).data.messages.at(-1).content;

    test("a run is streamed, and its pause shows what it asks", async () => {
      const amount = newAmount();
      const { thread, parts, asked } = await said(`pay ${amount}`);
      assert.equal(parts[0].event, "metadata");
      assert.equal(asked.length, 1);
      const [action] = asked[0].value.action_requests;
      assert.deepEqual([action.name, action.args], ["pay", { amount }]);
      const state = await client.threads.getState(thread);
      assert.deepEqual(state.tasks.flatMap((task) => task.interrupts), asked);
      assert.equal((await client.threads.get(thread)).status, "interrupted");
      assert.equal(traces(`pay ${amount}`), 0);
    });

    const APPROVE = { type: "approve" };
    const answers = {
      approve: [() => APPROVE, (amount) => [amount, `paid ${amount}`]],
      edit: [
        (amount) => ({ type: "edit", edited_action: { name: "pay", args: { amount: amount + 1 } } }),
        (amount) => [amount + 1, `paid ${amount + 1}`],
      ],
      reject: [() => ({ type: "reject", message: "Too much." }), () => [null, "Too much."]],
      respond: [() => ({ type: "respond", message: "It is paid." }), () => [null, "It is paid."]],
    };
    for (const agent of ["agent", "batched"]) {
      for (const [kind, [answer, outcome]] of Object.entries(answers)) {
        for (const by of ["id", "nothing"]) {
          test(`${agent} goes on with ${kind}, by ${by}`, async () => {
            const amount = newAmount();
            newAmount();
            const { thread, asked } = await said(`pay ${amount}`, { agent });
            const decisions = { decisions: [answer(amount)] };
            const resume = by === "id" ? { [asked[0].id]: decisions } : decisions;
            const parts = await decided(thread, resume, agent);
            const [paid, words] = outcome(amount);
            assert.ok(lastWords(parts).includes(words), lastWords(parts));
            assert.equal(traces(`pay ${amount}`), Number(paid === amount));
            assert.equal(traces(`pay ${amount + 1}`), Number(paid === amount + 1));
            assert.equal((await client.threads.get(thread)).status, "idle");
          });
        }
      }
    }

    test("of two deciders one wins, and the other is told who did", async () => {
      const amount = newAmount();
      const { thread } = await said(`pay ${amount}`);
      const decisions = [
        { decisions: [APPROVE] },
        { decisions: [{ type: "reject", message: "No." }] },
      ];
      const both = await Promise.allSettled(decisions.map((each) => decided(thread, each)));
      const lost = both.filter((each) => each.status === "rejected");
      assert.equal(lost.length, 1);
      assert.equal(lost[0].reason.status, 409);
      await client.runs.join(thread, (await client.runs.list(thread))[0].run_id);
      assert.ok(traces(`pay ${amount}`) <= 1);
    });

    test("wait gives the values, with what is asked", async () => {
      const amount = newAmount();
      const { thread_id } = await client.threads.create();
      const paused = await client.runs.wait(thread_id, "agent", { input: say(`pay ${amount}`) });
      assert.equal(paused.__interrupt__[0].value.action_requests[0].name, "pay");
      const values = await client.runs.wait(thread_id, "agent", {
        command: { resume: { decisions: [APPROVE] } },
      });
      assert.ok(values.messages.at(-1).content.includes(`paid ${amount}`));
      assert.equal(values.__interrupt__, undefined);
    });

    test("who joins late gets all of it", async () => {
      const { thread_id } = await client.threads.create();
      const run = await client.runs.create(thread_id, "agent", {
        input: say("tell 20"),
        streamMode: MODES,
      });
      await client.runs.join(thread_id, run.run_id);
      assert.equal((await client.runs.get(thread_id, run.run_id)).status, "success");
      const parts = await all(
        client.runs.joinStream(thread_id, run.run_id, { lastEventId: "-1", streamMode: MODES }),
      );
      assert.ok(lastWords(parts).endsWith("word19"));
    });

    test("a run is cancelled", async () => {
      const amount = newAmount();
      const { thread_id } = await client.threads.create();
      const run = await client.runs.create(thread_id, "noted", { input: say(`slow ${amount}`) });
      await until(() => traces(`slow ${amount}`));
      await client.runs.cancel(thread_id, run.run_id, true);
      assert.equal((await client.runs.get(thread_id, run.run_id)).status, "interrupted");
      letGo(amount);
    });

    describe("a run that comes while another is at work", () => {
      /** A thread at work on something, and what the client does meanwhile. */
      async function busy() {
        const amount = newAmount();
        const { thread_id } = await client.threads.create();
        const input = say(`slow ${amount}`);
        const run = await client.runs.create(thread_id, "noted", { input });
        await until(() => traces(`slow ${amount}`));
        const second = (multitaskStrategy) =>
          client.runs.create(thread_id, "noted", { input: say("hello"), multitaskStrategy });
        return { thread_id, run, second, goOn: () => letGo(amount), first: `slow ${amount}` };
      }

      const statusOf = async (thread, run) => (await client.runs.get(thread, run.run_id)).status;

      const humans = async (thread) =>
        (await client.threads.getState(thread)).values.messages
          .filter((message) => message.type === "human")
          .map((message) => message.content);

      test("is refused", async () => {
        const { thread_id, run, second, goOn, first } = await busy();
        await assert.rejects(second("reject"), (error) => error.status === 409);
        goOn();
        await client.runs.join(thread_id, run.run_id);
        assert.deepEqual(await humans(thread_id), [first]);
        assert.equal((await client.runs.list(thread_id)).length, 1);
      });

      test("waits its turn", async () => {
        const { thread_id, run, second, goOn, first } = await busy();
        const queued = await second("enqueue");
        assert.equal(await statusOf(thread_id, queued), "pending");
        goOn();
        await client.runs.join(thread_id, queued.run_id);
        assert.equal(await statusOf(thread_id, run), "success");
        assert.deepEqual(await humans(thread_id), [first, "hello"]);
      });

      test("interrupts it", async () => {
        const { thread_id, run, second, goOn, first } = await busy();
        const next = await second("interrupt");
        await client.runs.join(thread_id, next.run_id);
        assert.equal(await statusOf(thread_id, run), "interrupted");
        assert.equal(await statusOf(thread_id, next), "success");
        assert.deepEqual(await humans(thread_id), [first, "hello"]);
        goOn();
      });

      test("undoes it", async () => {
        const { thread_id, second, goOn } = await busy();
        const next = await second("rollback");
        await client.runs.join(thread_id, next.run_id);
        assert.equal(await statusOf(thread_id, next), "success");
        assert.deepEqual(await humans(thread_id), ["hello"]);
        goOn();
      });
    });

    test("two cuts lose nothing", async () => {
      const proxy = await cutting(3_000, 4_000);
      const through = new Client({ apiUrl: proxy.url });
      const { parts } = await said("tell 40", { agent: "slow_agent", through });
      assert.equal(proxy.cuts(), 2);
      const told = parts
        .filter((part) => part.event === "messages")
        .map((part) => part.data[0])
        .filter((message) => message.type === "AIMessageChunk")
        .map((message) => message.content)
        .join("");
      const words = [...Array(40).keys()].map((number) => `word${number}`).join(" ");
      assert.equal(told, words);
      assert.equal(lastWords(parts), words);
    });

    test("an assistant has settings of its own, and versions to go back to", async () => {
      const made = await client.assistants.create({
        graphId: "agent",
        name: "Mine",
        config: { tags: ["first"] },
        metadata: { sdk: version },
      });
      const id = made.assistant_id;
      const changed = await client.assistants.update(id, { config: { tags: ["second"] } });
      assert.equal(changed.version, 2);
      const amount = newAmount();
      const { thread_id } = await client.threads.create();
      await client.runs.wait(thread_id, id, { input: say(`pay ${amount}`) });
      const [run] = await client.runs.list(thread_id);
      assert.equal(run.assistant_id, id);
      assert.equal(run.metadata.sdk, version);
      assert.deepEqual(run.kwargs.config.tags, ["second"]);
      const found = await client.threads.search({ metadata: { assistant_id: id } });
      assert.deepEqual(found.map((thread) => thread.thread_id), [thread_id]);

      await client.assistants.setLatest(id, 1);
      const versions = await client.assistants.getVersions(id);
      assert.deepEqual(versions.map((each) => each.version), [2, 1]);
      assert.deepEqual((await client.assistants.get(id)).config, { tags: ["first"] });
      assert.equal((await client.assistants.search({ metadata: { sdk: version } })).length, 1);
      await client.assistants.delete(id);
      await assert.rejects(client.assistants.get(id), /404/);
      // What was asked is decided all the same.
      await decided(thread_id, { decisions: [APPROVE] }, id);
      assert.equal(traces(`pay ${amount}`), 1);
    });

    test("a thread has a history, from which another branch goes", async () => {
      const { thread_id } = await client.threads.create();
      for (const words of ["hello", "again"]) {
        await client.runs.wait(thread_id, "agent", { input: say(words) });
      }
      const history = await client.threads.getHistory(thread_id);
      const [head] = history;
      assert.equal(head.values.messages.length, 4);
      const before = history.find((state) => state.values.messages?.length === 2);
      const values = await client.runs.wait(thread_id, "agent", {
        input: say("otherwise"),
        checkpoint: { ...before.checkpoint, thread_id: undefined },
      });
      assert.deepEqual(
        values.messages.map((message) => message.content),
        ["hello", "You said: hello", "otherwise", "You said: otherwise"],
      );
      const now = await client.threads.getHistory(thread_id);
      assert.ok(now.length > history.length);
    });
  });
}
