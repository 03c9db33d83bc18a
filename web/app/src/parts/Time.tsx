import { useEffect, useState } from "react";
import { messages } from "../messages/en.ts";
import { clockTime, duration, fullTime, preciseTime, relativeTime, serverNow } from "./times.ts";
import styles from "./Time.module.css";
import { cx } from "./cx.ts";

const SECOND = 1000;

/** One clock for all times of the page: each of its readers is told once every `interval`. */
export function useNow(interval: number): number {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    const timer = setInterval(() => setNow(serverNow()), interval);
    return () => clearInterval(timer);
  }, [interval]);
  return now;
}

/** A time: how long ago, or the clock's with seconds or milliseconds; the full one is behind it. */
export function Time({ at, exact, precise }: { at: string; exact?: boolean; precise?: boolean }) {
  // A tick only draws anew: what came since the last one would seem to lie ahead of it.
  useNow(20 * SECOND);
  return (
    <time dateTime={at} title={fullTime(at)} className={styles.time}>
      {precise ? preciseTime(at) : exact ? clockTime(at) : relativeTime(at)}
    </time>
  );
}

/** How long is left until `to`, each second; the last fifth of an hour in the colour of waiting. */
export function Countdown({ to }: { to: string }) {
  const now = useNow(SECOND);
  const left = Date.parse(to) - now;
  if (left <= 0) return <span className={cx(styles.time, styles.over)}>{messages.time.over}</span>;
  const soon = left < 12 * 60 * SECOND;
  return (
    <time dateTime={to} title={fullTime(to)} className={cx(styles.time, soon && styles.soon)}>
      {messages.time.left(duration(Math.floor(left / SECOND) * SECOND))}
    </time>
  );
}

/** Whether the time `at` is over by the server's clock; false without one. */
export function useIsOver(at: string | null): boolean {
  const now = useNow(SECOND);
  return at !== null && Date.parse(at) <= now;
}
