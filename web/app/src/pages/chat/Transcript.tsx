import type { View } from "@assent/client";
import { defaultRangeExtractor, type Range, useVirtualizer } from "@tanstack/react-virtual";
import { memo, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { ChevronDownIcon } from "../../parts/icons.tsx";
import { Notice } from "../../parts/states.tsx";
import { MessageRow } from "./MessageRow.tsx";
import { AskedRow } from "./Asked.tsx";
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

/** Whether the row has a question that waits: it stays in the page, since something may be written in it. */
function isAsking(row: Row): boolean {
  if (row.kind === "asked") return true;
  if (row.kind !== "message") return false;
  const { message } = row;
  if (message.role === "approval") return message.approval.status === "pending";
  if (message.role === "tool") return message.call.approval?.status === "pending";
  if (message.role !== "agent") return false;
  return message.parts.some((part) => part.type === "call" && part.approval?.status === "pending");
}

/** So close to the end, in pixels, one reads what comes. */
const NEAR_END = 64;
/** So close to the beginning, older messages are read. */
const NEAR_BEGINNING = 200;

/** All that was said and done, of which only what is in sight is in the page. */
export function Transcript({ view, waiting, hasOlder, isReadingOlder, readOlder }: TranscriptProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => rowsOf(view, { hasOlder, waiting }), [view, hasOlder, waiting]);
  const asking = useMemo(
    () => rows.flatMap((row, place) => (isAsking(row) ? [place] : [])),
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
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: (place) => guessed(rowAt(place)),
    getItemKey: (place) => rowAt(place).key,
    rangeExtractor,
    overscan: 4,
    anchorTo: "end",
    followOnAppend: true,
    scrollEndThreshold: NEAR_END,
    paddingStart: 16,
    paddingEnd: 24,
    useFlushSync: false,
  });

  // It opens at its end.
  const hasRows = rows.length > 0;
  useLayoutEffect(() => {
    if (hasRows) virtual.scrollToEnd();
  }, [hasRows, virtual]);

  const [isAway, setIsAway] = useState(false);
  const [seen, setSeen] = useState(0);
  const onScroll = () => {
    const away = !virtual.isAtEnd(NEAR_END);
    setIsAway(away);
    if (!away) setSeen(view.seq);
    const top = scroller.current?.scrollTop ?? 0;
    if (hasOlder && !isReadingOlder && top < NEAR_BEGINNING) readOlder();
  };
  useEffect(() => {
    if (!isAway) setSeen(view.seq);
  }, [isAway, view.seq]);

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
        <div className={styles.rows} style={{ height: virtual.getTotalSize() }}>
          {virtual.getVirtualItems().map((item) => (
            <div
              key={item.key}
              ref={virtual.measureElement}
              data-index={item.index}
              className={styles.row}
              style={{ transform: `translateY(${item.start}px)` }}
            >
              <div className={styles.column}>
                <RowView row={rowAt(item.index)} isReadingOlder={isReadingOlder} readOlder={readOlder} />
              </div>
            </div>
          ))}
        </div>
      </div>
      {isAway && (
        <Button className={styles.pill} onClick={toEnd}>
          <ChevronDownIcon />
          {view.seq > seen ? words.newMessages : words.toEnd}
        </Button>
      )}
    </div>
  );
}

interface RowViewProps {
  row: Row;
  isReadingOlder: boolean;
  readOlder: () => void;
}

function RowView({ row, isReadingOlder, readOlder }: RowViewProps) {
  switch (row.kind) {
    case "older":
      return (
        <div className={styles.older}>
          <Button small look="quiet" busy={isReadingOlder} onClick={readOlder}>
            {isReadingOlder ? words.readingOlder : words.older}
          </Button>
        </div>
      );
    case "gap":
      return <Notice>{words.gap}</Notice>;
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
