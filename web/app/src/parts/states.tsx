/** What stands where there is nothing to show yet, or nothing at all: drawn once for all pages. */

import { Forbidden } from "@assent/client";
import type { ReactNode } from "react";
import { messages } from "../messages/en.ts";
import { Button } from "./Button.tsx";
import { CheckIcon, InfoIcon, LockIcon, OfflineIcon, WarningIcon } from "./icons.tsx";
import { cx } from "./cx.ts";
import { sentenceOf } from "./problems.ts";
import styles from "./states.module.css";

export interface EmptyProps {
  icon?: ReactNode;
  title: string;
  children?: ReactNode;
  /** What can be done about it. */
  actions?: ReactNode;
  /** 1 where it is all that there is of a page. */
  level?: 1 | 2;
}

/** There is nothing, and that is well: what would stand here, and how it comes to be. */
export function Empty({ icon, title, children, actions, level = 2 }: EmptyProps) {
  const Heading = `h${level}` as const;
  return (
    <div className={styles.state}>
      {icon && <span className={styles.mark}>{icon}</span>}
      <Heading className={styles.title}>{title}</Heading>
      {children && <div>{children}</div>}
      {actions && <div className={styles.actions}>{actions}</div>}
    </div>
  );
}

/** The shape of what is on its way: `lines` bars, and one sentence for who listens. */
export function Loading({ lines = 6, label = messages.states.loading }: { lines?: number; label?: string }) {
  return (
    <div className={styles.skeleton} role="status">
      <span className="sr-only">{label}</span>
      {Array.from({ length: lines }, (_, line) => (
        <span key={line} className={styles.bar} aria-hidden="true" />
      ))}
    </div>
  );
}

export interface ErrorStateProps {
  error: unknown;
  title?: string;
  /** Asks once more. */
  retry?: () => void;
  actions?: ReactNode;
}

/** It is there, and not for who is here: what the server said about it. */
export function NotForYou({ children, actions }: { children: ReactNode; actions?: ReactNode }) {
  return (
    <Empty icon={<LockIcon />} title={messages.states.forbidden} actions={actions}>
      {children}
    </Empty>
  );
}

/** It could not be read: what the server said, and a way to ask again, where that may help. */
export function ErrorState({ error, title = messages.states.failed, retry, actions }: ErrorStateProps) {
  if (error instanceof Forbidden) return <NotForYou actions={actions}>{sentenceOf(error)}</NotForYou>;
  return (
    <div className={styles.state} role="alert">
      <span className={cx(styles.mark, styles.bad)}>
        <WarningIcon />
      </span>
      <h2 className={styles.title}>{title}</h2>
      <p>{sentenceOf(error)}</p>
      <div className={styles.actions}>
        {retry && <Button onClick={retry}>{messages.states.retry}</Button>}
        {actions}
      </div>
    </div>
  );
}

/** What is shown could not be read anew: it stays, and this stands over it. */
export function Stale({ error, retry }: { error: unknown; retry?: () => void }) {
  return (
    <Notice tone="waiting" urgent>
      {messages.states.stale} {sentenceOf(error)}{" "}
      {retry && (
        <Button small look="quiet" onClick={retry}>
          {messages.states.retry}
        </Button>
      )}
    </Notice>
  );
}

export interface NoticeProps {
  tone?: "neutral" | "waiting" | "bad" | "good";
  /** It came by itself, and must be heard at once. */
  urgent?: boolean;
  children: ReactNode;
}

/** A sentence about what stands beside it: a limit, a failure that left the old list, a success. */
export function Notice({ tone = "neutral", urgent, children }: NoticeProps) {
  const look = { neutral: undefined, waiting: styles.isWaiting, bad: styles.isBad, good: styles.isGood };
  const icon = { neutral: <InfoIcon />, waiting: <WarningIcon />, bad: <WarningIcon />, good: <CheckIcon /> };
  return (
    <div className={cx(styles.notice, look[tone])} role={urgent ? "alert" : undefined}>
      {icon[tone]}
      <div>{children}</div>
    </div>
  );
}

/** Says that what the server tells does not arrive, above what was shown last. */
export function LostLink({ children }: { children: ReactNode }) {
  return (
    <p className={styles.lost} role="status">
      <OfflineIcon />
      <span>{children}</span>
    </p>
  );
}
