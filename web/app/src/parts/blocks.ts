/**
 * The blocks of a Markdown text, cut so that a text that grows is parsed where it grows: a block that
 * is whole never changes, and a long list, table or piece of code is cut into pieces that never
 * change either, but for the last one. Pure.
 */

/** A piece of a list is of whole items, one of a table of whole rows, one of code of whole lines. */
export type Block =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "list"; readonly start: number | null; readonly pieces: readonly string[] }
  | { readonly kind: "table"; readonly head: string; readonly pieces: readonly string[] }
  | { readonly kind: "code"; readonly fence: Fence; readonly pieces: readonly string[] };

/** What code stands between, with its indent. */
export interface Fence {
  readonly sign: string;
  readonly indent: number;
  readonly isClosed: boolean;
}

export interface Blocks {
  readonly text: string;
  readonly blocks: readonly Block[];
  /** So many of them, and pieces of the one after them, never change while the text grows. */
  readonly settled: number;
  readonly pieces: number;
  /** Where what may change begins. */
  readonly at: number;
}

const NONE: Blocks = { text: "", blocks: [], settled: 0, pieces: 0, at: 0 };

/** A piece ends with the item, the row or the line in which it comes to so many characters. */
const PIECE = 1_000;

const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})/;
const FENCE_END = /^ {0,3}(`{3,}|~{3,})\s*$/;
const HEADING = /^ {0,3}#{1,6}(\s|$)/;
const RULE = /^ {0,3}([-*_])[ \t]*(\1[ \t]*){2,}\s*$/;
const ITEM = /^( {0,3})([-+*]|(\d{1,9})[.)])(?:( {1,4})(?=\S)|(?=\s|$))/;
const QUOTE_OR_HTML = /^ {0,3}[><]/;
const HTML = /^ {0,3}</;
const UNDERLINE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?\s*$/;
const PIPES = /\\[\\|]|\|/g;
const INDENTED = /^[ \t]/;

/** The blocks of a text. Those of a text with which it begins save the work of finding them again. */
export function blocksOf(text: string, before: Blocks = NONE): Blocks {
  if (text === before.text) return before;
  return new Scanner(text, text.startsWith(before.text) ? before : NONE).scanned();
}

/** The lines that stand between the fences, of one piece. */
export function codeIn({ fence, pieces }: Block & { kind: "code" }, place: number): string {
  const lines = (pieces[place] ?? "").split("\n");
  const isLast = place === pieces.length - 1;
  if (isLast && fence.isClosed) lines.splice(lines.at(-1) === "" ? -2 : -1, 1);
  if (place === 0) lines.shift();
  const indent = new RegExp(`^ {0,${fence.indent}}`);
  return lines.map((line) => line.replace(indent, "")).join("\n");
}

/** A list, a table or code that goes on. */
interface Open {
  readonly kind: "list" | "table" | "code";
  readonly pieces: string[];
  /** Of a list: the number of its first item, and the sign of all of them. */
  readonly start: number | null;
  readonly sign: string;
  /** Of a table: its first two lines. */
  readonly head: string;
  readonly fence: Fence;
}

const NO_FENCE: Fence = { sign: "", indent: 0, isClosed: false };
const OPEN = { start: null, sign: "", head: "", fence: NO_FENCE };

class Scanner {
  readonly #text: string;
  readonly #blocks: Block[];
  /** Null while the block is of another kind. */
  #open: Open | null = null;
  /** Where the present piece begins. */
  #from: number;
  /** Where the line before began, and whether it can be the head of a table. */
  #last = 0;
  #mayBeHead = false;
  #isAfterBlank = false;
  #isAfterHeading = false;
  /** Where the text of the present item stands. */
  #column = 0;

  constructor(text: string, before: Blocks) {
    this.#text = text;
    this.#from = before.at;
    this.#blocks = before.blocks.slice(0, before.settled);
    const block = before.blocks[before.settled];
    if (block === undefined || block.kind === "text" || before.pieces === 0) return;
    const sign = block.kind === "list" ? signOf(ITEM.exec(block.pieces[0] ?? "")) : "";
    const fence = block.kind === "code" ? { ...block.fence, isClosed: false } : NO_FENCE;
    this.#open = { ...OPEN, ...block, sign, fence, pieces: block.pieces.slice(0, before.pieces) };
  }

  scanned(): Blocks {
    const text = this.#text;
    const lastLine = text.lastIndexOf("\n") + 1;
    for (let begin = this.#from; begin < lastLine; ) {
      const end = text.indexOf("\n", begin);
      this.#take(text.slice(begin, end), begin, end + 1);
      this.#last = begin;
      begin = end + 1;
    }
    // What the last line is may turn out otherwise while it grows.
    const settled = this.#blocks.length;
    const pieces = this.#open?.pieces.length ?? 0;
    const at = this.#from;
    if (lastLine < text.length) this.#take(text.slice(lastLine), lastLine, text.length);
    this.#close(text.length);
    return { text, blocks: this.#blocks, settled, pieces, at };
  }

  /** One line, from the one place to the other. */
  #take(line: string, begin: number, next: number): void {
    const kind = this.#open?.kind;
    if (kind === "code") return this.#code(line, begin, next);
    if (line.trim() === "") return this.#blank();
    const item = RULE.test(line) ? null : ITEM.exec(line);
    if (kind === "list" && this.#isInList(line, item, begin)) return;
    if (kind === "table" && !this.#isAfterBlank && !isBeginning(line, item)) return this.#cut(begin);
    this.#begin(line, item, begin);
  }

  #blank(): void {
    this.#isAfterBlank = true;
    this.#isAfterHeading = false;
    this.#mayBeHead = false;
  }

  #code(line: string, begin: number, next: number): void {
    const { fence, pieces } = this.#open ?? { fence: NO_FENCE, pieces: [] };
    const isOpening = begin === this.#from && pieces.length === 0;
    if (!isOpening && FENCE_END.exec(line)?.[1]?.startsWith(fence.sign)) {
      if (this.#open !== null) this.#open = { ...this.#open, fence: { ...fence, isClosed: true } };
      this.#close(next);
    } else {
      this.#cut(begin);
    }
  }

  #isInList(line: string, item: RegExpExecArray | null, begin: number): boolean {
    const isAfterBlank = this.#isAfterBlank;
    const isResumed = begin === this.#from;
    if (!isResumed && indentOf(line) >= this.#column) {
      this.#isAfterBlank = false;
      return true;
    }
    if (item !== null && signOf(item) === this.#open?.sign) {
      this.#isAfterBlank = false;
      this.#cut(begin);
      this.#column = columnOf(item);
      return true;
    }
    // A paragraph goes on in a line that begins nothing, wherever that stands.
    return !isAfterBlank && !isBeginning(line, item);
  }

  /** A line of none of them, or one with which another block begins. */
  #begin(line: string, item: RegExpExecArray | null, begin: number): void {
    const isFirst = this.#open !== null || begin === this.#from;
    const isAnew = isFirst || (this.#isAfterBlank && !INDENTED.test(line));
    const canInterrupt = isAnew || !this.#isHtml();
    const isHeading = HEADING.test(line);
    const fence = canInterrupt ? FENCE.exec(line) : null;
    if (fence !== null) {
      const [, indent = "", sign = ""] = fence;
      this.#start(begin, { ...OPEN, kind: "code", pieces: [], fence: { sign, indent: indent.length, isClosed: false } });
    } else if (item !== null && canInterrupt && (isAnew || this.#isAfterHeading || interrupts(item, line))) {
      const start = item[3] === undefined ? null : Number(item[3]);
      this.#start(begin, { ...OPEN, kind: "list", pieces: [], start, sign: signOf(item) });
      this.#column = columnOf(item);
    } else if (isAnew || (isHeading && canInterrupt)) {
      this.#start(begin, null);
    } else if (this.#mayBeHead && isTable(this.#text.slice(this.#last, begin - 1), line)) {
      const head = `${this.#text.slice(this.#last, begin + line.length)}\n`;
      this.#start(this.#last, { ...OPEN, kind: "table", pieces: [], head });
    }
    this.#isAfterBlank = false;
    this.#isAfterHeading = isHeading;
    const isPlain = this.#open === null && !isBeginning(line, item) && !/^ {4}|^\t/.test(line);
    this.#mayBeHead = isPlain && line.includes("|") && !this.#isHtml();
  }

  #isHtml(): boolean {
    return HTML.test(this.#text.slice(this.#from, this.#from + 4));
  }

  /** Begins a block here. */
  #start(begin: number, open: Open | null): void {
    this.#close(begin);
    this.#open = open;
  }

  /** Begins a piece here, if the present one is long enough. */
  #cut(begin: number): void {
    if (begin - this.#from < PIECE) return;
    this.#open?.pieces.push(this.#text.slice(this.#from, begin));
    this.#from = begin;
  }

  /** Ends the block here. */
  #close(end: number): void {
    const open = this.#open;
    const text = this.#text.slice(this.#from, end);
    this.#from = end;
    this.#open = null;
    if (open === null) {
      if (text.trim() !== "") this.#blocks.push({ kind: "text", text });
      return;
    }
    const { kind, start, head, fence } = open;
    const pieces = text === "" ? open.pieces : [...open.pieces, text];
    if (kind === "list") this.#blocks.push({ kind, start, pieces });
    else if (kind === "table") this.#blocks.push({ kind, head, pieces });
    else this.#blocks.push({ kind, fence, pieces });
  }
}

/** Whether a line begins a block, also within a paragraph. */
function isBeginning(line: string, item: RegExpExecArray | null): boolean {
  if (item !== null || QUOTE_OR_HTML.test(line)) return true;
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line);
}

/** An item within a paragraph is one only with a text, and the first number. */
function interrupts(item: RegExpExecArray, line: string): boolean {
  const [found, , , number] = item;
  return (number === undefined || Number(number) === 1) && line.slice(found.length).trim() !== "";
}

function signOf(item: RegExpExecArray | null): string {
  return item?.[2]?.at(-1) ?? "";
}

function columnOf(item: RegExpExecArray): number {
  const [, indent = "", sign = "", , spaces = " "] = item;
  return indent.length + sign.length + spaces.length;
}

function indentOf(line: string): number {
  let indent = 0;
  for (const letter of line) {
    if (letter === " ") indent += 1;
    else if (letter === "\t") indent += 4 - (indent % 4);
    else break;
  }
  return indent;
}

function isTable(head: string, underline: string): boolean {
  const isUnderline = underline.includes("|") && UNDERLINE.test(underline);
  return isUnderline && cellsOf(head) === cellsOf(underline);
}

function cellsOf(line: string): number {
  const row = line.trim().replace(/^\|/, "");
  const pipes = [...row.matchAll(PIPES)].filter(([found]) => found === "|");
  const isClosed = pipes.at(-1)?.index === row.length - 1;
  return pipes.length + (isClosed ? 0 : 1);
}
