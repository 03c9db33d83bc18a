/**
 * What somebody has begun to say about each approval: kept while they look at another one, while a
 * decision is on its way, and after it was refused.
 */

import type { AlreadyDecided, Approval, Decision } from "@assent/client";
import { useCallback, useSyncExternalStore } from "react";

/**
 * What stands open below what is asked. Of what is armed, `digest` is of what was shown then, and
 * `by` is how it was armed: a key of the list, or a button.
 */
export type Open =
  | { kind: "armed"; decision: Decision; digest: string; by: "key" | "button"; risk: string; from: Open | null }
  | { kind: "reject" }
  | { kind: "respond" }
  | { kind: "edit" };

export interface Draft {
  open: Open | null;
  /** Why it is to be rejected. */
  reason: string;
  /** What is answered in the place of a tool. */
  result: string;
  /** The answer to a question: as text, or as JSON, or the value of its form. */
  answer: string;
  answerForm: unknown;
  /** How it is given; the usual way if nobody has chosen. */
  answerWay: "text" | "json" | "form" | null;
  /** The arguments to run with; undefined until something is written. */
  args: Record<string, unknown> | undefined;
  /** The same as they are written, if they are written as JSON. */
  argsText: string | undefined;
  busy: boolean;
  /** Why the last decision was not taken. */
  refusal: unknown;
  /** Who was faster. */
  lost: AlreadyDecided | null;
  /** What became of the last decision, until the list is read anew. */
  now: Approval | null;
  /** The digest of what the reader's own edit, sent from here, has made of it. */
  own: string | null;
  /** A sentence about the last thing that was done. */
  told: string | null;
}

const EMPTY: Draft = {
  open: null,
  reason: "",
  result: "",
  answer: "",
  answerForm: undefined,
  answerWay: null,
  args: undefined,
  argsText: undefined,
  busy: false,
  refusal: null,
  lost: null,
  now: null,
  own: null,
  told: null,
};

const drafts = new Map<string, Draft>();
const listeners = new Set<() => void>();

export function draftOf(approvalId: string): Draft {
  return drafts.get(approvalId) ?? EMPTY;
}

export function changeDraft(approvalId: string, change: Partial<Draft>): void {
  drafts.set(approvalId, { ...draftOf(approvalId), ...change });
  for (const listener of listeners) listener();
}

/** Takes back what is armed: nobody is ready for it who has looked elsewhere, or at something else. */
export function disarm(approvalId: string): void {
  const { open, busy } = draftOf(approvalId);
  if (open?.kind === "armed" && !busy) changeDraft(approvalId, { open: open.from });
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The draft about an approval, and how to change it. */
export function useDraft(approvalId: string): [Draft, (change: Partial<Draft>) => void] {
  const draft = useSyncExternalStore(subscribe, () => draftOf(approvalId));
  const change = useCallback(
    (parts: Partial<Draft>) => changeDraft(approvalId, parts),
    [approvalId],
  );
  return [draft, change];
}
