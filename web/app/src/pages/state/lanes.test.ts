import { expect, test } from "vitest";
import { placed } from "./lanes.ts";

test("a branch has a line of its own until it meets the state from which it went off", () => {
  const history = [
    { id: "e", parent: "d" },
    { id: "d", parent: "a" },
    { id: "c", parent: "b" },
    { id: "b", parent: "a" },
    { id: "a", parent: null },
  ];
  const places = placed(history);
  expect(places.map((each) => each.lane)).toEqual([0, 0, 1, 1, 0]);
  expect(places[2]?.passing).toEqual([0]);
  expect(places[4]).toMatchObject({ joining: [0, 1], goesOn: false });
});
