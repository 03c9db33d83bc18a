import type { ReactNode } from "react";
import styles from "./Badge.module.css";
import { cx } from "./cx.ts";

/** What a colour says: the same everywhere in the page. */
export type Tone = "neutral" | "waiting" | "active" | "good" | "bad" | "model";

export interface BadgeProps {
  tone?: Tone;
  /** A dot before the words, for a state that changes. */
  dot?: boolean;
  title?: string;
  children: ReactNode;
}

export function Badge({ tone = "neutral", dot, title, children }: BadgeProps) {
  return (
    <span className={cx(styles.badge, tone !== "neutral" && styles[tone])} title={title}>
      {dot && <span className={styles.dot} aria-hidden="true" />}
      {children}
    </span>
  );
}
