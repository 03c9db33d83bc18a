/** What happened between two views of a thread, in sentences for who listens to the page. Pure. */

import type { AgentMessage, View } from "@assent/client";
import { messages } from "../../messages/en.ts";

const words = messages.chat.news;

/** So much of a message is read aloud at once, in characters; the rest is on the page. */
const SPOKEN = 1_000;

export function newsBetween(before: View, after: View): string[] {
  const news: string[] = [];
  const from = Math.max(0, before.messages.length - NEAR);
  const unfinished = new Set(before.messages.slice(from).filter(isUnfinished).map(({ id }) => id));
  const known = new Set(before.messages.map(({ id }) => id));
  for (const message of after.messages.slice(from)) {
    const isNew = !known.has(message.id);
    if (message.role === "agent" && message.status !== "writing" && (isNew || unfinished.has(message.id))) {
      const text = textOf(message);
      if (text !== "") news.push(words.said(agentOf(after, message), text.slice(0, SPOKEN)));
    }
    if (message.role === "system" && isNew) {
      if (message.event.type === "error") news.push(words.failed(message.event.message));
      if (message.event.type === "run_cancelled") news.push(words.cancelled);
      if (message.event.type === "broadcast") news.push(message.event.message);
    }
  }
  const asked = after.pending.filter((each) => before.approvals[each.approval_id] === undefined);
  if (asked.length > 0) news.push(words.asked(asked.length));
  return news;
}

/** Only the last messages change. */
const NEAR = 30;

function isUnfinished(message: View["messages"][number]): boolean {
  return message.role === "agent" && message.status === "writing";
}

function textOf(message: AgentMessage): string {
  return message.parts.map((part) => (part.type === "text" ? part.text : "")).join(" ").trim();
}

function agentOf(view: View, message: AgentMessage): string {
  return view.runs[message.run_id]?.agent ?? "";
}
