/** One person at a time in a browser: what stands in one of its tabs is not left to the next one. */

import { apiUrl } from "../assent.ts";

/** Where this tab keeps what was written in it, and whose it is. */
const KEPT = "assent.";
const WHOSE = "assent.person";

/** All tabs of this server. They share its cookie, and so who is here. */
const NAME = `assent person ${apiUrl}`;

/** Tells the other tabs who is here now, null if nobody is. */
export function tellOthers(name: string | null): void {
  const channel = new BroadcastChannel(NAME);
  channel.postMessage(name);
  channel.close();
}

/** Calls `onOther` when another tab tells that somebody else is here, or nobody; returns how to stop. */
export function watchPerson(name: string, onOther: () => void): () => void {
  const channel = new BroadcastChannel(NAME);
  channel.onmessage = ({ data }: MessageEvent<unknown>) => {
    if (data !== name) onOther();
  };
  return () => channel.close();
}

/** Makes what is kept in this tab that of the person: what somebody else has written is removed. */
export function keepFor(name: string): void {
  try {
    if (sessionStorage.getItem(WHOSE) === name) return;
    forgetKept();
    sessionStorage.setItem(WHOSE, name);
  } catch {
    // Then nothing is kept there.
  }
}

/** Removes what is kept in this tab. */
export function forgetKept(): void {
  try {
    const names = Object.keys(sessionStorage).filter((each) => each.startsWith(KEPT));
    for (const name of names) sessionStorage.removeItem(name);
  } catch {
    // Then nothing is kept there.
  }
}
