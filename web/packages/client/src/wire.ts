/** The way to one server: requests, their answers, and the tries of each. */

import { askedPause, mayPass, problemOf, ServerFailed, Unreachable } from "./problems.ts";

/** What the client takes from the world around it, which tests give otherwise. */
export interface Surroundings {
  readonly fetch: typeof fetch;
  /** The milliseconds since 1970. */
  readonly now: () => number;
  /** A number from 0 up to 1. */
  readonly random: () => number;
  /** Ends after so many milliseconds, or as soon as the signal is aborted. */
  readonly sleep: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
  /** Calls the function whenever the machine is online again or the page is shown; what it returns
   * ends that. */
  readonly onWake: (woken: () => void) => () => void;
}

/** What any request may be given. */
export interface Options {
  readonly signal?: AbortSignal | undefined;
}

/** What a request may be given that is done once, however often it is sent. */
export interface KeyedOptions extends Options {
  /** The same request with the same key is not done again; by default a new key. */
  readonly idempotencyKey?: string | undefined;
}

/**
 * What becomes of a request whose answer did not come. `never`: it may have been done, so it is not
 * sent again. `reading`: it changes nothing, and is sent once more. `keyed`: it has an
 * `Idempotency-Key`, so it is sent again and done once. `deciding`: as that, and also while the
 * server is full or its storage away.
 */
export type Again = "never" | "reading" | "keyed" | "deciding";

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly query?: object | undefined;
  readonly body?: unknown;
  readonly bytes?: Blob | ArrayBuffer | Uint8Array<ArrayBuffer>;
  readonly accept?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly again?: Again;
  readonly idempotencyKey?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The milliseconds for which the server itself waits before it answers. */
  readonly waits?: number;
}

const TRIES = 3;
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 30_000;

/** The connection to a server. */
export class Wire {
  readonly base: string;
  readonly around: Surroundings;
  /** Whether it is known by a key of its own, and not by what all tabs of a browser have. */
  readonly hasKey: boolean;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #credentials: RequestCredentials | undefined;
  readonly #timeout: number;
  readonly #clock = new ServerClock();

  constructor(
    url: string,
    around: Surroundings,
    settings: {
      key?: string | undefined;
      credentials?: RequestCredentials | undefined;
      timeout: number;
    },
  ) {
    this.base = baseOf(url);
    this.around = around;
    this.hasKey = Boolean(settings.key);
    this.#headers = settings.key ? { authorization: `Bearer ${checkedKey(settings.key)}` } : {};
    this.#credentials = settings.credentials;
    this.#timeout = settings.timeout;
  }

  /** The time of the server, as far as its answers have told; that of this machine before. */
  serverNow(): number {
    return this.around.now() + this.#clock.ahead;
  }

  /** The JSON of the answer. */
  async json<T>(call: Call): Promise<T> {
    return this.#tried(call, async (response) => {
      const text = await response.text();
      try {
        // The types are those of the server's own document, which its tests hold it to.
        return JSON.parse(text) as T;
      } catch {
        throw this.#noAssent(call, response);
      }
    });
  }

  /** Nothing, once the server has done it. */
  async nothing(call: Call): Promise<void> {
    await this.#tried(call, async (response) => {
      await response.arrayBuffer();
    });
  }

  /** What `read` makes of the answer, whatever it is. */
  async answer<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
    return this.#tried(call, read);
  }

  /** An answer that is read while it comes. Tried once; what the server refuses is thrown. */
  async open(call: Call, signal: AbortSignal): Promise<Response> {
    const cut = new AbortController();
    const forward = () => cut.abort(signal.reason);
    if (signal.aborted) forward();
    signal.addEventListener("abort", forward, { once: true });
    const head = this.#afterwards(this.#timeout + (call.waits ?? 0), cut);
    try {
      return await this.#sent(call, cut.signal);
    } finally {
      head.abort();
    }
  }

  async #tried<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#once(call, read);
      } catch (error) {
        const pause = this.#pauseBefore(tries, call, error);
        if (pause === null || call.signal?.aborted) throw error;
        await this.around.sleep(pause, call.signal);
        call.signal?.throwIfAborted();
      }
    }
  }

  /** The pause before the next try, null if there is none. */
  #pauseBefore(tries: number, call: Call, error: unknown): number | null {
    const broke = error instanceof Unreachable;
    switch (call.again ?? (call.method === "GET" ? "reading" : "never")) {
      case "reading":
        return broke && tries === 1 ? 0 : null;
      case "keyed":
        return broke && tries < TRIES ? this.#pause(tries) : null;
      case "deciding": {
        const pause = Math.max(this.#pause(tries), askedPause(error));
        return mayPass(error) && tries < TRIES && pause <= LONGEST_PAUSE ? pause : null;
      }
      case "never":
        return null;
    }
  }

  #pause(tries: number): number {
    return FIRST_PAUSE * tries * (1 - this.around.random() / 2);
  }

  async #once<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
    const cut = new AbortController();
    const forward = () => cut.abort(call.signal?.reason);
    if (call.signal?.aborted) forward();
    call.signal?.addEventListener("abort", forward, { once: true });
    const timer = this.#afterwards(this.#timeout + (call.waits ?? 0), cut);
    try {
      return await read(await this.#sent(call, cut.signal));
    } catch (error) {
      if (call.signal?.aborted) throw call.signal.reason;
      // A body that breaks off is an error of the platform, as is the reason of a cut.
      if (error instanceof TypeError) throw unreachable(this.base, error);
      throw error;
    } finally {
      timer.abort();
      call.signal?.removeEventListener("abort", forward);
    }
  }

  /** Cuts the request off after so many milliseconds, unless what is returned is aborted. */
  #afterwards(milliseconds: number, cut: AbortController): AbortController {
    const timer = new AbortController();
    void this.around.sleep(milliseconds, timer.signal).then(() => {
      const late = `it did not answer within ${Math.round(milliseconds / 1000)} s`;
      if (!timer.signal.aborted) cut.abort(unreachable(this.base, late));
    });
    return timer;
  }

  async #sent(call: Call, signal: AbortSignal): Promise<Response> {
    const request = this.#request(call, signal);
    const sentAt = this.around.now();
    let response: Response;
    try {
      response = await this.around.fetch(this.#url(call), request);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw unreachable(this.base, error);
    }
    this.#clock.heard(response.headers.get("date"), sentAt, this.around.now());
    if (!response.ok) throw problemOf(response.status, response.headers, await response.text());
    return response;
  }

  #url(call: Call): string {
    const url = new URL(this.base + call.path);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      const isGiven = value !== undefined && value !== null;
      if (isGiven) url.searchParams.set(name, Array.isArray(value) ? value.join(",") : `${value}`);
    }
    return url.href;
  }

  #request(call: Call, signal: AbortSignal): RequestInit {
    const headers: Record<string, string> = {
      accept: call.accept ?? "application/json",
      ...this.#headers,
      ...call.headers,
    };
    const init: RequestInit = { method: call.method, headers, signal, cache: "no-store" };
    if (this.#credentials) init.credentials = this.#credentials;
    if (call.idempotencyKey) headers["idempotency-key"] = call.idempotencyKey;
    if (call.bytes !== undefined) {
      headers["content-type"] = "application/octet-stream";
      init.body = call.bytes;
    } else if (call.body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(call.body);
    }
    return init;
  }

  #noAssent(call: Call, response: Response): ServerFailed {
    const detail =
      `The server's answer to ${call.method} ${call.path} is none that this client reads. ` +
      "Is the address that of Assent?";
    return new ServerFailed({
      type: "about:blank",
      title: "",
      status: response.status,
      detail,
    });
  }
}

/**
 * How far the server's clock is ahead of this machine's, in milliseconds.
 *
 * `Date` has whole seconds. Each answer says that the server's time was within one second while it
 * was within that of the request here, so the answers together narrow it down.
 */
class ServerClock {
  #least = Number.NEGATIVE_INFINITY;
  #most = Number.POSITIVE_INFINITY;

  get ahead(): number {
    const middle = (this.#least + this.#most) / 2;
    return Number.isFinite(middle) ? middle : 0;
  }

  heard(date: string | null, sentAt: number, heardAt: number): void {
    const said = Date.parse(date ?? "");
    if (Number.isNaN(said)) return;
    const least = said - heardAt;
    const most = said + 1000 - sentAt;
    const agrees = least <= this.#most && most >= this.#least;
    // If it does not, somebody has set one of the clocks.
    this.#least = agrees ? Math.max(least, this.#least) : least;
    this.#most = agrees ? Math.min(most, this.#most) : most;
  }
}

/** The path with these parts, each quoted. Throws for one that would lead elsewhere. */
export function pathOf(...parts: readonly string[]): string {
  for (const part of parts) {
    if (part === "" || part === "." || part === "..") {
      throw new TypeError(`'${part}' is no id. Nothing was sent.`);
    }
  }
  return parts.map((part) => `/${encodeURIComponent(part)}`).join("");
}

/** A new key for a request that is to be done once. */
export function newKey(): string {
  // `randomUUID` is not there in pages that came by plain HTTP from another machine.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The error of a server that does not answer. */
export function unreachable(base: string, cause: unknown): Unreachable {
  const said = cause instanceof Error ? cause.message : `${cause}`;
  return new Unreachable(`The server at ${base} does not answer: ${said}.`, { cause });
}

/** What this platform gives. */
export function surroundings(given: Partial<Surroundings>): Surroundings {
  return {
    // Called as a method of another object, a browser's own `fetch` refuses.
    fetch: (input, init) => globalThis.fetch(input, init),
    now: () => Date.now(),
    random: () => Math.random(),
    sleep,
    onWake,
    ...given,
  };
}

/** Ends after so many milliseconds, or as soon as the signal is aborted, and leaves nothing on it. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal?.aborted) return done();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, milliseconds);
    signal?.addEventListener("abort", end, { once: true });
  });
}

function onWake(woken: () => void): () => void {
  const shown = () => {
    if (document.visibilityState === "visible") woken();
  };
  const isPage = typeof document !== "undefined";
  if (typeof globalThis.addEventListener === "function") {
    globalThis.addEventListener("online", woken);
  }
  if (isPage) document.addEventListener("visibilitychange", shown);
  return () => {
    if (typeof globalThis.removeEventListener === "function") {
      globalThis.removeEventListener("online", woken);
    }
    if (isPage) document.removeEventListener("visibilitychange", shown);
  };
}

function baseOf(url: string): string {
  const page = globalThis.location?.href;
  let found: URL;
  try {
    found = new URL(url, page);
  } catch {
    throw new TypeError(`'${url}' is not a URL. Write http://127.0.0.1:8000.`);
  }
  if (found.protocol !== "http:" && found.protocol !== "https:") {
    throw new TypeError(`'${url}' is not a URL of a server. Write http://127.0.0.1:8000.`);
  }
  return (found.origin + found.pathname).replace(/\/+$/, "");
}

function checkedKey(key: string): string {
  if (/^[\x21-\x7e]+$/.test(key)) return key;
  // It is not repeated: it may be a secret but for one letter.
  throw new TypeError("The key is none that a request can carry: write it in ASCII, without spaces.");
}
