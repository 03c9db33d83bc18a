import type { Thread } from "@assent/client";
import { messages } from "../../messages/en.ts";

const began = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** The title of a conversation; one without has the time at which it began. */
export function titleOf(thread: Thread): string {
  return thread.title || messages.chat.threads.untitled(began.format(new Date(thread.created_at)));
}
