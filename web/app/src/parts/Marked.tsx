import { visible } from "@assent/client";
import { useMemo } from "react";
import { cx } from "./cx.ts";
import styles from "./Marked.module.css";

/**
 * A text exactly as it is: what cannot be seen, or looks like another letter, is marked with its
 * number. The text stands alone in its direction, so that it cannot reorder what is around it.
 */
export function Marked({ text, lines, className }: { text: string; lines?: boolean; className?: string }) {
  const segments = useMemo(() => visible(text), [text]);
  return (
    <bdi className={cx(styles.text, lines && styles.lines, className)}>
      {segments.map((segment, place) =>
        segment.kind === "plain" ? (
          segment.text
        ) : (
          <span key={place}>
            {segment.kind === "alike" && segment.text}
            <span className={cx(styles.mark, segment.kind === "alike" && styles.alike)} title={segment.name}>
              {segment.codePoint}
            </span>
          </span>
        ),
      )}
    </bdi>
  );
}
