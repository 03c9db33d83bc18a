/** Deciding on a real server. */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  AlreadyDecided,
  Changed,
  InvalidRequest,
  NotFound,
  Problem,
  Unavailable,
  Unreachable,
} from "../../src/index.ts";
import { asked, client, hasty, until } from "./harness.ts";

const assent = client();

async function first<T>(listed: Promise<readonly T[]>): Promise<T> {
  const [found] = await listed;
  assert.ok(found !== undefined);
  return found;
}

test("an edit runs with its arguments, and keeps them numbers", async () => {
  const shown = await first(asked(assent));
  const outcome = await assent.approvals.decide(shown, { type: "edit", args: { amount: 7001 } });
  assert.equal(outcome.decisions[shown.approval_id]?.status, "edited");
  const result = await assent.runs.wait(outcome.run_id ?? "");
  assert.equal(result.status, "success");
  assert.deepEqual((await assent.approvals.get(shown.approval_id)).args, { amount: 7001 });
});

test("of two who decide at once one wins, and the other reads who and when", async () => {
  const shown = await first(asked(assent));
  const decided = await Promise.allSettled([
    assent.approvals.decide(shown, { type: "approve" }),
    assent.approvals.decide(shown, { type: "reject", message: "No." }),
  ]);
  const lost = decided.flatMap((each) => (each.status === "rejected" ? [each.reason] : []));
  assert.equal(lost.length, 1);
  const [error] = lost;
  assert.ok(error instanceof AlreadyDecided);
  const won = decided[0].status === "fulfilled" ? "approve" : "reject";
  assert.equal(error.decision?.type, won);
  assert.equal(error.by, "local");
  assert.ok(Date.parse(error.at ?? "") <= Date.now());
});

test("what was shown before it was changed decides nothing, and what is asked now comes", async () => {
  const shown = await first(asked(assent));
  const old = { ...shown, digest: "0".repeat(64) };
  const error = await assent.approvals.decide(old, { type: "approve" }).catch((each) => each);
  assert.ok(error instanceof Changed);
  assert.equal(error.approval?.digest, shown.digest);
  assert.equal(error.approval?.status, "pending");
  await assent.approvals.decide(error.approval, { type: "reject" });
});

test("a decision whose answer is lost is sent again, and done once", async () => {
  const shown = await first(asked(assent));
  const keys: (string | null)[] = [];
  const losing = client({
    random: () => 0.9,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      keys.push(new Headers(init?.headers).get("idempotency-key"));
      if (keys.length < 3) throw new TypeError("the connection broke");
      return response;
    },
  });
  const outcome = await losing.approvals.decide(shown, { type: "approve" });
  assert.equal(outcome.decisions[shown.approval_id]?.status, "approved");
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
});

test("whoever decides the same again after an error uses the same key", async () => {
  const shown = await first(asked(assent));
  const keys: (string | null)[] = [];
  let isAway = true;
  const away = client({
    random: () => 0.9,
    sleep: hasty,
    fetch: (input, init) => {
      keys.push(new Headers(init?.headers).get("idempotency-key"));
      if (!isAway) return fetch(input, init);
      const headers = { "retry-after": "5", "content-type": "application/problem+json" };
      const body = { type: "urn:assent:problem:unavailable", title: "", status: 503, detail: "Away." };
      return Promise.resolve(new Response(JSON.stringify(body), { status: 503, headers }));
    },
  });
  await assert.rejects(away.approvals.decide(shown, { type: "approve" }), Unavailable);
  isAway = false;
  await away.approvals.decide(shown, { type: "approve" });
  assert.equal(keys.length, 4);
  assert.equal(new Set(keys).size, 1);
});

test("several of a low risk are decided at once, each with its outcome", async () => {
  const shown = await asked(assent, 2);
  const outcomes = await assent.approvals.decideSeveral(
    shown.map((each) => [each, { type: "reject" }] as const),
  );
  assert.deepEqual(Object.keys(outcomes).sort(), shown.map((each) => each.approval_id).sort());
});

test("an approval is decided as it was shown, never by its id alone", async () => {
  const shown = await first(asked(assent));
  // @ts-expect-error A caller without types could do this.
  const decided = assent.approvals.decide({ approval_id: shown.approval_id }, { type: "approve" });
  await assert.rejects(decided, TypeError);
});

test("problems are told by their class", async () => {
  await assert.rejects(assent.threads.get("none"), NotFound);
  const shown = await first(asked(assent));
  const error = await assent.approvals
    .decide(shown, { type: "edit", args: { amount: "much" } })
    .catch((each) => each);
  assert.ok(error instanceof InvalidRequest && error instanceof Problem);
  assert.equal(error.status, 422);
  assert.match(error.detail, /amount/);
  const nobody = client({ url: "http://127.0.0.1:9", sleep: hasty });
  await assert.rejects(nobody.me(), Unreachable);
});

test("a list is awaited for a page, and iterated for all", async () => {
  const threads = await Promise.all([1, 2, 3].map(() => assent.threads.create()));
  const ids = new Set(threads.map((thread) => thread.thread_id));
  const page = await assent.threads.list({ limit: 2 });
  assert.equal(page.items.length, 2);
  assert.ok(page.next !== null);
  const next = await assent.threads.list({ limit: 2, cursor: page.next });
  assert.notEqual(next.items[0]?.thread_id, page.items[0]?.thread_id);
  const all = await assent.threads.list({ limit: 2 }).all();
  const found = all.filter((thread) => ids.has(thread.thread_id));
  assert.equal(found.length, 3);
});

test("a graph, a state and a run are read", async () => {
  const shown = await first(asked(assent));
  await assent.approvals.decide(shown, { type: "approve" });
  await until(async () => (await assent.threads.get(shown.thread_id)).status === "idle");
  const agents = await assent.agents.list();
  assert.ok(agents.some((agent) => agent.agent === "agent"));
  const { graphs } = await assent.agents.graph("agent");
  assert.ok(graphs[0]?.nodes.some((node) => node.id === "approval"));
  const states = await assent.threads.history(shown.thread_id, { limit: 2 }).all();
  const ids = states.map((state) => state.checkpoint_id);
  assert.ok(ids.length > 2);
  assert.equal(new Set(ids).size, ids.length);
  const page = await assent.threads.events(shown.thread_id, { before: 5, limit: 2 });
  assert.deepEqual(page.events.map((event) => event.seq), [3, 4]);
  assert.ok(Math.abs(assent.serverNow() - Date.now()) < 1_500);
});
