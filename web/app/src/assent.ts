/** The page's one connection to its server, which is the origin that the page came from. */

import { Assent } from "@assent/client";
import { learnServerTime } from "./parts/times.ts";

/** Where the page is: `/ui/`, or `/somewhere/ui/` if Assent is mounted in another app. */
const page = new URL(/* @vite-ignore */ "../", import.meta.url);

/** The path under which all routes of the page are, without a slash at its end. */
export const pagePath = page.pathname.replace(/\/$/, "");

/** The address of the API. */
export const apiUrl = new URL("../", page).href.replace(/\/$/, "");

type SignedOut = () => void;
const listeners = new Set<SignedOut>();

/** Calls `listener` when the server says that it does not know who asks; returns how to stop. */
export function onSignedOut(listener: SignedOut): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

async function watched(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const response = await fetch(input, { ...init, credentials: "same-origin" });
  learnServerTime(response.headers.get("date"));
  if (response.status === 401) for (const listener of listeners) listener();
  return response;
}

export const assent = new Assent({ url: apiUrl, fetch: watched });
