import { messages } from "../../messages/en.ts";
import styles from "./Schedules.module.css";
import { awayOf, timeIn } from "./words.ts";

/** The next times of a schedule, in its own zone, each with how far away it is. */
export function NextTimes({ times, timezone }: { times: readonly string[]; timezone: string }) {
  if (times.length === 0) return <p className={styles.quiet}>{messages.schedules.noTimes}</p>;
  return (
    <ol className={styles.times} aria-label={messages.schedules.nextTimes}>
      {times.map((at) => (
        <li key={at}>
          <time dateTime={at}>{timeIn(timezone, at)}</time>
          <span className={styles.quiet}>{awayOf(at)}</span>
        </li>
      ))}
    </ol>
  );
}
