import { visible } from "@assent/client";
import { type ReactNode, useEffect } from "react";
import { messages } from "../messages/en.ts";
import { cx } from "../parts/cx.ts";
import styles from "./Page.module.css";

/** Names the window after what is shown. What cannot be seen is told by its number there too. */
export function useTitle(title: string): void {
  useEffect(() => {
    const shown = visible(title).map(({ text, kind, codePoint }) => (kind === "unseen" ? `[${codePoint}]` : text));
    document.title = `${shown.join("")} · ${messages.name}`;
  }, [title]);
}

export interface PageProps {
  title: string;
  /** What stands under the title. */
  sub?: ReactNode;
  actions?: ReactNode;
  /** For what is read rather than scanned. */
  narrow?: boolean;
  children: ReactNode;
}

/** The frame of a page that scrolls as a whole: its title, what can be done there, what it shows. */
export function Page({ title, sub, actions, narrow, children }: PageProps) {
  useTitle(title);
  return (
    <div className={cx(styles.page, narrow && styles.narrow)}>
      <div className={styles.head}>
        <div className={styles.titles}>
          <h1 className={styles.title}>{title}</h1>
          {sub && <div className={styles.sub}>{sub}</div>}
        </div>
        {actions && <div className={styles.actions}>{actions}</div>}
      </div>
      {children}
    </div>
  );
}
