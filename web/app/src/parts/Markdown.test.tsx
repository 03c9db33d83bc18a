import { renderToStaticMarkup } from "react-dom/server";
import ReactMarkdown from "react-markdown";
import remarkGfm from "remark-gfm";
import { expect, test } from "vitest";
import { type Blocks, blocksOf } from "./blocks.ts";
import { Markdown } from "./Markdown.tsx";

const LINES = [
  ..."|||||- item|- more *of* it|  - within|  within|* star|1. one|2. two|3) other|   third|-|- [ ] task".split("|"),
  ...["A paragraph", "lazy `code`", "# Title", "#hashtag", "---", "- - -", "===", "> said", "    indented", "\ttab"],
  ...["```", "```py", "  ```", "~~~", "x = 1", "| a | b |", "|---|---|", "| 1 | 2 |", "| `x\\|y` | z |", "a | b", "-|-"],
  ...["<div>", "</div>", "[link](https://example.com)", "**bold", "still**", "naïve", "1986. A year", "  "],
];

let seed = 7;
function below(count: number): number {
  seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
  return Math.floor((seed / 2_147_483_648) * count);
}
function anyText(lines: number): string {
  const chosen = Array.from({ length: lines }, () => LINES[below(LINES.length)] ?? "");
  return chosen.flatMap((line) => Array.from({ length: below(25) === 0 ? 40 : 1 }, () => line)).join("\n");
}

test("blocks of a text that grows are those of the whole text", () => {
  for (let round = 0; round < 200; round += 1) {
    const text = anyText(30);
    let grown: Blocks | undefined;
    for (let end = 0; end < text.length; end += 1 + below(40)) grown = blocksOf(text.slice(0, end), grown);
    grown = blocksOf(text, grown);
    expect(grown, text).toEqual(blocksOf(text));
  }
});

const whole = (text: string) => renderToStaticMarkup(<ReactMarkdown remarkPlugins={[remarkGfm]}>{text}</ReactMarkdown>);
const cut = (text: string) => renderToStaticMarkup(<Markdown text={text} />);
const lettersOf = (html: string) => html.replaceAll(/<[^>]*>|&[a-z]+;/g, "").replaceAll(/[^\p{L}]/gu, "");

test("no word of a text is lost, and none is there twice", () => {
  for (let round = 0; round < 100; round += 1) {
    const text = anyText(12).replaceAll(/\[link\].*|```py/g, "");
    expect(lettersOf(cut(text)), text).toBe(lettersOf(whole(text)));
  }
});

const many = (line: (place: number) => string) => Array.from({ length: 200 }, (_, place) => line(place)).join("\n");

test.each([
  ["a list", `Before:\n${many((place) => `- item **${place}**\n  - within\n\n  more`)}\n\nAfter`],
  ["a numbered list", many((place) => `${place + 3}. item \`${place}\``)],
  ["a table", `Before\n\n| a | b \\| c |\n|---|:-:|\n${many((place) => `| ${place} | *x* |`)}\n\nAfter`],
  ["code", `Before\n~~~py\n${many((place) => `  x = ${place} # "no" *mark*`)}\n~~~\nAfter`],
])("%s in pieces is drawn as it is whole", (_, text) => {
  const pieces = blocksOf(text).blocks.map((block) => (block.kind === "text" ? 1 : block.pieces.length));
  expect(Math.max(...pieces)).toBeGreaterThan(2);
  // Around pieces there are wrappers; between elements, line ends; and a table has several bodies.
  const plain = (html: string) =>
    html
      .replaceAll(/<\/?div[^>]*>|<\/tbody>\s*<tbody>| (tabindex|class)="[^"]*"/g, "")
      .replaceAll(/>\s+|\s+</g, (found) => found.trim());
  expect(plain(cut(text))).toBe(plain(whole(text)));
});

test.each([
  ["~~gone~~", "<del>"],
  ["- [x] done", 'type="checkbox"'],
  ["see https://assent.example/a", 'href="https://assent.example/a"'],
  ["| a |\n|--:|\n| 1 |", 'style="text-align:right"'],
])("%s is read as GitHub reads it", (text, drawn) => {
  expect(cut(text)).toContain(drawn);
  expect(whole(text)).toContain(drawn);
});
