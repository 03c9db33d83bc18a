/** What of the audit chain is shown, as the address of the page has it. */

import type { AuditRecord, Query } from "@assent/client";
import { useAddress } from "../../address.ts";

export const NAMES = ["action", "actor", "thread", "approval", "since", "until"] as const;
export type Name = (typeof NAMES)[number];
export type Filters = Record<Name, string>;

export const ACTIONS = [
  ...(["asked", "voted", "decided", "edited", "withdrawn", "delegated", "commented"] as const),
  ...(["reminded", "escalated", "expired", "superseded", "cancelled"] as const),
  ...(["granted", "revoked", "refused", "link_used", "state_written", "erased", "moved"] as const),
  ...(["signed_in", "signed_out", "auth_failed", "key_made", "key_revoked"] as const),
] satisfies readonly AuditRecord["action"][];

export function useFilters(): [Filters, (change: Partial<Filters>) => void] {
  const [address, change] = useAddress();
  const of = (name: Name) => address.get(name) ?? "";
  const filters: Filters = {
    action: of("action"),
    actor: of("actor"),
    thread: of("thread"),
    approval: of("approval"),
    since: of("since"),
    until: of("until"),
  };
  return [filters, change];
}

const DAY = /^\d{4}-\d\d-\d\d$/;

/** The beginning of a day, or its end, by the browser's clock. */
function momentOf(day: string, time: string): string | undefined {
  const at = new Date(`${day}T${time}`);
  return DAY.test(day) && !Number.isNaN(at.getTime()) ? at.toISOString() : undefined;
}

/** The question to the server. */
export function queryOf({ action, actor, thread, approval, since, until }: Filters): Query<"/audit"> {
  return {
    action: ACTIONS.find((each) => each === action),
    actor: actor || undefined,
    thread_id: thread || undefined,
    approval_id: approval || undefined,
    since: momentOf(since, "00:00:00"),
    until: momentOf(until, "23:59:59.999"),
  };
}
