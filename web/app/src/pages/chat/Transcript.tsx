import type { ApprovalState, View } from "@assent/client";
import { defaultRangeExtractor, type Range, useVirtualizer } from "@tanstack/react-virtual";
import { memo, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { ChevronDownIcon } from "../../parts/icons.tsx";
import { Notice } from "../../parts/states.tsx";
import { MessageRow } from "./MessageRow.tsx";
import { AskedRow, CardShown } from "./Asked.tsx";
import { FailureRow, TurnRow, WorkingRow } from "./quiet.tsx";
import { type Row, rowsOf } from "./rows.ts";
import styles from "./Transcript.module.css";

const words = messages.chat.transcript;

export interface TranscriptProps {
  view: View;
  /** The ids of the questions that wait here, as the server lists them. */
  waiting: readonly string[];
  hasOlder: boolean;
  isReadingOlder: boolean;
  readOlder: () => void;
}

/** A guess of a row's height in pixels, until it is drawn and measured. */
function guessed(row: Row): number {
  if (row.kind !== "message") return 48;
  const { message } = row;
  if (message.role === "person") return 60 + message.text.length / 3;
  if (message.role === "agent") {
    const parts = message.parts.map((part) => ("text" in part ? 24 + part.text.length / 4 : 56));
    return parts.reduce((sum, each) => sum + each, 32);
  }
  return 64;
}

/** The ids of the questions that wait in the row. */
function askedIn(row: Row): string[] {
  if (row.kind === "asked") return [row.approvalId];
  if (row.kind !== "message") return [];
  const { message } = row;
  const asked: (ApprovalState | null)[] = [];
  if (message.role === "approval") asked.push(message.approval);
  if (message.role === "tool") asked.push(message.call.approval);
  if (message.role === "agent") {
    for (const part of message.parts) if (part.type === "call") asked.push(part.approval);
  }
  return asked.flatMap((each) => (each?.status === "pending" ? [each.approval_id] : []));
}

/** So close to the end, in pixels, one reads what comes. */
const NEAR_END = 64;
/** So close to the beginning, older messages are read. */
const NEAR_BEGINNING = 200;
/** The height of what stands over the oldest message that was read. */
const OLDER_HEIGHT = 64;

/** All that was said and done, of which only what is in sight is in the page. */
export function Transcript({ view, waiting, hasOlder, isReadingOlder, readOlder }: TranscriptProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => rowsOf(view, waiting, !hasOlder), [view, waiting, hasOlder]);
  // A row in which a question waits stays in the page, since something may be written in it.
  const asking = useMemo(
    () => rows.flatMap((row, place) => (askedIn(row).length > 0 ? [place] : [])),
    [rows],
  );
  const rangeExtractor = useCallback(
    (range: Range) => {
      const places = new Set([...defaultRangeExtractor(range), ...asking]);
      return [...places].sort((one, other) => one - other);
    },
    [asking],
  );
  const rowAt = (place: number): Row => {
    const row = rows[place];
    if (row === undefined) throw new RangeError(`There is no row ${place} in this conversation.`);
    return row;
  };
  const [isAway, setIsAway] = useState(false);
  const [isShort, setIsShort] = useState(false);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: (place) => guessed(rowAt(place)),
    getItemKey: useKeys(rows),
    // A row that grows moves the others without all of them being drawn again.
    directDomUpdates: true,
    // Not moved by a transform: what sticks within it knows nothing of one.
    directDomUpdatesMode: "position",
    rangeExtractor,
    overscan: 4,
    anchorTo: "end",
    followOnAppend: true,
    scrollEndThreshold: NEAR_END,
    paddingStart: hasOlder ? OLDER_HEIGHT : 16,
    paddingEnd: 24,
    onChange: (instance) => {
      setIsAway(!instance.isAtEnd(NEAR_END));
      setIsShort(instance.getTotalSize() < (instance.scrollRect?.height ?? 0));
    },
  });

  // It opens at its end.
  const hasRows = rows.length > 0;
  useLayoutEffect(() => {
    if (hasRows) virtual.scrollToEnd();
  }, [hasRows, virtual]);

  const [seen, setSeen] = useState(0);
  const onScroll = () => {
    const top = scroller.current?.scrollTop ?? 0;
    if (hasOlder && !isReadingOlder && top < NEAR_BEGINNING) readOlder();
  };
  useEffect(() => {
    if (!isAway) setSeen(view.seq);
  }, [isAway, view.seq]);

  // A question that is higher than the window is read from its beginning: its foot, where it is
  // decided, stays in sight.
  const shown = useRef(new Set<string>());
  const latest = useRef(rows);
  const follows = useRef(true);
  useLayoutEffect(() => {
    latest.current = rows;
    follows.current = !isAway;
  });
  const onCardShown = useCallback(
    (approvalId: string) => {
      const isNew = !shown.current.has(approvalId);
      shown.current.add(approvalId);
      if (!isNew || !follows.current) return;
      requestAnimationFrame(() => {
        const place = latest.current.findIndex((row) => askedIn(row).includes(approvalId));
        const row = scroller.current?.querySelector<HTMLElement>(`[data-index="${place}"]`);
        const window = scroller.current?.clientHeight ?? 0;
        if (row && row.offsetHeight > window) virtual.scrollToIndex(place, { align: "start" });
      });
    },
    [virtual],
  );
  const { range } = virtual;
  const isAsked = asking.some((place) => range && place >= range.startIndex && place <= range.endIndex);

  // A page that does not fill the window leaves nothing to scroll to older ones by.
  useEffect(() => {
    if (hasOlder && !isReadingOlder && isShort) readOlder();
  }, [hasOlder, isReadingOlder, isShort, readOlder]);

  const toEnd = () => {
    virtual.scrollToEnd();
    scroller.current?.focus({ preventScroll: true });
  };

  return (
    <div className={styles.frame}>
      <div
        ref={scroller}
        className={styles.scroller}
        role="log"
        // What is written letter by letter is not read aloud: what is finished is announced, once.
        aria-live="off"
        aria-label={words.label}
        tabIndex={0}
        onScroll={onScroll}
      >
        <CardShown.Provider value={onCardShown}>
          <div ref={virtual.containerRef} className={styles.rows}>
            {/* No row: the one that is read keeps its place when others come before it. */}
            {hasOlder && (
              <div className={styles.older}>
                <Button small look="quiet" busy={isReadingOlder} onClick={readOlder}>
                  {isReadingOlder ? words.readingOlder : words.older}
                </Button>
              </div>
            )}
            {virtual.getVirtualItems().map((item) => (
              <div
                key={item.key}
                ref={virtual.measureElement}
                data-index={item.index}
                className={styles.row}
              >
                <div className={styles.column}>
                  <RowView row={rowAt(item.index)} />
                </div>
              </div>
            ))}
          </div>
        </CardShown.Provider>
      </div>
      {isAway && !isAsked && (
        <Button className={styles.pill} onClick={toEnd}>
          <ChevronDownIcon />
          {view.seq > seen ? words.newMessages : words.toEnd}
        </Button>
      )}
    </div>
  );
}

/** The keys of the rows by their place: the same function for as long as they are the same. */
function useKeys(rows: readonly Row[]): (place: number) => string {
  const before = useRef<readonly string[]>([]);
  const keys = useMemo(() => {
    const { current } = before;
    const isSame = rows.length === current.length && rows.every((row, place) => row.key === current[place]);
    return isSame ? current : rows.map((row) => row.key);
  }, [rows]);
  useEffect(() => {
    before.current = keys;
  }, [keys]);
  return useCallback((place: number) => keys[place] ?? "", [keys]);
}

function RowView({ row }: { row: Row }) {
  switch (row.kind) {
    case "gap":
      return <Notice>{row.isWithin ? words.gapWithin : words.gap}</Notice>;
    case "message":
      return <Said message={row.message} agent={row.agent} opens={row.opens} files={row.files} />;
    case "failure":
      return <FailureRow span={row.span} />;
    case "turn":
      return <TurnRow turn={row.turn} />;
    case "asked":
      return <AskedRow approvalId={row.approvalId} />;
    case "working":
      return <WorkingRow run={row.run} doing={row.doing} />;
  }
}

/** Drawn anew only when the message has changed. */
const Said = memo(MessageRow);
