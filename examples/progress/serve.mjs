// Serves `route.mjs` without Next.js:
//
//   PORT=3000 node serve.mjs
//   curl -N http://127.0.0.1:3000/api/crew/stream --json '{"message": "How many records are there?"}'

import { createServer } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import { POST } from "./route.mjs";

const PATH = "/api/crew/stream";

async function answer(incoming, outgoing) {
  if (incoming.method !== "POST" || incoming.url !== PATH) {
    outgoing.writeHead(404).end();
    return;
  }
  const gone = new AbortController();
  outgoing.on("close", () => gone.abort());
  const request = new Request(`http://127.0.0.1${PATH}`, {
    method: "POST",
    headers: { "content-type": incoming.headers["content-type"] ?? "" },
    body: Readable.toWeb(incoming),
    duplex: "half",
    signal: gone.signal,
  });
  const response = await POST(request);
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  await pipeline(Readable.fromWeb(response.body), outgoing);
}

const server = createServer((incoming, outgoing) => {
  // A client that leaves is no failure of ours.
  answer(incoming, outgoing).catch(() => outgoing.destroy());
});
server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}${PATH}`);
});
