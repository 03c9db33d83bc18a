import type { ReactNode } from "react";
import { useId } from "react";
import { cx } from "./cx.ts";
import styles from "./Panel.module.css";

export interface PanelProps {
  title?: ReactNode;
  actions?: ReactNode;
  /** Without space around what it holds: for lists and tables. */
  flush?: boolean;
  className?: string;
  children: ReactNode;
}

/** A part of a page with a border of its own, and a heading if it has a title. */
export function Panel({ title, actions, flush, className, children }: PanelProps) {
  const heading = useId();
  return (
    <section className={cx(styles.panel, className)} aria-labelledby={title ? heading : undefined}>
      {title && (
        <div className={styles.head}>
          <h2 id={heading} className={styles.title}>
            {title}
          </h2>
          {actions}
        </div>
      )}
      <div className={flush ? styles.flush : styles.body}>{children}</div>
    </section>
  );
}

/** Names and values, one beside the other; what is null or undefined is left out. */
export function Facts({ of }: { of: [name: string, value: ReactNode][] }) {
  const there = of.filter(([, value]) => value !== null && value !== undefined && value !== false);
  return (
    <dl className={styles.facts}>
      {there.map(([name, value]) => (
        <Fact key={name} name={name} value={value} />
      ))}
    </dl>
  );
}

function Fact({ name, value }: { name: string; value: ReactNode }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </>
  );
}
