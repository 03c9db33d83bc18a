/** What the tests share that are run on a real server, which `tests/web/test_client.py` starts. */

import { existsSync, writeFileSync } from "node:fs";

import { Assent, type ApprovalForYou, type Heard, type Settings } from "../../src/index.ts";

const PATIENCE = 30_000;

/** The value of a variable that the tests are run with. */
export function given(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: run pytest tests/web/test_client.py`);
  return value;
}

export const url = given("SERVER");

/** A client of the server, as whoever has this key. */
export function client(settings: Partial<Settings> = {}): Assent {
  return new Assent({ url, ...settings });
}

/** What `read` gives, once it is not undefined, null or false. */
export async function until<T>(read: () => T | Promise<T>): Promise<NonNullable<T>> {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await read();
    if (found !== undefined && found !== null && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`Waited in vain for ${read}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** The server is killed amid whatever it does, and started anew. */
export async function killed(): Promise<void> {
  const asked = `${given("LEDGER")}.kill`;
  writeFileSync(asked, "");
  await until(() => !existsSync(asked));
}

/** Waits no time before a request is sent again, and for ever for its answer. */
export function hasty(milliseconds: number, signal?: AbortSignal): Promise<void> {
  if (milliseconds < ANSWER) return new Promise((done) => setTimeout(done));
  return new Promise((done) => signal?.addEventListener("abort", () => done(), { once: true }));
}

/** The longest that a client waits for an answer or a sign of life begins here. */
const ANSWER = 12_000;

let amounts = 0;

/** A payment that nobody else makes, on a new thread, as it waits for a person. */
export async function asked(assent: Assent, calls = 1): Promise<ApprovalForYou[]> {
  const pays = Array.from({ length: calls }, () => `pay ${++amounts}`);
  const { thread_id } = await assent.runs.start(pays.join("; "), { agent: "agent" });
  return until(async () => {
    const { items } = await assent.approvals.list({ thread_id, status: "pending" });
    return items.length === calls ? [...items] : null;
  });
}

/** The numbers of what was heard. */
export function numbers(heard: readonly Heard[]): number[] {
  return heard.flatMap((each) => (each.type === "gap" ? [] : [each.seq ?? 0]));
}
