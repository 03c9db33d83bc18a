/**
 * What the tests of the clients share: the server that `test_clients.py` has started for them, the
 * traces that its tools leave, and connections that break.
 */

import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { after } from "node:test";

export const url = process.env.SERVER;

const PATIENCE = 60_000;

let pages = 0;

let lastAmount = Number(process.env.FIRST_AMOUNT);

/** An amount that nobody else pays. */
export const newAmount = () => ++lastAmount;

/** How often the tools have left this line. */
export function traces(line) {
  const ledger = process.env.LEDGER;
  if (!existsSync(ledger)) return 0;
  return readFileSync(ledger, "utf8").split("\n").filter((each) => each === line).length;
}

/** Let the tools end that wait with this amount. */
export const letGo = (amount) => writeFileSync(`${process.env.LEDGER}.go-${amount}`, "");

/** The server is killed amid whatever it does, and started anew. */
export async function killed() {
  const asked = `${process.env.LEDGER}.kill`;
  writeFileSync(asked, "");
  await until(() => !existsSync(asked), "the server to be killed");
}

/** What `read` gives, once it is neither undefined, null nor false. */
export async function until(read, what = read) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await read();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`Waited in vain for: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** All that an iterator gives. */
export async function all(iterator) {
  const found = [];
  for await (const each of iterator) found.push(each);
  return found;
}

/**
 * What the code of this page in `docs/how-to` exports, for this server. Each pair of `changes` are
 * words of the page, and what stands there for a test.
 */
export async function page(name, changes = []) {
  const text = readFileSync(new URL(`../docs/how-to/${name}.md`, import.meta.url), "utf8");
  let code = [...text.matchAll(/^```javascript\n(.*?)^```$/gms)].map((found) => found[1]).join("\n");
  for (const [words, others] of [["http://127.0.0.1:8000", url], ...changes]) {
    if (!code.includes(words)) throw new Error(`The page ${name} does not say: ${words}`);
    code = code.replaceAll(words, others);
  }
  // It stands where it finds its packages.
  const file = new URL(`./node_modules/.${name}-${process.pid}-${++pages}.mjs`, import.meta.url);
  writeFileSync(file, code);
  try {
    return await import(file);
  } finally {
    rmSync(file);
  }
}

/** What the server answers to a plain request, with the status beside it. */
export async function ask(method, path, body) {
  const answer = await fetch(url + path, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, body: text ? JSON.parse(text) : undefined };
}

/**
 * A proxy before the server that cuts a connection after so many bytes of a stream's answer, once
 * for each of `limits`: `{ url, cuts() }`.
 */
export async function cutting(...limits) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  let cuts = 0;
  const proxy = createServer((client) => {
    const server = connect(Number(port), hostname);
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    }
    let streamed;
    client.pipe(server);
    server.on("data", (chunk) => {
      if (streamed === undefined && chunk.includes("text/event-stream")) streamed = 0;
      if (streamed === undefined || limits.length === 0) return void client.write(chunk);
      const left = limits[0] - streamed;
      streamed += chunk.length;
      client.write(chunk.subarray(0, left));
      if (chunk.length < left) return;
      limits.shift();
      cuts += 1;
      client.resetAndDestroy();
      server.destroy();
    });
    server.on("end", () => client.end());
    client.on("close", () => server.destroy());
  });
  await new Promise((done) => proxy.listen(0, "127.0.0.1", done));
  after(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  return { url: `http://127.0.0.1:${proxy.address().port}`, cuts: () => cuts };
}
