/**
 * One stream for all tabs of a browser that follow the same.
 *
 * A browser opens six connections to a server over HTTP/1.1, for all of its tabs. So of the tabs
 * that follow the same log, the one that holds a lock reads it, and tells the others what came over
 * a channel of the browser. All locks of all logs share a few slots; who holds a log and gets no
 * slot asks for pages, once a second. Each tab begins with pages of its own, and asks for one
 * whenever something is missing: what another tab tells only ever says that there is more.
 */

import type { Event } from "./api.ts";
import {
  follow,
  listening,
  page,
  persisting,
  rested,
  stream,
  type FollowOptions,
  type Heard,
  type Listener,
  type Place,
} from "./follow.ts";
import type { Wire } from "./wire.ts";

/** Streams of a browser at one time; the other two of its six connections are for requests. */
const SLOTS = 4;
const POLL = 1_000;
/** Without a word from the tab that reads for so long, a tab asks for pages itself. */
const SILENCE = 15_000;
/** What came within so many milliseconds is told together. */
const TOGETHER = 50;

/** What the tab that reads tells: events that begin behind the number `from`, up to `to`. */
interface Told {
  readonly from: number;
  readonly to: number;
  readonly events: Event[];
}

/** Batches of events at the place, by one stream for all tabs. */
export async function* shared(
  wire: Wire,
  place: Place,
  options: FollowOptions,
): AsyncGenerator<Heard[], void, undefined> {
  const locks = globalThis.navigator?.locks;
  // Pages that came by plain HTTP from another machine have no locks.
  if (!locks || typeof BroadcastChannel === "undefined") {
    yield* follow(wire, place, options);
    return;
  }
  const listener = listening(options);
  const tab = new Tab(wire, place, locks);
  try {
    yield* persisting(wire, place, options.signal, listener, (signal) =>
      tab.batches(signal, listener),
    );
  } finally {
    tab.close();
  }
}

class Tab {
  readonly #wire: Wire;
  readonly #place: Place;
  readonly #locks: LockManager;
  readonly #channel: BroadcastChannel;
  readonly #name: string;
  #told: Told[] = [];
  #toldAt = 0;
  #untold: Told | null = null;
  #woken = () => {};

  constructor(wire: Wire, place: Place, locks: LockManager) {
    this.#wire = wire;
    this.#place = place;
    this.#locks = locks;
    this.#name = `assent ${wire.base}${place.path} ${place.types?.join(",") ?? ""}`;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = (message: MessageEvent<Told>) => {
      this.#told.push(message.data);
      this.#toldAt = wire.around.now();
      this.#woken();
    };
  }

  close(): void {
    this.#tellAll();
    this.#channel.close();
  }

  /** What comes until something fails. */
  async *batches(
    signal: AbortSignal,
    listener: Listener,
  ): AsyncGenerator<Heard[], void, undefined> {
    const over = new AbortController();
    const end = () => over.abort();
    signal.addEventListener("abort", end, { once: true });
    try {
      yield* this.#caughtUp(over.signal);
      listener.link("open");
      const held = new Held(this.#locks, this.#name, over.signal, () => this.#woken());
      yield* this.#listened(held, over.signal);
      if (!over.signal.aborted) yield* this.#read(over.signal, listener);
    } finally {
      signal.removeEventListener("abort", end);
      over.abort();
    }
  }

  /** Pages up to what there is now. */
  async *#caughtUp(signal: AbortSignal): AsyncGenerator<Heard[], void, undefined> {
    for (let more = true; more && !signal.aborted; ) {
      const found = await page(this.#wire, this.#place, signal);
      more = found.more;
      if (found.heard.length > 0) yield found.heard;
    }
  }

  /** What another tab reads, until this one may. */
  async *#listened(held: Held, signal: AbortSignal): AsyncGenerator<Heard[], void, undefined> {
    this.#toldAt = this.#wire.around.now();
    while (!held.isHeld && !signal.aborted) {
      const told = this.#told.shift();
      if (told !== undefined) {
        if (told.from > this.#place.after) yield* this.#caughtUp(signal);
        const heard = this.#place.take(told.events);
        this.#place.read(told.to);
        if (heard.length > 0) yield heard;
      } else if (this.#wire.around.now() - this.#toldAt > SILENCE) {
        yield* this.#caughtUp(signal);
        this.#toldAt = this.#wire.around.now();
      } else {
        await this.#somethingToHear(signal);
      }
    }
  }

  async #somethingToHear(signal: AbortSignal): Promise<void> {
    const awake = new AbortController();
    const wake = () => awake.abort();
    this.#woken = wake;
    signal.addEventListener("abort", wake, { once: true });
    await this.#wire.around.sleep(SILENCE, awake.signal);
    signal.removeEventListener("abort", wake);
    this.#woken = () => {};
  }

  /** What this tab reads, for itself and the others. */
  async *#read(signal: AbortSignal, listener: Listener): AsyncGenerator<Heard[], void, undefined> {
    this.#told = [];
    for (;;) {
      const slot = await freeSlot(this.#locks, signal);
      if (slot === null) {
        yield* this.#tellingOf(this.#caughtUp(signal));
        await rested(this.#wire, POLL, signal);
      } else {
        try {
          const beats = { ...listener, alive: () => this.#tell(this.#place.after, []) };
          yield* this.#tellingOf(stream(this.#wire, this.#place, signal, beats));
        } finally {
          slot();
        }
      }
      if (signal.aborted || this.#place.isOver) return;
    }
  }

  async *#tellingOf(
    batches: AsyncGenerator<Heard[], void, undefined>,
  ): AsyncGenerator<Heard[], void, undefined> {
    let from = this.#place.after;
    for await (const batch of batches) {
      const events = batch.filter((heard) => heard.type !== "gap");
      this.#tell(from, events);
      from = this.#place.after;
      yield batch;
    }
  }

  #tell(from: number, events: readonly Event[]): void {
    const to = this.#place.after;
    if (this.#untold === null) {
      this.#untold = { from, to, events: [...events] };
      setTimeout(() => this.#tellAll(), TOGETHER);
    } else {
      this.#untold.events.push(...events);
      this.#untold = { ...this.#untold, to };
    }
  }

  #tellAll(): void {
    if (this.#untold !== null) this.#channel.postMessage(this.#untold);
    this.#untold = null;
  }
}

/** A lock that is waited for, and held until the signal is aborted. */
class Held {
  isHeld = false;

  constructor(locks: LockManager, name: string, signal: AbortSignal, got: () => void) {
    const hold = async () => {
      this.isHeld = true;
      got();
      await aborted(signal);
    };
    // What it is refused for is that the signal was aborted.
    locks.request(name, { signal }, hold).catch(() => {});
  }
}

/** A slot for a stream, as what gives it back; null if all are taken. */
async function freeSlot(locks: LockManager, signal: AbortSignal): Promise<(() => void) | null> {
  for (let number = 1; number <= SLOTS; number += 1) {
    const given = new AbortController();
    const slot = await new Promise<(() => void) | null>((done) => {
      const take = async (lock: Lock | null) => {
        if (lock === null) return done(null);
        done(() => given.abort());
        await Promise.race([aborted(given.signal), aborted(signal)]);
      };
      locks.request(`assent stream ${number}`, { ifAvailable: true }, take).catch(() => done(null));
    });
    if (slot !== null) return slot;
  }
  return null;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    else signal.addEventListener("abort", () => done(), { once: true });
  });
}
