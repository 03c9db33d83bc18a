import { expect, test } from "vitest";

import { unseen, visible } from "../src/index.ts";

const marks = (text: string) =>
  visible(text)
    .filter((segment) => segment.kind !== "plain")
    .map(({ kind, codePoint, name, like }) => [kind, codePoint, like || name]);

test("a text of usual characters is one plain segment", () => {
  expect(visible("Pay 3 € to Zoë\n\tnow")).toHaveLength(1);
  expect(visible("")).toEqual([]);
});

test("the segments together are the text", () => {
  const text = "a\u200bb\u202ec\u{e0041}d\u00a0e\ufe0f";
  expect(visible(text).map((segment) => segment.text).join("")).toBe(text);
});

test("characters that are not seen are marked by number and name", () => {
  expect(marks("a\u200bb\u202e\u{e0041}\ufe0f\u0007\u2800")).toEqual([
    ["unseen", "U+200B", "zero width space"],
    ["unseen", "U+202E", "right-to-left override"],
    ["unseen", "U+E0041", "tag A"],
    ["unseen", "U+FE0F", "variation selector"],
    ["unseen", "U+0007", "bell"],
    ["unseen", "U+2800", "blank Braille pattern"],
  ]);
});

test("spaces of other kinds are marked", () => {
  expect(marks("3\u00a0000\u3000€")).toEqual([
    ["space", "U+00A0", "no-break space"],
    ["space", "U+3000", "ideographic space"],
  ]);
});

test("a letter of another script among Latin ones is marked", () => {
  expect(marks("p\u0430ypal.com")).toEqual([["alike", "U+0430", "a"]]);
  expect(marks("\u{1d41a}dmin")).toEqual([["alike", "U+1D41A", "a"]]);
});

test("a word that is all of letters that look Latin is marked", () => {
  expect(marks("pay \u0441\u0430\u0440")).toHaveLength(3);
});

test("a text in Russian or Greek is not marked", () => {
  expect(marks("Удалить старые записи, please")).toEqual([]);
  expect(marks("Διαγραφή αρχείων")).toEqual([]);
});

test("marks are counted in all texts and names of a value", () => {
  expect(unseen({ "na\u200bme": ["x\u200d", 3, null, { deep: "\u202e" }] })).toBe(3);
});
