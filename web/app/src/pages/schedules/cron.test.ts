import { describe, expect, it } from "vitest";
import { messages } from "../../messages/en.ts";
import { cronOf, rhythmOf, sentenceOfCron } from "./cron.ts";

const said = (expression: string) => sentenceOfCron(expression, messages.schedules.phrases);

describe("a cron expression in words", () => {
  it.each([
    ["0 9 * * MON-FRI", "every weekday at 09:00"],
    ["30 9 * * 1-5", "every weekday at 09:30"],
    ["0 9 * * *", "every day at 09:00"],
    ["0 9,17 * * *", "every day at 09:00 and 17:00"],
    ["0 9 * * 1,4", "every Monday and Thursday at 09:00"],
    ["0 9 * * 7", "every Sunday at 09:00"],
    ["0 9 * * sat,sun", "every Saturday and Sunday at 09:00"],
    ["0 9 * * FRI#2", "on the second Friday of the month at 09:00"],
    ["0 9 1,15 * *", "on day 1 and 15 of the month at 09:00"],
    ["0 9 L * *", "on the last day of the month at 09:00"],
    ["0 9 LW * *", "on the last weekday of the month at 09:00"],
    ["0 9 1 JAN *", "on day 1 of the month, in January at 09:00"],
    ["0 * * * *", "every hour, on the hour"],
    ["5 * * * *", "every hour, 5 minutes past"],
    ["*/15 * * * *", "every 15 minutes"],
    ["*/15 * * * MON-FRI", "every 15 minutes, every weekday"],
    ["0 */2 * * *", "every 2 hours, on the hour"],
    ["* * * * *", "every minute"],
  ])("%s", (expression, sentence) => {
    expect(said(expression)).toBe(sentence);
  });

  it.each(["*/7 * * * *", "0 */5 * * *", "0 9 1 * MON", "0 0 9 * * *", "0 9-17 * * *", "9", "", "0 9 * * FUNDAY", "99 9 * * *"])(
    "%s is left to its next times",
    (expression) => {
      expect(said(expression)).toBeNull();
    },
  );
});

it("a choice and its expression are one", () => {
  for (const expression of ["5 * * * *", "30 9 * * *", "0 9 * * MON-FRI", "0 9 * * MON,SUN", "15 7 31 * *", "15 7 L * *"]) {
    const rhythm = rhythmOf(expression);
    expect(rhythm && rhythmOf(cronOf(rhythm))).toEqual(rhythm);
    expect(rhythm).not.toBeNull();
  }
  for (const expression of ["*/15 * * * *", "0 9 1 * MON", "0 9 * JAN *", "0 0 9 * * *"]) expect(rhythmOf(expression)).toBeNull();
});
