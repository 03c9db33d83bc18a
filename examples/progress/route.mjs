// A route of Next.js that runs an agent for a message, and streams its progress as Server-Sent
// Events. As `app/api/crew/stream/route.js`:
//
//   POST {"message": "…"}
//   data: {"type":"progress","agent":"…","task":"…","timestamp":"…"}
//   data: {"type":"result","result":"…"}          or "waiting" for a person, or "error"
//   data: [DONE]
//
// The agent is that of the server at ASSENT_URL, or one that `assent run` starts for it. If the
// client leaves, the run is cancelled.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";

export const runtime = "nodejs";
export const dynamic = "force-dynamic";

const LONGEST = 100_000; // Bytes. No program takes an argument of more than 128 KiB.
const ALIVE_MS = 15_000;

export async function POST(request) {
  if (!request.headers.get("content-type")?.startsWith("application/json")) {
    return Response.json({ error: "Send JSON." }, { status: 415 });
  }
  const message = messageIn(await request.text());
  if (message === null) {
    const error = `Send {"message": "…"}, with a text of at most ${LONGEST} bytes.`;
    return Response.json({ error }, { status: 422 });
  }
  const thread = randomUUID();
  const run = started(message, thread, request.signal);
  return new Response(streamed(run, thread), {
    headers: {
      "Content-Type": "text/event-stream",
      "Cache-Control": "no-cache",
      "X-Accel-Buffering": "no",
    },
  });
}

function messageIn(body) {
  try {
    const { message } = JSON.parse(body);
    const isGood = typeof message === "string" && message !== "" && !message.includes("\0");
    return isGood && Buffer.byteLength(message) <= LONGEST ? message : null;
  } catch {
    return null;
  }
}

// There is no shell that could read anything in the message, and behind `--` it is no option.
function started(message, thread, signal) {
  const server = process.env.ASSENT_URL ? ["--url", process.env.ASSENT_URL] : [];
  const options = ["--progress", "json", "--thread", thread, ...server];
  const child = spawn("assent", ["run", ...options, "--", message], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let isStopped = false;
  const stop = () => {
    // The first interrupt cancels the run, and a second one would leave it to itself.
    if (!isStopped) child.kill("SIGINT");
    isStopped = true;
  };
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  return { child, stop };
}

function streamed({ child, stop }, thread) {
  let isOpen = true;
  return new ReadableStream({
    async start(controller) {
      const encoder = new TextEncoder();
      const write = (text) => isOpen && controller.enqueue(encoder.encode(text));
      const send = (data) => write(`data: ${JSON.stringify(data)}\n\n`);
      const alive = setInterval(() => write(": alive\n\n"), ALIVE_MS);
      send(await ended(child, thread, send));
      clearInterval(alive);
      write("data: [DONE]\n\n");
      if (isOpen) controller.close();
    },
    cancel() {
      isOpen = false;
      stop();
    },
  });
}

// Sends each step, and returns what came of the run in the end.
function ended(child, thread, send) {
  let answer = "";
  let complaint = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (answer += text));
  createInterface({ input: child.stderr }).on("line", (line) => {
    const step = stepIn(line);
    if (step) send(step);
    else complaint = line.trim() || complaint;
  });
  return new Promise((resolve) => {
    child.on("error", (error) => resolve({ type: "error", error: error.message, code: null }));
    child.on("close", (code) => {
      // 4 is an answer without something that was rejected.
      if (code === 0 || code === 4) resolve({ type: "result", result: answer.trimEnd() });
      else if (code === 3) resolve({ type: "waiting", thread_id: thread });
      else resolve({ type: "error", error: complaint || "The run was stopped.", code });
    });
  });
}

function stepIn(line) {
  try {
    const step = JSON.parse(line);
    return step?.type === "progress" ? step : null;
  } catch {
    return null;
  }
}
