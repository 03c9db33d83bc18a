/** Sends what a person says, in the way that they chose where something runs or waits. */

import { newKey, type Run, type RunMessage, type RunOptions, ThreadBusy, ThreadPaused } from "@assent/client";
import { useMutation } from "@tanstack/react-query";
import { useRef } from "react";
import { assent } from "../../assent.ts";
import type { Draft } from "./drafts.ts";
import { FILES } from "./rows.ts";

/**
 * What becomes of what runs or waits, when something is said: `say` changes neither, and is refused
 * where anything does. None of them approves anything.
 */
export type Way = "say" | "after" | "instead" | "wait" | "reject" | "drop";

const OPTIONS: Record<Way, RunOptions> = {
  say: {},
  after: { on_busy: "enqueue" },
  instead: { on_busy: "interrupt" },
  wait: { if_paused: "wait", on_busy: "enqueue" },
  reject: { if_paused: "reject" },
  drop: { if_paused: "cancel" },
};

/** What stands in the way of a message that is merely said. */
export type Obstacle = "busy" | "paused";

export function obstacleIn(error: unknown): Obstacle | null {
  if (error instanceof ThreadPaused) return "paused";
  if (error instanceof ThreadBusy) return "busy";
  return null;
}

function messageOf({ text, files }: Draft): RunMessage {
  if (files.length === 0) return text;
  const blocks = files.map(({ file_id, name, mime_type }) => {
    const type = ["image", "audio", "video"].find((each) => mime_type.startsWith(`${each}/`)) ?? "file";
    return { type, file_id, mime_type, filename: name };
  });
  return text === "" ? blocks : [{ type: "text", text }, ...blocks];
}

export interface Sent {
  run: Run;
  way: Way;
  draft: Draft;
}

interface Wish {
  draft: Draft;
  way: Way;
}

export function useSending(thread: string | undefined, agent: string | undefined, onSent: (sent: Sent) => void) {
  // A message whose answer was lost is sent again under the same key, so it is said once.
  const last = useRef({ same: "", key: "" });
  return useMutation({
    mutationFn: async ({ draft, way }: Wish): Promise<Sent> => {
      const message = messageOf(draft);
      const options: RunOptions = {
        ...OPTIONS[way],
        ...(thread === undefined ? {} : { thread_id: thread }),
        ...(thread === undefined && agent !== undefined ? { agent } : {}),
        ...(draft.files.length === 0 ? {} : { metadata: { [FILES]: draft.files } }),
      };
      const same = JSON.stringify([message, options]);
      if (last.current.same !== same) last.current = { same, key: newKey() };
      const run = await assent.runs.start(message, options, { idempotencyKey: last.current.key });
      last.current = { same: "", key: "" };
      return { run, way, draft };
    },
    onSuccess: onSent,
  });
}
