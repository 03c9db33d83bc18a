/**
 * Following events over any number of connections.
 *
 * Each event has a number, so each is given once, in order, and one that is left out is noticed.
 */

import { createParser } from "eventsource-parser";

import type { Event, EventPage, EventType } from "./api.ts";
import {
  AssentError,
  askedPause,
  Gone,
  isObject,
  mayPass,
  ServerFailed,
  Unreachable,
} from "./problems.ts";
import { unreachable, type Wire } from "./wire.ts";

/** What to follow: a thread, from run to run; one run, to its end; or a feed. */
export type Followed =
  | { readonly thread: string }
  | { readonly run: string }
  | { readonly approvals: true }
  | { readonly feed: { readonly agent: string } | { readonly user: string } };

/** News of a connection. After `lost` it is tried again: `retrying` says after how many
 * milliseconds, and `connecting` that it is. */
export type LinkState = "connecting" | "open" | "lost" | "retrying";

/** Why a connection was lost, and when it is tried again. */
export interface LinkNews {
  readonly error?: Error;
  readonly pause?: number;
}

export interface FollowOptions {
  /** The number of the last event that you have; 0 for all that there are. */
  readonly after?: number | undefined;
  /** Only events of these types. */
  readonly types?: readonly EventType[] | undefined;
  /** Ends the stream, without an error. */
  readonly signal?: AbortSignal | undefined;
  readonly onLink?: ((state: LinkState, news: LinkNews) => void) | undefined;
  /** Use one stream for all tabs of a browser that follow the same; that of a run is never shared. */
  readonly share?: boolean | undefined;
}

/** Events up to the number `first` are not there any more; what follows begins with that one. */
export interface Gap {
  readonly type: "gap";
  readonly first: number;
}

/** What a stream gives. A newer server may send events of other types than these. */
export type Heard = Event | Gap;

/** The events that follow; also by the batch in which they came. */
export interface Following extends AsyncIterable<Heard> {
  batches(): AsyncGenerator<Heard[], void, undefined>;
}

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 10_000;

/** A connection is dead that has given no sign of life for so long, if the server does not say how
 * often it gives one; else for so many of these. */
const SILENCE = 40_000;
const BEATS = 3;

/** Reasons for which a server ends a stream that it may be asked for again at once. */
const AT_ONCE: ReadonlySet<string> = new Set(["stopping", "gone", "signed-out", "unavailable"]);

const LAST_TYPES: ReadonlySet<string> = new Set(["done", "error", "run_cancelled", "run_paused"]);

/** Where a reader stands: what it has, and when a connection that was lost is tried again. */
export class Place {
  /** The number of the last event that was given. */
  after: number;
  /** True once nothing more will come. */
  isOver = false;
  silence = SILENCE;
  readonly path: string;
  readonly types: readonly EventType[] | undefined;
  readonly isOneRun: boolean;
  #isPlaced: boolean;
  #pause = FIRST_PAUSE;
  #goesAtOnce = true;
  #missed = 0;

  constructor(path: string, options: FollowOptions, isOneRun = false) {
    this.path = path;
    this.after = options.after ?? 0;
    this.types = options.types;
    this.isOneRun = isOneRun;
    this.#isPlaced = this.after > 0;
  }

  /** Those of the events that were not given yet. Throws if one before them is missing. */
  take(events: readonly Event[]): Heard[] {
    const before = this.after;
    let taken: Event[];
    try {
      taken = events.filter((event) => this.#takes(event));
    } catch (error) {
      // None of them is given, so all are asked for again.
      this.after = before;
      throw error;
    }
    if (events.length > 0) {
      this.#pause = FIRST_PAUSE;
      this.#goesAtOnce = true;
    }
    return taken;
  }

  #takes(event: Event): boolean {
    const seq = event.seq ?? 0;
    // What an operator tells everybody is of no log, and has no number.
    if (seq === 0) return true;
    if (seq <= this.after) return false;
    const due = this.after + 1;
    const isWhole = this.types === undefined && !this.isOneRun && this.#isPlaced;
    if (isWhole && seq !== due) throw this.#missing(due, seq);
    this.after = seq;
    this.#isPlaced = true;
    if (this.isOneRun && isLast(event)) this.isOver = true;
    return true;
  }

  #missing(due: number, came: number): Error {
    const sentence = `The event ${due} did not come, and ${came} did.`;
    const again = this.#missed === due;
    this.#missed = due;
    return again ? new AssentError(sentence) : new Unreachable(sentence);
  }

  /** Takes note of a page: everything up to this number was read. */
  read(upTo: number): void {
    if (upTo <= this.after) return;
    this.after = upTo;
    this.#isPlaced = true;
  }

  /** Takes note of events that were removed, and returns what says so. */
  skip(first: number): Gap {
    this.after = Math.max(0, first - 1);
    this.#isPlaced = this.after > 0;
    return { type: "gap", first };
  }

  /** The milliseconds before the next try. Throws the error if another try would not help. */
  dropped(error: unknown, random: () => number): number {
    if (!mayPass(error)) throw error;
    if (error instanceof StreamEnded && AT_ONCE.has(error.reason) && this.#goesAtOnce) {
      this.#goesAtOnce = false;
      return 0;
    }
    const pause = this.#pause * (1 - random() / 2);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
    return Math.max(pause, askedPause(error));
  }
}

/** The server has ended a stream of which more is to come. */
class StreamEnded extends Unreachable {
  readonly reason: string;

  constructor(reason: string) {
    super(
      reason ? `The server has ended the stream: ${reason}.` : "The server closed the connection.",
    );
    this.reason = reason;
  }
}

/** Tells of a connection, and of its signs of life. */
export interface Listener {
  link(state: LinkState, news?: LinkNews): void;
  /** Something came, if only a heartbeat. */
  alive(): void;
}

/** Batches of events at the place, until it is over or the signal is aborted. */
export async function* follow(
  wire: Wire,
  place: Place,
  options: FollowOptions,
): AsyncGenerator<Heard[], void, undefined> {
  const listener = listening(options);
  yield* persisting(wire, place, options.signal, listener, (signal) =>
    stream(wire, place, signal, listener),
  );
}

export function listening(options: FollowOptions): Listener {
  return {
    link: (state, news = {}) => options.onLink?.(state, news),
    alive: () => {},
  };
}

/** What the connection gives, and what the next ones give when it is lost. */
export async function* persisting(
  wire: Wire,
  place: Place,
  signal: AbortSignal | undefined,
  listener: Listener,
  connection: (signal: AbortSignal) => AsyncGenerator<Heard[], void, undefined>,
): AsyncGenerator<Heard[], void, undefined> {
  const ended = new AbortController();
  const stop = () => ended.abort();
  if (signal?.aborted) return;
  signal?.addEventListener("abort", stop, { once: true });
  try {
    while (!place.isOver && !ended.signal.aborted) {
      try {
        listener.link("connecting");
        yield* connection(ended.signal);
      } catch (error) {
        if (ended.signal.aborted) return;
        if (error instanceof Gone && error.first !== null) {
          yield [place.skip(error.first)];
          continue;
        }
        const pause = place.dropped(error, wire.around.random);
        const lost = error instanceof Error ? error : new Error(`${error}`);
        listener.link("lost", { error: lost });
        listener.link("retrying", { error: lost, pause });
        await rested(wire, pause, ended.signal);
      }
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    ended.abort();
  }
}

/** Ends after the pause, or at once when the machine is online again or the page is shown. */
export async function rested(wire: Wire, pause: number, signal: AbortSignal): Promise<void> {
  const awake = new AbortController();
  const wake = () => awake.abort();
  const deaf = wire.around.onWake(wake);
  signal.addEventListener("abort", wake, { once: true });
  try {
    await wire.around.sleep(pause, awake.signal);
  } finally {
    signal.removeEventListener("abort", wake);
    deaf();
  }
}

/** The batches of one connection. Throws when that breaks, or the server ends it too soon. */
export async function* stream(
  wire: Wire,
  place: Place,
  signal: AbortSignal,
  listener: Listener,
): AsyncGenerator<Heard[], void, undefined> {
  const cut = new AbortController();
  const forward = () => cut.abort(signal.reason);
  if (signal.aborted) forward();
  signal.addEventListener("abort", forward, { once: true });
  try {
    const response = await wire.open(eventsCall(place), cut.signal);
    if (response.status === 204) {
      place.isOver = true;
      return;
    }
    if (!response.headers.get("content-type")?.startsWith("text/event-stream") || !response.body) {
      throw noStream(response);
    }
    const beat = Number(response.headers.get("x-heartbeat"));
    place.silence = beat > 0 && beat <= 3600 ? BEATS * beat * 1000 : SILENCE;
    listener.link("open");
    yield* frames(wire, place, response.body, cut, listener);
  } finally {
    signal.removeEventListener("abort", forward);
    cut.abort();
  }
}

async function* frames(
  wire: Wire,
  place: Place,
  body: ReadableStream<Uint8Array>,
  cut: AbortController,
  listener: Listener,
): AsyncGenerator<Heard[], void, undefined> {
  const reader = body.getReader();
  const watch = new Watch(wire, place.silence, () => {
    const silent = `nothing came for ${Math.round(place.silence / 1000)} s`;
    cut.abort(unreachable(wire.base, silent));
  });
  // What reads would wait for a body whose end nobody tells it.
  const release = () => void reader.cancel().catch(() => {});
  cut.signal.addEventListener("abort", release, { once: true });
  let events: Event[] = [];
  let end: string | undefined;
  const parser = createParser({
    onEvent: (frame) => {
      if (frame.event === "end") end = reasonOf(frame.data);
      else if (frame.data) events.push(eventOf(frame.data));
    },
  });
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await piece(wire, reader, cut.signal);
      watch.alive();
      listener.alive();
      if (value) parser.feed(decoder.decode(value, { stream: true }));
      const taken = place.take(events);
      events = [];
      if (taken.length > 0) yield taken;
      if (place.isOver) return;
      if (end === "done") {
        place.isOver = true;
        return;
      }
      if (end !== undefined || done) throw new StreamEnded(end ?? "");
    }
  } finally {
    watch.end();
    release();
  }
}

async function piece(
  wire: Wire,
  reader: ReadableStreamDefaultReader<Uint8Array>,
  signal: AbortSignal,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  try {
    const found = await reader.read();
    signal.throwIfAborted();
    return found;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw unreachable(wire.base, error);
  }
}

/** Ends a connection that gives no sign of life. */
class Watch {
  readonly #wire: Wire;
  readonly #silence: number;
  readonly #late: () => void;
  readonly #over = new AbortController();
  readonly #deaf: () => void;
  #heardAt: number;

  constructor(wire: Wire, silence: number, late: () => void) {
    this.#wire = wire;
    this.#silence = silence;
    this.#late = late;
    this.#heardAt = wire.around.now();
    // A machine that slept has not counted the time; its pages are told when they are shown.
    this.#deaf = wire.around.onWake(() => this.#look());
    void this.#run();
  }

  alive(): void {
    this.#heardAt = this.#wire.around.now();
  }

  end(): void {
    this.#over.abort();
    this.#deaf();
  }

  #look(): number {
    const left = this.#heardAt + this.#silence - this.#wire.around.now();
    if (left <= 0) this.#late();
    return left;
  }

  async #run(): Promise<void> {
    while (!this.#over.signal.aborted) {
      const left = this.#look();
      if (left <= 0) return;
      await this.#wire.around.sleep(left, this.#over.signal);
    }
  }
}

/** A page of the events behind the place. */
export async function page(
  wire: Wire,
  place: Place,
  signal: AbortSignal,
): Promise<{ heard: Heard[]; more: boolean }> {
  const found = await wire.json<EventPage>({
    method: "GET",
    path: place.path,
    query: { after: place.after, types: place.types },
    signal,
  });
  const heard = place.take(found.events);
  place.read(found.next);
  return { heard, more: found.more };
}

function eventsCall(place: Place) {
  const headers: Record<string, string> = {};
  if (place.after > 0) headers["last-event-id"] = `${place.after}`;
  return {
    method: "GET",
    path: place.path,
    query: { types: place.types },
    accept: "text/event-stream",
    headers,
  };
}

function eventOf(data: string): Event {
  const value: unknown = JSON.parse(data);
  if (isEvent(value)) return value;
  throw new ServerFailed({
    type: "about:blank",
    title: "",
    status: 200,
    detail: "The server sent what is no event.",
  });
}

/** True for an object with a type; what else an event of that type has is the server's word. */
function isEvent(value: unknown): value is Event {
  return isObject(value) && typeof value["type"] === "string";
}

function reasonOf(data: string): string {
  try {
    const value: unknown = JSON.parse(data);
    if (isObject(value) && typeof value["reason"] === "string") return value["reason"];
  } catch {
    // It is a reason that this client does not know.
  }
  return "unknown";
}

function isLast(event: Event): boolean {
  const goesOn = event.type === "run_paused" && event.next_run;
  return LAST_TYPES.has(event.type) && !goesOn;
}

function noStream(response: Response): ServerFailed {
  return new ServerFailed({
    type: "about:blank",
    title: "",
    status: response.status,
    detail: "What answered gives no stream of events. Is the address that of Assent?",
  });
}
