/**
 * A route of Next.js that stands between a page and Assent, so that the key stays on the server:
 *
 *     const assent = new Assent({ url: "/api/assent" });   // in the page
 *
 * It passes on what a chat needs, and nothing else. Streams are passed on as they come.
 */

/** What may be asked for by whom. */
const PASSED = [
  ["GET", /^threads\/[\w-]+$/],
  ["GET", /^threads\/[\w-]+\/events$/],
  ["POST", /^agent\/runs$/],
  ["GET", /^approvals\/[\w-]+$/],
  ["POST", /^approvals\/[\w-]+\/decide$/],
] as const;

const TO_SERVER = ["accept", "content-type", "idempotency-key", "last-event-id"];
const TO_PAGE = ["content-type", "retry-after", "x-heartbeat", "date", "cache-control"];

interface Context {
  readonly params: Promise<{ readonly path: readonly string[] }>;
}

export const GET = pass;
export const POST = pass;

async function pass(request: Request, { params }: Context): Promise<Response> {
  const path = (await params).path.join("/");
  if (!isSignedIn(request)) return refused(401, "Sign in first.");
  const isPassed = PASSED.some(([method, form]) => request.method === method && form.test(path));
  if (!isPassed) return refused(404, "There is no such route here.");
  if (request.method !== "GET" && !isFromHere(request)) {
    return refused(403, "Only pages of this site may do that.");
  }

  const headers = picked(request.headers, TO_SERVER);
  headers.set("authorization", `Bearer ${process.env["ASSENT_KEY"] ?? ""}`);
  const { search } = new URL(request.url);
  const body = request.method === "GET" ? null : await request.text();
  // When the page goes away, so does the stream.
  const { signal } = request;
  const url = `${process.env["ASSENT_URL"] ?? "http://127.0.0.1:8000"}/${path}${search}`;
  const response = await fetch(url, { method: request.method, headers, body, signal });
  return new Response(response.body, {
    status: response.status,
    headers: picked(response.headers, TO_PAGE),
  });
}

/** Whether your app knows who asks. All of them act with the one key here: to have each act as
 * themselves, give each a key, or let Assent ask your identity provider. */
function isSignedIn(request: Request): boolean {
  return request.headers.get("cookie")?.includes("session=") ?? false;
}

/** Whether a page of this site asks: others can send a form with the same cookie. */
function isFromHere(request: Request): boolean {
  return request.headers.get("origin") === new URL(request.url).origin;
}

function picked(headers: Headers, names: readonly string[]): Headers {
  const found = names.flatMap((name): [string, string][] => {
    const value = headers.get(name);
    return value === null ? [] : [[name, value]];
  });
  return new Headers(found);
}

function refused(status: number, detail: string): Response {
  const title = detail.replace(/\.$/, "");
  return Response.json(
    { type: "about:blank", title, status, detail },
    { status, headers: { "content-type": "application/problem+json" } },
  );
}
