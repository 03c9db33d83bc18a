/**
 * Asks an agent in the terminal, prints what it says while it says it, and asks back whatever a
 * person must decide:
 *
 *     ASSENT_URL=http://127.0.0.1:8000 node ask-and-decide.ts "Delete all records older than 2015"
 *
 * In a clone, where the package is not built: `node --conditions=assent-source ask-and-decide.ts …`
 */

import { createInterface } from "node:readline/promises";

import { AlreadyDecided, Assent, Changed, type Decision, type ShownApproval } from "@assent/client";

const assent = new Assent({
  url: process.env["ASSENT_URL"] ?? "http://127.0.0.1:8000",
  key: process.env["ASSENT_KEY"],
});
const terminal = createInterface({ input: process.stdin });
const lines = terminal[Symbol.asyncIterator]();

async function answerTo(question: string): Promise<string> {
  process.stdout.write(`${question} `);
  const { value } = await lines.next();
  return value?.trim() ?? "";
}

/** What the person in front of the terminal says. Nothing but a yes lets the call run. */
async function decision(): Promise<Decision> {
  const answer = await answerTo("Approve? (yes, or why not)");
  return answer === "yes" ? { type: "approve" } : { type: "reject", message: answer };
}

async function decide(shown: ShownApproval): Promise<void> {
  try {
    await assent.approvals.decide(shown, await decision());
  } catch (error) {
    if (error instanceof AlreadyDecided) console.log(`${error.by} was faster.`);
    else if (error instanceof Changed && error.approval) {
      console.log("Something else is asked by now:", error.approval.args);
      await decide(error.approval);
    } else throw error;
  }
}

const run = await assent.runs.start(process.argv[2] ?? "Hello");

for await (const event of assent.follow({ thread: run.thread_id })) {
  if (event.type === "token") process.stdout.write(event.content);
  if (event.type === "llm_end") process.stdout.write("\n");
  if (event.type === "approval_required") {
    console.log(`${event.tool} ${JSON.stringify(event.args)}`);
    // What was shown is what is decided about.
    await decide({ approval_id: event.approval_id, digest: event.digest ?? "" });
  }
  if (event.type === "error") console.error(event.message);
  if (event.type === "done" || event.type === "error") break;
}
terminal.close();
