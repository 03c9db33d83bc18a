/** People with keys on a real server: what is revoked, and what several must agree to. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { type Heard, Unauthorized } from "../../src/index.ts";
import { client, given } from "./harness.ts";

const ann = client({ key: given("ANN") });

test("a stream whose key is revoked ends with what the server says", async () => {
  const made = await ann.keys.create({ roles: ["operator"] });
  let cut = () => {};
  const cutting = client({
    key: made.key,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (!response.body || !init?.headers) return response;
      const stream = new TransformStream<Uint8Array, Uint8Array>({
        start(sink) {
          cut = () => sink.error(new TypeError("the connection broke"));
        },
      });
      return new Response(response.body.pipeThrough(stream), response);
    },
  });
  const run = await cutting.runs.start("tell 2; pay 1", { agent: "agent" });
  const heard: Heard[] = [];
  await assert.rejects(async () => {
    for await (const event of cutting.follow({ thread: run.thread_id })) {
      heard.push(event);
      if (event.type !== "run_paused") continue;
      await ann.keys.revoke(made.key_id);
      cut();
    }
  }, Unauthorized);
  assert.equal(heard.at(-1)?.type, "run_paused");
});

test("who asks without a key is told so", async () => {
  await assert.rejects(client().me(), Unauthorized);
  assert.equal((await ann.me()).name, "ann");
});
