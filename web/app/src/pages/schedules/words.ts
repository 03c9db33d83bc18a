/** A schedule in the words of the page. */

import type { Schedule } from "@assent/client";
import { messages } from "../../messages/en.ts";
import { relativeTime, serverNow } from "../../parts/times.ts";
import { sentenceOfCron } from "./cron.ts";

const words = messages.schedules;

/** "Every weekday at 09:00, Europe/Berlin". */
export function whenOf(cron: string, timezone: string): string {
  const said = sentenceOfCron(cron, words.phrases);
  const sentence = said === null ? words.expression(cron) : said.charAt(0).toUpperCase() + said.slice(1);
  return words.inZone(sentence, timezone);
}

/** The text that the schedule says to its agent; null if it gives an input of another form. */
export function textOf({ message }: Pick<Schedule, "message">): string | null {
  if (typeof message === "string") return message;
  if (!Array.isArray(message)) return null;
  const texts: string[] = [];
  for (const block of message) {
    const isText = typeof block === "object" && block !== null && "text" in block && typeof block.text === "string";
    if (isText) texts.push(block.text);
  }
  return texts.length > 0 ? texts.join("\n") : null;
}

const days = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const DAY = 24 * 60 * 60 * 1000;

/** "in 5 hr.", "in 14 days". */
export function awayOf(at: string, now: number = serverNow()): string {
  const away = Date.parse(at) - now;
  return away < 2 * DAY ? relativeTime(at, now) : days.format(Math.round(away / DAY), "day");
}

/** A time as the clocks of the schedule's zone show it: "Mon, 23 Nov, 09:00". */
export function timeIn(timezone: string, at: string): string {
  const shape = { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" } as const;
  return new Intl.DateTimeFormat("en-GB", { ...shape, timeZone: timezone, hourCycle: "h23" }).format(new Date(at));
}
