/** The conversation of a thread as it is now: read from its newest page, and followed. */

import { EMPTY, fold, type Heard, NotFound, Unauthorized, type View } from "@assent/client";
import { useCallback, useEffect, useRef, useState } from "react";
import { assent } from "../../assent.ts";
import { useSignIns } from "../../layout/SessionGate.tsx";
import type { Link } from "../../live.tsx";

type AnEvent = Exclude<Heard, { type: "gap" }>;

export interface Conversation {
  view: View;
  /** `reading` until the first of it is shown; `failed` with the `error`; `live` otherwise. */
  state: "reading" | "live" | "failed" | "missing" | "deleted";
  error: unknown;
  link: Link;
  hasOlder: boolean;
  isReadingOlder: boolean;
  readOlder: () => void;
  retry: () => void;
}

/** What comes is drawn so often at most, in milliseconds, however fast it comes. */
const BATCH = 50;
/** Where a drawing takes long, the next one waits so many times as long, so that the page answers. */
const SHARE = 4;
/** The milliseconds that a frame takes in any case. */
const FRAME = 17;
/** A page may begin within a turn. So many more are read for its beginning. */
const MORE_PAGES = 10;

interface Shown {
  view: View;
  state: Conversation["state"];
  error: unknown;
  hasOlder: boolean;
}

const NOTHING: Shown = { view: EMPTY, state: "reading", error: null, hasOlder: false };

export function useConversation(thread: string | undefined): Conversation {
  const [shown, setShown] = useState<Shown>(NOTHING);
  const [link, setLink] = useState<Link>("open");
  const [isReadingOlder, setIsReadingOlder] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const reader = useRef<Reader | null>(null);
  const retry = useCallback(() => setAttempt((before) => before + 1), []);

  useEffect(() => {
    setShown(NOTHING);
    setLink("open");
    setIsReadingOlder(false);
    if (thread === undefined) return undefined;
    const present = new Reader(thread, setShown, setLink);
    reader.current = present;
    present.run();
    return () => present.stop();
  }, [thread, attempt]);

  // Whoever has signed in again goes on reading where that had ended.
  const signIns = useSignIns();
  const isSignedOut = shown.error instanceof Unauthorized;
  const signedIn = useRef(signIns);
  useEffect(() => {
    if (isSignedOut && signedIn.current !== signIns) reader.current?.run();
    signedIn.current = signIns;
  }, [isSignedOut, signIns]);

  const readOlder = useCallback(() => {
    const present = reader.current;
    if (present === null) return;
    setIsReadingOlder(true);
    void present.readOlder().finally(() => setIsReadingOlder(false));
  }, []);

  return { ...shown, link, isReadingOlder, readOlder, retry };
}

/** Reads one thread, and shows it in batches. */
class Reader {
  readonly #thread: string;
  readonly #show: (shown: Shown) => void;
  readonly #link: (link: Link) => void;
  readonly #stopped = new AbortController();
  /** What was read so far, from the oldest page on; those before `#begin` are of a turn whose
   * beginning was not read. */
  #events: AnEvent[] = [];
  #begin = 0;
  #before: number | null = null;
  #isReading = false;
  #shown: Shown = NOTHING;
  #coming: Heard[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;
  #pause = BATCH;

  constructor(thread: string, show: (shown: Shown) => void, link: (link: Link) => void) {
    this.#thread = thread;
    this.#show = show;
    this.#link = link;
  }

  stop(): void {
    this.#stopped.abort();
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  /** Reads from where it is, and follows. */
  run(): void {
    this.#follow().catch((error: unknown) => {
      if (!this.#stopped.signal.aborted) this.#failed(error);
    });
  }

  #failed(error: unknown): void {
    this.#flush();
    const hadIt = this.#shown.state === "live";
    const state = error instanceof NotFound ? (hadIt ? "deleted" : "missing") : "failed";
    this.#set({ error, state: state === "failed" && hadIt ? "live" : state });
  }

  async #follow(): Promise<void> {
    if (this.#shown.state === "reading") await this.#readNewest();
    const told = assent.follow({
      thread: this.#thread,
      after: this.#shown.view.seq,
      share: true,
      signal: this.#stopped.signal,
      onLink: (state) => this.#link(state === "lost" || state === "retrying" ? "lost" : "open"),
    });
    this.#set({ error: null });
    for await (const batch of told.batches()) {
      this.#coming.push(...batch);
      this.#timer ??= setTimeout(() => this.#flush(), this.#pause);
    }
  }

  async #readNewest(): Promise<void> {
    await this.#readPage("end");
    await this.#readToBeginning();
    this.#refold("live");
  }

  /** Reads the page before what was read, and shows it above. */
  async readOlder(): Promise<void> {
    if (this.#isReading || this.#before === null) return;
    this.#isReading = true;
    try {
      await this.#readPage(this.#before);
      await this.#readToBeginning();
      this.#flush();
      this.#refold(this.#shown.state);
    } catch (error) {
      if (!this.#stopped.signal.aborted) this.#set({ error });
    } finally {
      this.#isReading = false;
    }
  }

  async #readPage(before: number | "end"): Promise<void> {
    const options = { signal: this.#stopped.signal };
    const page = await assent.threads.events(this.#thread, { before }, options);
    this.#events = [...page.events, ...this.#events];
    this.#before = page.more ? page.next : null;
  }

  /** Reads on until a turn begins in what was read. */
  async #readToBeginning(): Promise<void> {
    for (let pages = 0; pages < MORE_PAGES && this.#before !== null; pages += 1) {
      if (this.#events.some((event) => event.type === "run_start")) break;
      await this.#readPage(this.#before);
    }
    const begins = this.#events.findIndex((event) => event.type === "run_start");
    this.#begin = this.#before === null || begins < 0 ? 0 : begins;
  }

  #refold(state: Shown["state"]): void {
    const first = this.#events[0]?.seq ?? 1;
    const isGap = this.#before === null && first > 1;
    const events = this.#events.slice(this.#begin);
    const view = fold(EMPTY, isGap ? [{ type: "gap", first }, ...events] : events);
    this.#set({ view, state, hasOlder: this.#before !== null });
  }

  /** Shows what has come since. */
  #flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#coming.length === 0 || this.#stopped.signal.aborted) return;
    const began = performance.now();
    const events = this.#coming;
    this.#coming = [];
    for (const event of events) {
      if (event.type !== "gap") this.#events.push(event);
      else this.#removed(event.first);
    }
    this.#set({ view: fold(this.#shown.view, events), state: "live" });
    requestAnimationFrame(() => {
      const drawing = performance.now() - began - FRAME;
      this.#pause = Math.max(BATCH, SHARE * drawing);
    });
  }

  #removed(first: number): void {
    if (first <= this.#shown.view.seq) this.#events = [];
    this.#before = null;
    this.#set({ hasOlder: false });
  }

  #set(change: Partial<Shown>): void {
    if (this.#stopped.signal.aborted) return;
    this.#shown = { ...this.#shown, ...change };
    this.#show(this.#shown);
  }
}
