import type { RunState, View } from "@assent/client";
import { useMemo, useState, useSyncExternalStore } from "react";
import { messages } from "../../messages/en.ts";
import { cx } from "../../parts/cx.ts";
import { Dialog } from "../../parts/Dialog.tsx";
import { IconButton } from "../../parts/Button.tsx";
import { CrossIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Rows } from "../../parts/Rows.tsx";
import { useNow } from "../../parts/Time.tsx";
import { clockTime, duration } from "../../parts/times.ts";
import { lookOf, titleOf } from "./looks.tsx";
import { SpanDetails } from "./SpanDetails.tsx";
import styles from "./Timeline.module.css";
import { barOf, lengthOf, type Row, type Stretch, type Tick, ticksOf, waterfall } from "./waterfall.ts";

const words = messages.run;

/** A row at rest, and one that moves as long as something goes on. */
const ROW_HEIGHT = 32;
const AT_WORK = 500;
const AT_REST = 60_000;

const wide = matchMedia("(min-width: 64rem)");
function useIsWide(): boolean {
  const subscribe = (listener: () => void) => {
    wide.addEventListener("change", listener);
    return () => wide.removeEventListener("change", listener);
  };
  return useSyncExternalStore(subscribe, () => wide.matches);
}

export interface TimelineProps {
  view: View;
  runs: readonly RunState[];
  /** The run that the page is about: others are its neighbours. */
  runId: string;
  form: "picture" | "list";
  selected: string | null;
  onSelect: (id: string | null) => void;
}

/** The life of a run as a waterfall, or as a list that says the same. */
export function Timeline({ view, runs, runId, form, selected, onSelect }: TimelineProps) {
  const [isAtWork, setIsAtWork] = useState(true);
  const now = useNow(isAtWork ? AT_WORK : AT_REST);
  const picture = useMemo(() => waterfall(view, runs, now), [view, runs, now]);
  const goesOn = picture.rows.some((row) => row.to === null);
  if (goesOn !== isAtWork) setIsAtWork(goesOn);
  const isWide = useIsWide();
  const chosen = picture.rows.find((row) => row.id === selected);
  const { rows, stretches } = picture;

  const details = chosen && <SpanDetails row={chosen} view={view} now={now} />;
  return (
    <div className={cx(styles.timeline, chosen && isWide && styles.beside)}>
      <div className={styles.picture}>
        {form === "picture" ? <Axis stretches={stretches} /> : <Columns />}
        <Rows items={rows} keyOf={(row) => row.id} estimate={ROW_HEIGHT} label={words.timeline}>
          {(row) => {
            const isOther = row.kind === "run" && row.run.run_id !== runId;
            const props = { row, now, isOther, isSelected: row.id === selected, onSelect };
            return form === "picture" ? <Line {...props} stretches={stretches} /> : <Entry {...props} />;
          }}
        </Rows>
      </div>
      {chosen && isWide && (
        <aside className={styles.aside} aria-label={words.details.title}>
          <div className={styles.close}>
            <IconButton small label={messages.actions.close} onClick={() => onSelect(null)}>
              <CrossIcon />
            </IconButton>
          </div>
          {details}
        </aside>
      )}
      {!isWide && (
        <Dialog open={chosen !== undefined} onOpenChange={() => onSelect(null)} title={words.details.title}>
          {details}
        </Dialog>
      )}
    </div>
  );
}

const percent = (part: number) => `${(part * 100).toFixed(3)}%`;

/** About one tick for each tenth of the width. */
const TICKS = 8;

function tickLabel({ after, isAnew }: Tick): string {
  if (after === 0) return isAnew ? "+0" : "0";
  return `${isAnew ? "+" : ""}${duration(after)}`;
}

function Axis({ stretches }: { stretches: readonly Stretch[] }) {
  return (
    <div className={styles.axis} aria-hidden="true">
      <span>{words.elapsed}</span>
      <span className={styles.track}>
        {ticksOf(stretches, TICKS).map((tick) => (
          <span key={`${tick.left}`} className={styles.tick} style={{ left: percent(tick.left) }}>
            {tickLabel(tick)}
          </span>
        ))}
        {stretches.map(
          (each) =>
            each.kind !== "work" &&
            each.right - each.left > 0.05 && (
              <span
                key={each.from}
                className={cx(styles.gapLabel, styles[each.kind])}
                style={{ left: percent(each.left), width: percent(each.right - each.left) }}
              >
                {duration(each.to - each.from)}
              </span>
            ),
        )}
      </span>
    </div>
  );
}

interface LineProps {
  row: Row;
  now: number;
  isOther: boolean;
  isSelected: boolean;
  onSelect: (id: string | null) => void;
}

/** What is said of a wait, beside its bar: by whom it ended, and after how long. */
function remarkOf(row: Row, now: number): string {
  const length = duration(lengthOf(row, now));
  if (row.kind !== "wait") return length;
  const { status, decided_by } = row.approval;
  if (status === "pending") return words.waitsSince(length);
  return decided_by ? words.decidedAfter(messages.status.approvals[status], decided_by, length) : `${messages.status.approvals[status]} · ${length}`;
}

function sentenceOf(row: Row, now: number): string {
  const { word } = lookOf(row);
  const began = clockTime(new Date(row.from).toISOString());
  const title = row.kind === "span" ? words.kinds[row.span.kind](titleOf(row)) : titleOf(row);
  return words.sentence(title, word, began, remarkOf(row, now));
}

/** How far the deepest level is indented, so that a name stays readable. */
const DEEPEST = 6;

function Name({ row }: { row: Row }) {
  const look = lookOf(row);
  const attempt = row.kind === "span" ? row.span.attempt : row.kind === "run" ? row.run.attempt : 1;
  return (
    <span className={styles.name} style={{ paddingLeft: `${Math.min(row.depth, DEEPEST) * 0.875}rem` }}>
      <span className={cx(styles.icon, styles[look.tone])}>{look.icon}</span>
      <span className={styles.title}>
        <Marked text={titleOf(row)} />
      </span>
      {attempt > 1 && <span className={styles.attempt}>{words.attempt(attempt)}</span>}
    </span>
  );
}

/** Where a bar must end, or else begin, for a remark to stand beside it: parts of the width. */
const ROOM_BEHIND = 0.72;
const ROOM_BEFORE = 0.3;

function Line({ row, now, isOther, isSelected, onSelect, stretches }: LineProps & { stretches: readonly Stretch[] }) {
  const look = lookOf(row);
  const { left, right, seen } = barOf(row, stretches, now);
  const remark = remarkOf(row, now);
  // The remark stands where there is room: behind the bar, before it, or in it.
  const isInside = right >= ROOM_BEHIND && left <= ROOM_BEFORE;
  const place = right < ROOM_BEHIND ? { left: percent(right) } : isInside ? { left: percent(left) } : { right: percent(1 - left) };
  return (
    <button
      type="button"
      className={cx(styles.line, row.kind === "run" && styles.run, isOther && styles.other, isSelected && styles.selected)}
      aria-pressed={isSelected}
      aria-label={sentenceOf(row, now)}
      title={sentenceOf(row, now)}
      onClick={() => onSelect(isSelected ? null : row.id)}
    >
      <Name row={row} />
      <span className={styles.track}>
        {stretches.map(
          (each) =>
            each.kind !== "work" && (
              <span
                key={each.from}
                className={cx(styles.gap, styles[each.kind])}
                style={{ left: percent(each.left), width: percent(each.right - each.left) }}
              />
            ),
        )}
        <span
          className={cx(styles.bar, styles[look.tone], styles[`is-${row.kind}`], row.to === null && styles.open)}
          data-from={row.from}
          data-to={row.to ?? undefined}
          style={{ left: percent(left), width: percent((seen ?? right) - left) }}
        />
        {seen !== null && (
          <span className={cx(styles.bar, styles.lost)} style={{ left: percent(seen), width: percent(right - seen) }} />
        )}
        <span className={cx(styles.remark, isInside && styles.inside)} style={place}>
          <Marked text={remark} />
        </span>
      </span>
    </button>
  );
}

function Columns() {
  return (
    <div className={styles.columns} aria-hidden="true">
      <span>{words.columns.what}</span>
      <span>{words.columns.state}</span>
      <span>{words.columns.began}</span>
      <span>{words.columns.took}</span>
    </div>
  );
}

function Entry({ row, now, isOther, isSelected, onSelect }: LineProps) {
  const look = lookOf(row);
  return (
    <button
      type="button"
      className={cx(styles.entry, row.kind === "run" && styles.run, isOther && styles.other, isSelected && styles.selected)}
      aria-pressed={isSelected}
      onClick={() => onSelect(isSelected ? null : row.id)}
    >
      <Name row={row} />
      <span className={cx(styles.state, styles[look.tone])}>
        <Marked text={row.kind === "wait" && row.approval.decided_by ? words.by(look.word, row.approval.decided_by) : look.word} />
      </span>
      <span className={styles.number}>{clockTime(new Date(row.from).toISOString())}</span>
      <span className={styles.number}>{duration(lengthOf(row, now))}</span>
    </button>
  );
}
