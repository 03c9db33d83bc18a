/** What changed between two values, line by line, with what did not change folded away. */

import { diffLines } from "diff";
import { useMemo, useState } from "react";
import { messages } from "../messages/en.ts";
import { cx } from "./cx.ts";
import styles from "./Diff.module.css";
import { Marked } from "./Marked.tsx";

/** Unchanged lines that stay beside a change. */
const CONTEXT = 2;

interface Line {
  kind: "same" | "added" | "removed";
  text: string;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "");
}

function linesOf(before: unknown, after: unknown): Line[] {
  // Both end with a line end, so that a last line alone does not count as changed.
  const parts = diffLines(`${textOf(before)}\n`, `${textOf(after)}\n`);
  return parts.flatMap((part) => {
    const kind = part.added ? "added" : part.removed ? "removed" : "same";
    return part.value.replace(/\n$/, "").split("\n").map((text): Line => ({ kind, text }));
  });
}

/** Lines to show, and numbers of lines that are folded. */
function folded(lines: Line[]): (Line | number)[] {
  const near = lines.map((_, place) =>
    lines.slice(Math.max(0, place - CONTEXT), place + CONTEXT + 1).some(({ kind }) => kind !== "same"),
  );
  const shown: (Line | number)[] = [];
  for (const [place, line] of lines.entries()) {
    const last = shown.at(-1);
    if (near[place]) shown.push(line);
    else if (typeof last === "number") shown[shown.length - 1] = last + 1;
    else shown.push(1);
  }
  return shown;
}

const SIGNS = { same: " ", added: "+", removed: "−" };
const LOOKS = { same: undefined, added: styles.added, removed: styles.removed };

export function Diff({ before, after }: { before: unknown; after: unknown }) {
  const [whole, setWhole] = useState(false);
  const lines = useMemo(() => linesOf(before, after), [before, after]);
  const shown = whole ? lines : folded(lines);
  return (
    <div className={styles.diff}>
      {shown.map((line, place) =>
        typeof line === "number" ? (
          <button key={place} type="button" className={styles.skipped} onClick={() => setWhole(true)}>
            {messages.diff.unchanged(line)}
          </button>
        ) : (
          <div key={place} className={cx(styles.line, LOOKS[line.kind])}>
            <span className={styles.sign}>
              <span aria-hidden="true">{SIGNS[line.kind]}</span>
              {line.kind !== "same" && <span className="sr-only">{messages.diff[line.kind]}</span>}
            </span>
            <span className={styles.text}>
              <Marked text={line.text} />
            </span>
          </div>
        ),
      )}
    </div>
  );
}
