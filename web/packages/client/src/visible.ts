/**
 * Characters of a text that a reader does not see, or takes for others.
 *
 * The rules are those of the server's own warnings, so that what is marked is what is warned of.
 */

/** `unseen`: it has no shape, or changes how the rest looks. `space`: a space of another kind than
 * the usual one. `alike`: a letter that looks like `like`, and is another. */
export type SegmentKind = "plain" | "unseen" | "space" | "alike";

/** A run of plain text, or one character that is to be marked. */
export interface Segment {
  readonly text: string;
  readonly kind: SegmentKind;
  /** Of a marked character, such as `U+200B`; else empty. */
  readonly codePoint: string;
  /** What a marked character is, in Unicode's words or by its kind; else empty. */
  readonly name: string;
  /** The letter that a look-alike looks like. */
  readonly like: string;
}

const ASCII = /^[\t\n\r\x20-\x7e]*$/;
const FORMATS = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;
const SPACES = /\p{Zs}/u;
const LETTERS = /\p{L}/u;
const LATIN = /\p{Script=Latin}/u;
const WORDS = /[\p{L}\p{M}\p{N}\p{Pc}]+/gu;
const NUMBERED = /[\p{Lu}\p{Ll}\p{Nd}\p{Nl}]/u;

/** Letters and marks that look like nothing, though Unicode counts them among the visible ones. */
const BLANK: ReadonlySet<string> = new Set(
  "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065\u2800\u3164\uffa0",
);

const LINE_BREAKS: ReadonlySet<string> = new Set("\n\t\r");

/** Letters that look like common Latin ones, and which. */
const LOOK_ALIKES: ReadonlyMap<string, string> = new Map([
  // Cyrillic
  ...pairs("асеорхуіјѕһԁԛԝӏѵ", "aceopxyijshdqwlv"),
  ...pairs("АВСЕНІЈКМОРЅТХУԚԜѴӀ", "ABCEHIJKMOPSTXYQWVI"),
  // Greek
  ...pairs("αικνορυχ", "aikvopux"),
  ...pairs("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX"),
  // Armenian
  ...pairs("հոսցօՏՍՕ", "hnugoSUO"),
  // Phonetic: Latin letters that no language writes with
  ...pairs("ɑɡ", "ag"),
]);

const SCRIPTS: readonly (readonly [string, RegExp])[] = [
  ["Latin", LATIN],
  ["Cyrillic", /\p{Script=Cyrillic}/u],
  ["Greek", /\p{Script=Greek}/u],
  ["Armenian", /\p{Script=Armenian}/u],
];

const NAMES: ReadonlyMap<number, string> = new Map([
  [0x00, "null"],
  [0x07, "bell"],
  [0x08, "backspace"],
  [0x1b, "escape"],
  [0x7f, "delete"],
  [0x85, "next line"],
  [0xa0, "no-break space"],
  [0xad, "soft hyphen"],
  [0x34f, "combining grapheme joiner"],
  [0x61c, "Arabic letter mark"],
  [0x115f, "Hangul choseong filler"],
  [0x1160, "Hangul jungseong filler"],
  [0x180e, "Mongolian vowel separator"],
  [0x2007, "figure space"],
  [0x200b, "zero width space"],
  [0x200c, "zero width non-joiner"],
  [0x200d, "zero width joiner"],
  [0x200e, "left-to-right mark"],
  [0x200f, "right-to-left mark"],
  [0x2028, "line separator"],
  [0x2029, "paragraph separator"],
  [0x202a, "left-to-right embedding"],
  [0x202b, "right-to-left embedding"],
  [0x202c, "pop directional formatting"],
  [0x202d, "left-to-right override"],
  [0x202e, "right-to-left override"],
  [0x202f, "narrow no-break space"],
  [0x2060, "word joiner"],
  [0x2061, "function application"],
  [0x2062, "invisible times"],
  [0x2063, "invisible separator"],
  [0x2064, "invisible plus"],
  [0x2066, "left-to-right isolate"],
  [0x2067, "right-to-left isolate"],
  [0x2068, "first strong isolate"],
  [0x2069, "pop directional isolate"],
  [0x2800, "blank Braille pattern"],
  [0x3000, "ideographic space"],
  [0x3164, "Hangul filler"],
  [0xfeff, "zero width no-break space"],
  [0xffa0, "half-width Hangul filler"],
]);

/** The text in pieces: plain text, and one for each character that is to be marked. */
export function visible(text: string): Segment[] {
  if (text === "") return [];
  if (ASCII.test(text)) return [plain(text)];
  const alike = lookAlikes(text);
  const segments: Segment[] = [];
  let from = 0;
  let at = 0;
  for (const char of text) {
    const segment = marked(char, alike.get(at));
    if (segment !== null) {
      if (at > from) segments.push(plain(text.slice(from, at)));
      segments.push(segment);
      from = at + char.length;
    }
    at += char.length;
  }
  if (at > from) segments.push(plain(text.slice(from)));
  return segments;
}

/** The number of characters of a value's texts and names that are to be marked. */
export function unseen(value: unknown): number {
  if (typeof value === "string") {
    return visible(value).filter((segment) => segment.kind !== "plain").length;
  }
  if (typeof value !== "object" || value === null) return 0;
  const inside = Array.isArray(value) ? value : Object.entries(value).flat();
  return inside.reduce<number>((sum, each) => sum + unseen(each), 0);
}

function plain(text: string): Segment {
  return { text, kind: "plain", codePoint: "", name: "", like: "" };
}

function marked(char: string, like: string | undefined): Segment | null {
  if (LINE_BREAKS.has(char)) return null;
  const code = char.codePointAt(0) ?? 0;
  const codePoint = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  const segment = (kind: SegmentKind, name: string): Segment => ({
    text: char,
    kind,
    codePoint,
    name,
    like: like ?? "",
  });
  if (isUnseen(char, code)) return segment("unseen", nameOf(char, code));
  if (char !== " " && SPACES.test(char)) return segment("space", NAMES.get(code) ?? "space");
  if (like !== undefined) return segment("alike", alikeName(char, like));
  return null;
}

function alikeName(char: string, like: string): string {
  const script = scriptOf(char);
  const isOther = script !== "" && script !== "Latin";
  return `${isOther ? `${script} letter` : "character"} that looks like ${like}`;
}

function isUnseen(char: string, code: number): boolean {
  return (
    FORMATS.test(char) ||
    BLANK.has(char) ||
    isVariation(code) ||
    (code >= 0xfff0 && code <= 0xfff8) ||
    // Tags, and what Unicode keeps for more of them.
    (code >= 0xe0000 && code <= 0xe0fff)
  );
}

function isVariation(code: number): boolean {
  return (code >= 0xfe00 && code <= 0xfe0f) || (code >= 0xe0100 && code <= 0xe01ef);
}

function nameOf(char: string, code: number): string {
  const named = NAMES.get(code);
  if (named !== undefined) return named;
  if (isVariation(code)) return "variation selector";
  if (code >= 0xe0020 && code <= 0xe007e) return `tag ${String.fromCodePoint(code - 0xe0000)}`;
  if (/\p{Cc}/u.test(char)) return "control character";
  if (/\p{Cs}/u.test(char)) return "half a character";
  if (/\p{Co}/u.test(char)) return "private character";
  return "invisible character";
}

/**
 * By their places, the letters that could be taken for Latin ones, each with the one that it looks
 * like: in a word that has Latin letters too, or if all that the text has of a script looks Latin.
 * So a text in Russian or Greek is not suspicious.
 */
function lookAlikes(text: string): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  for (const word of text.matchAll(WORDS)) {
    const isLatin = [...word[0]].some(isLatinLetter);
    let at = word.index;
    for (const char of word[0]) {
      const like = (isLatin ? LOOK_ALIKES.get(char) : undefined) ?? plainForm(char);
      if (like !== undefined) found.set(at, like);
      at += char.length;
    }
  }
  const disguised = disguisedScripts(text);
  let at = 0;
  for (const char of text) {
    const like = LOOK_ALIKES.get(char);
    if (like !== undefined && disguised.has(scriptOf(char))) found.set(at, like);
    at += char.length;
  }
  return found;
}

/** The scripts of which the text has only letters that look Latin. */
function disguisedScripts(text: string): ReadonlySet<string> {
  const scripts = new Map<string, boolean>();
  for (const char of text) {
    if (char <= "\x7f" || !LETTERS.test(char) || plainForm(char) !== undefined) continue;
    const script = scriptOf(char);
    scripts.set(script, (scripts.get(script) ?? true) && LOOK_ALIKES.has(char));
  }
  return new Set([...scripts].filter(([, looksLatin]) => looksLatin).map(([script]) => script));
}

function isLatinLetter(char: string): boolean {
  return LETTERS.test(char) && LATIN.test(char) && plainForm(char) === undefined;
}

function scriptOf(char: string): string {
  return SCRIPTS.find(([, letters]) => letters.test(char))?.[0] ?? "";
}

/** The ASCII letter or digit that this is another form of, such as a bold one. Raised ones, as in
 * m², are seen as what they are. */
function plainForm(char: string): string | undefined {
  if (char <= "\x7f" || !NUMBERED.test(char)) return undefined;
  const form = char.normalize("NFKC");
  return form.length === 1 && form <= "\x7f" ? form : undefined;
}

function pairs(letters: string, likes: string): [string, string][] {
  const found = [...likes];
  return [...letters].map((letter, at) => [letter, found[at] ?? ""]);
}
