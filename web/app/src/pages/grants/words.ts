/** A grant in the words of the page. */

import type { Grant } from "@assent/client";
import { messages } from "../../messages/en.ts";
import { serverNow } from "../../parts/times.ts";

const words = messages.grants;

export type Bound = Grant["bounds"][string];

/** How a grant stands: only one that is `open` answers anything. */
export type Standing = "open" | "used" | "over" | "revoked";

export function standingOf(grant: Grant, now: number = serverNow()): Standing {
  if (grant.revoked_at !== null) return "revoked";
  if (grant.used >= grant.uses) return "used";
  return Date.parse(grant.until) <= now ? "over" : "open";
}

/** What an argument may be: "at most 100", "Ada or Bob", "anything". */
export function boundText({ min, max, among, any }: Bound): string {
  if (any) return words.anything;
  if (among) return words.among(among.map((each) => (typeof each === "string" ? `“${each}”` : (JSON.stringify(each) ?? ""))));
  if (min != null && max != null) return min === max ? words.exactly(String(min)) : words.between(String(min), String(max));
  return max != null ? words.atMost(String(max)) : words.atLeast(String(min));
}
