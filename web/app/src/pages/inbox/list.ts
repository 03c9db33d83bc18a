/** Which approvals the inbox lists: what its address says, and what the server has of it. */

import type { ApprovalForYou } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { useAddress } from "../../address.ts";
import { assent } from "../../assent.ts";
import { gistOf } from "../approval/question.ts";

/** Rows that are read at once. */
export const MOST = 200;

export const VIEWS = ["mine", "waiting", "decided"] as const;
export const SORTS = ["oldest", "newest", "expiring"] as const;
export const RISKS = ["low", "medium", "high"] as const;
export const OUTCOMES = ["approved", "edited", "rejected", "responded", "expired", "cancelled", "superseded"] as const;

export type View = (typeof VIEWS)[number];
type Sort = (typeof SORTS)[number];
type Risk = (typeof RISKS)[number];
type Outcome = (typeof OUTCOMES)[number];

/** What is listed, as it stands in the address. */
export interface Wanted {
  view: View;
  sort: Sort;
  agent: string;
  tool: string;
  risk: Risk | "";
  status: Outcome | "";
  q: string;
  id: string;
}

function oneOf<Value extends string, Default extends string>(
  values: readonly Value[],
  text: string | null,
  otherwise: Default,
): Value | Default {
  return values.find((value) => value === text) ?? otherwise;
}

/** What the address says, and how to change it; what is usual is left out of it. */
export function useWanted(): [Wanted, (change: Partial<Wanted>) => void] {
  const [address, setAddress] = useAddress();
  const view = oneOf(VIEWS, address.get("view"), "mine");
  const wanted: Wanted = {
    view,
    sort: oneOf(SORTS, address.get("sort"), view === "decided" ? "newest" : "oldest"),
    agent: address.get("agent") ?? "",
    tool: address.get("tool") ?? "",
    risk: oneOf(RISKS, address.get("risk"), ""),
    status: oneOf(OUTCOMES, address.get("status"), ""),
    q: address.get("q") ?? "",
    id: address.get("id") ?? "",
  };
  const change = (parts: Partial<Wanted>) => setAddress({ ...parts, ...(parts.view === "mine" && { view: null }) });
  return [wanted, change];
}

/** How many filters are set, beside the view. */
export function filtersIn(wanted: Wanted): number {
  return [wanted.agent, wanted.tool, wanted.risk, wanted.status].filter((each) => each !== "").length;
}

export interface Listed {
  rows: ApprovalForYou[];
  /** There are more than these on the server. */
  isCut: boolean;
}

async function read({ view, sort, agent, tool, risk, status }: Wanted): Promise<Listed> {
  const isDecided = view === "decided";
  const listing = assent.approvals.list({
    sort: isDecided && sort === "expiring" ? "newest" : sort,
    limit: MOST,
    ...(isDecided ? (status === "" ? {} : { status }) : { status: "pending" }),
    ...(view === "mine" ? { mine: true } : {}),
    ...(agent === "" ? {} : { agent }),
    ...(tool === "" ? {} : { tool }),
    ...(risk === "" ? {} : { risk }),
  });
  const rows: ApprovalForYou[] = [];
  for await (const approval of listing) {
    if (isDecided && approval.status === "pending") continue;
    if (rows.length === MOST) return { rows, isCut: true };
    rows.push(approval);
  }
  return { rows, isCut: false };
}

function fits(approval: ApprovalForYou, words: string[]): boolean {
  const text = [
    approval.agent,
    approval.tool,
    approval.node,
    approval.approval_id,
    approval.requested_by.join(" "),
    approval.decided_by ?? "",
    gistOf(approval),
    JSON.stringify(approval.args),
  ];
  const whole = text.join("\n").toLowerCase();
  return words.every((word) => whole.includes(word));
}

export function useListed(wanted: Wanted) {
  const { id: _, q, ...asked } = wanted;
  const listed = useQuery({
    queryKey: ["approvals", "list", asked],
    queryFn: () => read(wanted),
  });
  const rows = useMemo(() => {
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    const all = listed.data?.rows ?? [];
    return words.length === 0 ? all : all.filter((row) => fits(row, words));
  }, [listed.data, q]);
  return { listed, rows };
}
