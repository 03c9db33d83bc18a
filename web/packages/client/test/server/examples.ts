/** The examples, at work on a real server. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { Assent, EMPTY, Forbidden, fold, NotFound, Unauthorized } from "../../src/index.ts";
import { GET, POST } from "../../examples/nextjs/app/api/assent/[...path]/route.ts";
import { given, url } from "./harness.ts";

process.env["ASSENT_URL"] = url;
process.env["ASSENT_KEY"] = given("ANN");

const EXAMPLES = new URL("../../examples/", import.meta.url);
const SITE = "https://shop.example";

/** What the example prints that is given these lines. */
async function printed(example: string, args: string[], lines: string[]): Promise<string> {
  const file = fileURLToPath(new URL(example, EXAMPLES));
  const options = ["--conditions=assent-source", file, ...args];
  const program = spawn(process.execPath, options, { stdio: ["pipe", "pipe", "inherit"] });
  program.stdin.end(lines.map((line) => `${line}\n`).join(""));
  let output = "";
  program.stdout.on("data", (chunk) => {
    output += chunk;
  });
  const code = await new Promise((done) => program.on("close", done));
  assert.equal(code, 0, output);
  return output;
}

test("a terminal asks, streams and decides", async () => {
  const output = await printed("ask-and-decide.ts", ["pay 31 then pay 32"], ["yes", "Too much."]);
  assert.match(output, /pay \{"amount":31\}/);
  assert.match(output, /pay \{"amount":32\}/);
  assert.match(output, /Results: .*Too much\./s);
});

/** A client in a page of the site, whose route the requests go to. */
function inPage(headers: Record<string, string>): Assent {
  return new Assent({
    url: `${SITE}/api/assent`,
    fetch: async (input, init) => {
      const request = new Request(input, init);
      for (const [name, value] of Object.entries(headers)) request.headers.set(name, value);
      const path = new URL(request.url).pathname.replace("/api/assent/", "").split("/");
      const handler = request.method === "GET" ? GET : POST;
      return handler(request, { params: Promise.resolve({ path }) });
    },
  });
}

const signedIn = { cookie: "session=1", origin: SITE };

test("a route of Next.js passes a chat on, and keeps the key", async () => {
  const assent = inPage(signedIn);
  const run = await assent.runs.start("pay 33");
  let view = EMPTY;
  for await (const event of assent.follow({ thread: run.thread_id })) {
    view = fold(view, [event]);
    const [asked] = view.pending;
    if (event.type === "run_paused" && asked) {
      assert.equal((await assent.approvals.get(asked.approval_id)).digest, asked.digest);
      await assent.approvals.decide(asked, { type: "approve" });
    }
    if (event.type === "done") break;
  }
  assert.equal(view.pending.length, 0);
  assert.equal(Object.values(view.approvals)[0]?.decided_by, "ann");
});

test("the route passes on nothing else, for nobody else", async () => {
  await assert.rejects(inPage({ origin: SITE }).runs.start("pay 34"), Unauthorized);
  const elsewhere = { ...signedIn, origin: "https://evil.example" };
  await assert.rejects(inPage(elsewhere).runs.start("pay 34"), Forbidden);
  await assert.rejects(inPage(signedIn).keys.list().all(), NotFound);
});
