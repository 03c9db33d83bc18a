/** Following on a real server, over connections that break. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EMPTY, fold, type Heard, type LinkState, NotFound, type View } from "../../src/index.ts";
import { asked, client, hasty, killed, numbers, until, url } from "./harness.ts";

const assent = client();
const WORDS = 60;
const words = Array.from({ length: WORDS }, (_, number) => `word${number}`).join(" ");

/** The first `count` numbers. */
const counted = (count: number) => Array.from({ length: count }, (_, number) => number + 1);

function spoken(view: View): string[] {
  return view.messages.flatMap((message) => {
    if (message.role !== "agent") return [];
    return message.parts.flatMap((part) => (part.type === "text" ? [part.text] : []));
  });
}

test("a thread is followed through a kill of the server, each number once", async () => {
  const run = await assent.runs.start(`tell ${WORDS}`, { agent: "slow_agent" });
  const links: LinkState[] = [];
  const heard: Heard[] = [];
  let view = EMPTY;
  let kill: Promise<void> | undefined;
  const onLink = (state: LinkState) => links.push(state);
  for await (const event of assent.follow({ thread: run.thread_id, onLink })) {
    heard.push(event);
    view = fold(view, [event]);
    if (spoken(view)[0]?.includes("word9")) kill ??= killed();
    if (event.type === "done") break;
  }
  await kill;
  assert.deepEqual(numbers(heard), counted(heard.length));
  assert.deepEqual(spoken(view), [words]);
  assert.equal(view.runs[run.run_id]?.attempt, 2);
  assert.deepEqual(links.slice(0, 4), ["connecting", "open", "lost", "retrying"]);
  assert.equal(links.at(-1), "open");
});

test("a run's stream ends with it", async () => {
  const run = await assent.runs.start("tell 3", { agent: "agent" });
  const heard: Heard[] = [];
  for await (const event of assent.follow({ run: run.run_id })) heard.push(event);
  assert.equal(heard.at(-1)?.type, "done");
  const again: Heard[] = [];
  const after = numbers(heard).at(-1);
  for await (const event of assent.follow({ run: run.run_id, after })) again.push(event);
  assert.deepEqual(again, []);
});

test("connections that are cut after any byte lose and double nothing", async () => {
  const run = await assent.runs.start("tell 40; pay 1", { agent: "agent" });
  await until(async () => (await assent.runs.get(run.run_id)).status === "interrupted");
  const { events } = await assent.threads.events(run.thread_id);
  const last = events.at(-1)?.seq ?? 0;
  let bytes = 1;
  const cutting = client({
    sleep: hasty,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
      if (!isStream || !response.body) return response;
      bytes = Math.min(bytes * 1.7 + 1, 20_000);
      let left = Math.floor(bytes);
      const cut = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, sink) {
          sink.enqueue(chunk.subarray(0, left));
          left -= chunk.length;
          if (left <= 0) sink.error(new TypeError("the connection broke"));
        },
      });
      return new Response(response.body.pipeThrough(cut), response);
    },
  });
  const heard: Heard[] = [];
  for await (const event of cutting.follow({ thread: run.thread_id })) {
    heard.push(event);
    if (numbers(heard).at(-1) === last) break;
  }
  assert.deepEqual(heard, events);
});

test("where events are not there any more a gap comes, and what follows", async () => {
  const run = await assent.runs.start("tell 1", { agent: "agent" });
  await assent.runs.wait(run.run_id);
  const { events } = await assent.threads.events(run.thread_id);
  const last = events.at(-1)?.seq ?? 0;
  const heard: Heard[] = [];
  const after = last + 1000;
  for await (const event of assent.follow({ thread: run.thread_id, after })) {
    heard.push(event);
    if (heard.length === 1) await assent.runs.start("tell 1", { thread_id: run.thread_id });
    if (event.type === "done") break;
  }
  assert.deepEqual(heard[0], { type: "gap", first: last + 1 });
  assert.equal(numbers(heard)[0], last + 1);
});

test("what the server refuses for good is thrown", async () => {
  await assert.rejects(async () => {
    for await (const event of assent.follow({ thread: "none" })) assert.fail(event.type);
  }, NotFound);
});

test("a stream without a sign of life is asked for again", async () => {
  const run = await assent.runs.start("tell 2", { agent: "agent" });
  let asked = 0;
  let ahead = 0;
  const silent = client({
    now: () => Date.now() + ahead,
    sleep: async (milliseconds, signal) => {
      const isWatch = milliseconds > 30_000 && milliseconds <= 40_000;
      if (isWatch) ahead += milliseconds;
      else await hasty(milliseconds, signal);
    },
    fetch: (input, init) => {
      asked += 1;
      if (asked > 1) return fetch(input, init);
      const body = new ReadableStream<Uint8Array>({});
      const headers = { "content-type": "text/event-stream" };
      return Promise.resolve(new Response(body, { headers }));
    },
  });
  const heard: Heard[] = [];
  for await (const event of silent.follow({ run: run.run_id })) heard.push(event);
  assert.equal(heard.at(-1)?.type, "done");
  assert.ok(asked > 1);
});

test("a stream that was lost is asked for at once when the machine is online", async () => {
  const run = await assent.runs.start("tell 1", { agent: "agent" });
  let wake = () => {};
  const pauses: (number | undefined)[] = [];
  let asked = 0;
  const offline = client({
    random: () => 0,
    sleep: (_, signal) => new Promise((done) => signal?.addEventListener("abort", () => done())),
    onWake: (woken) => {
      wake = woken;
      return () => {};
    },
    fetch: (input, init) => {
      asked += 1;
      return asked < 4 ? Promise.reject(new TypeError("offline")) : fetch(input, init);
    },
  });
  const heard: Heard[] = [];
  const onLink = (state: LinkState, news: { pause?: number }) => {
    if (state !== "retrying") return;
    pauses.push(news.pause);
    setTimeout(() => wake());
  };
  for await (const event of offline.follow({ run: run.run_id, onLink })) heard.push(event);
  assert.equal(heard.at(-1)?.type, "done");
  assert.deepEqual(pauses, [250, 500, 1000]);
});

test("the feed of approvals is followed until its signal is aborted", async () => {
  const stop = new AbortController();
  const types: string[] = [];
  const following = (async () => {
    for await (const event of assent.follow({ approvals: true, signal: stop.signal })) {
      types.push(event.type);
    }
  })();
  const [shown] = await asked(assent);
  assert.ok(shown);
  await until(() => types.includes("approval_required"));
  stop.abort();
  await following;
  assert.equal(new URL(url).hostname, "127.0.0.1");
});

interface Spoken {
  readonly type: string;
  readonly id: string;
  readonly content: string;
  readonly tool_call_id?: string;
}

test("what is folded is what the thread's state has", async () => {
  const run = await assent.runs.start("look 3; pay 5 then pay 6; pay 7", { agent: "agent" });
  let view = EMPTY;
  for await (const batch of assent.follow({ thread: run.thread_id }).batches()) {
    view = fold(view, batch);
    for (const shown of view.active === null ? view.pending : []) {
      const { args } = shown as { args: { amount: number } };
      const decision =
        args.amount === 6
          ? ({ type: "reject", message: "Not six." } as const)
          : ({ type: "approve" } as const);
      await assent.approvals.decide(shown, decision);
    }
    if (Object.values(view.runs).at(-1)?.status === "success") break;
  }
  const { values } = await assent.threads.get(run.thread_id);
  const { messages } = values as { messages: Spoken[] };
  const said = messages.filter((message) => message.type === "ai");
  const agents = view.messages.filter((message) => message.role === "agent");
  assert.deepEqual(
    agents.map((message) => [message.id, spoken({ ...view, messages: [message] }).join("")]),
    said.map((message) => [message.id, message.content]),
  );
  const calls = agents.flatMap((message) => message.parts.filter((part) => part.type === "call"));
  const answered = messages.filter((message) => message.type === "tool");
  assert.equal(calls.length, 4);
  assert.deepEqual(
    new Map(calls.map((call) => [call.id, call.output])),
    new Map(answered.map((message) => [message.tool_call_id, message.content])),
  );
});
