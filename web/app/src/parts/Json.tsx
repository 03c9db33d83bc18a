/** Values of JSON as people read them: whole, folded where they are large, with their size. */

import { Fragment, useState } from "react";
import { messages } from "../messages/en.ts";
import { cx } from "./cx.ts";
import { ChevronIcon } from "./icons.tsx";
import styles from "./Json.module.css";
import { Marked } from "./Marked.tsx";
import { bytes, number } from "./times.ts";

export type JsonValue = unknown;

/** From here on a text is folded, at first: characters. */
const LONG_TEXT = 2_000;
/** What is shown of a folded text, from its beginning and from its end: characters. */
const HEAD = 600;
const TAIL = 200;
/** How many entries of an object or a list are shown before one asks for more. */
const ENTRIES = 50;
/** Items of a list that stand on one line, and characters of each. */
const SHORT_LIST = 8;
const SHORT_TEXT = 40;
/** Levels that are open at first. */
const DEPTH = 3;

const utf8 = new TextEncoder();
const sizeOf = (text: string) => utf8.encode(text).length;

/**
 * A value of JSON. Nothing of it is left out without a word: what is folded says how large it is,
 * and opens.
 */
export function Json({ value, depth = DEPTH }: { value: JsonValue; depth?: number }) {
  return (
    <div className={styles.json}>
      <Value value={value} depth={depth} />
    </div>
  );
}

function Value({ value, depth }: { value: JsonValue; depth: number }) {
  if (typeof value === "string") return <Text text={value} />;
  if (typeof value === "number") {
    const isRounded = Number.isInteger(value) && !Number.isSafeInteger(value);
    return (
      <span className={styles.number}>
        {String(value)}
        {isRounded && <span className={styles.quiet}> ({messages.json.rounded})</span>}
      </span>
    );
  }
  if (value === null || typeof value !== "object") {
    return <span className={styles.word}>{String(value)}</span>;
  }
  if (Array.isArray(value)) {
    if (isShort(value)) return <Row items={value} />;
    const entries = value.map((each, place): [string, JsonValue] => [String(place), each]);
    return <Nest entries={entries} empty="[]" depth={depth} size={messages.json.items(value.length)} />;
  }
  const entries = Object.entries(value);
  return <Nest entries={entries} empty="{}" depth={depth} size={messages.json.fields(entries.length)} />;
}

/** Whether a list stands on one line: a few numbers or short words. */
function isShort(list: unknown[]): boolean {
  const isWord = (item: unknown) =>
    typeof item === "string" ? item.length <= SHORT_TEXT : item === null || typeof item !== "object";
  return list.length > 0 && list.length <= SHORT_LIST && list.every(isWord);
}

function Row({ items }: { items: unknown[] }) {
  return (
    <span>
      {items.map((item, place) => (
        <Fragment key={place}>
          <span className={styles.quiet}>{place === 0 ? "[" : ", "}</span>
          <Value value={item} depth={0} />
        </Fragment>
      ))}
      <span className={styles.quiet}>]</span>
    </span>
  );
}

/**
 * A text, of which the middle is folded if it is long: its beginning and its end are shown. A bare
 * one stands as words, without the quotation marks of JSON.
 */
export function Text({ text, bare }: { text: string; bare?: boolean }) {
  const [open, setOpen] = useState(false);
  if (text.length <= LONG_TEXT || open) {
    return (
      <>
        <span className={bare ? styles.bare : styles.string}>
          <Marked text={text} lines />
        </span>
        {open && <Fold open onClick={() => setOpen(false)} label={messages.json.less} />}
      </>
    );
  }
  const middle = text.slice(HEAD, text.length - TAIL);
  return (
    <>
      <span className={bare ? styles.bare : styles.string}>
        <Marked text={text.slice(0, HEAD)} lines />
        <Fold
          onClick={() => setOpen(true)}
          label={messages.json.more(number(middle.length), bytes(sizeOf(middle)))}
        />
        <Marked text={text.slice(text.length - TAIL)} lines />
      </span>
    </>
  );
}

interface NestProps {
  entries: [string, JsonValue][];
  empty: string;
  depth: number;
  size: string;
}

function Nest({ entries, empty, depth, size }: NestProps) {
  const [open, setOpen] = useState(depth > 0);
  const [shown, setShown] = useState(ENTRIES);
  if (entries.length === 0) return <span className={styles.quiet}>{empty}</span>;
  const left = entries.length - shown;
  return (
    <>
      {depth < DEPTH && <Fold open={open} onClick={() => setOpen(!open)} label={size} />}
      {open && (
        <div className={styles.nest}>
          {entries.slice(0, shown).map(([key, each]) => (
            <div key={key} className={styles.row}>
              <span className={styles.key}>
                <Marked text={key} />
              </span>
              <Value value={each} depth={depth - 1} />
            </div>
          ))}
          {left > 0 && (
            <Fold
              onClick={() => setShown(shown + 4 * ENTRIES)}
              label={messages.json.moreEntries(number(left))}
            />
          )}
        </div>
      )}
    </>
  );
}

function Fold({ open, label, onClick }: { open?: boolean; label: string; onClick: () => void }) {
  return (
    <button type="button" className={cx(styles.fold, open && styles.open)} aria-expanded={open ?? false} onClick={onClick}>
      <ChevronIcon />
      {label}
    </button>
  );
}
