import { expect, test } from "vitest";
import { clockTime, fullTime, preciseTime } from "./times.ts";

test("times have 24 hours, so that nobody takes an afternoon for a morning", () => {
  const afternoon = new Date(2026, 10, 22, 15, 3, 7, 250).toISOString();
  const midnight = new Date(2026, 10, 22, 0, 3, 7, 250).toISOString();
  expect(fullTime(afternoon)).toMatch(/^Nov 22, 2026, 15:03:07 /);
  expect(fullTime(midnight)).toMatch(/^Nov 22, 2026, 00:03:07 /);
  expect([clockTime(afternoon), preciseTime(midnight)]).toEqual(["15:03:07", "00:03:07.250"]);
});
