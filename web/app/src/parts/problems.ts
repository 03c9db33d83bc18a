/** Sentences for what went wrong, from what a request or a stream threw. */

import { Unreachable } from "@assent/client";
import { messages } from "../messages/en.ts";

interface Said {
  detail?: unknown;
  title?: unknown;
  message?: unknown;
}

/**
 * One sentence for people. A problem of the server has its own; a request that did not get there
 * says that the server cannot be reached.
 */
export function sentenceOf(error: unknown): string {
  if (error instanceof TypeError || error instanceof Unreachable) return messages.states.unreachable;
  if (typeof error === "object" && error !== null) {
    const { detail, title, message }: Said = error;
    for (const text of [detail, title, message]) {
      if (typeof text === "string" && text !== "") return text;
    }
  }
  return messages.states.unknown;
}
