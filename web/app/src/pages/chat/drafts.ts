/** What was written and not sent yet, by conversation: kept in this tab over reloads and crashes. */

import { useCallback, useRef, useState } from "react";
import { isSentFile, type SentFile } from "./rows.ts";

export interface Draft {
  text: string;
  files: SentFile[];
}

export const EMPTY_DRAFT: Draft = { text: "", files: [] };

/** The name under which a message of no thread yet is kept. */
const NEW = "new";

const keyOf = (thread: string | undefined) => `assent.draft.${thread ?? `.${NEW}`}`;

function readDraft(thread: string | undefined): Draft {
  try {
    const kept: unknown = JSON.parse(sessionStorage.getItem(keyOf(thread)) ?? "null");
    if (typeof kept !== "object" || kept === null) return EMPTY_DRAFT;
    const { text, files }: { text?: unknown; files?: unknown } = kept;
    return {
      text: typeof text === "string" ? text : "",
      files: Array.isArray(files) ? files.filter(isSentFile) : [],
    };
  } catch {
    return EMPTY_DRAFT;
  }
}

/** Keeps it as the draft of the conversation. */
export function keepDraft(thread: string | undefined, draft: Draft): void {
  const isEmpty = draft.text === "" && draft.files.length === 0;
  try {
    if (isEmpty) sessionStorage.removeItem(keyOf(thread));
    else sessionStorage.setItem(keyOf(thread), JSON.stringify(draft));
  } catch {
    // A tab without room to keep it has it as long as it is open.
  }
}

/** The draft of the conversation, and how to change it. Give the component a key per thread. */
export function useDraft(thread: string | undefined): [Draft, (change: (draft: Draft) => Draft) => void] {
  const [draft, setDraft] = useState(() => readDraft(thread));
  const latest = useRef(draft);
  // Also once the conversation is closed: what was sent by then is no draft of it any more.
  const change = useCallback(
    (changed: (draft: Draft) => Draft) => {
      latest.current = changed(latest.current);
      keepDraft(thread, latest.current);
      setDraft(latest.current);
    },
    [thread],
  );
  return [draft, change];
}

const queuedKey = (runId: string) => `assent.queued.${runId}`;

/** Keeps the words of a run that waits its turn: the server shows them when it begins. */
export function keepQueued(runId: string, text: string): void {
  try {
    sessionStorage.setItem(queuedKey(runId), text);
  } catch {
    // Then it is shown without its words.
  }
}

export function queuedText(runId: string): string | null {
  return sessionStorage.getItem(queuedKey(runId));
}

export function forgetQueued(runId: string): void {
  sessionStorage.removeItem(queuedKey(runId));
}
