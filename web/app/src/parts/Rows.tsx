import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, type ReactNode, useLayoutEffect, useRef, useState } from "react";
import styles from "./Rows.module.css";

export interface RowsProps<T> {
  items: readonly T[];
  keyOf: (item: T) => string;
  /** The height of a row before it was measured, in pixels. */
  estimate: number;
  label: string;
  children: (item: T, place: number) => ReactNode;
}

/** The nearest element around it that scrolls: the page's own, wherever the rows stand in it. */
function scrollerOf(element: HTMLElement): HTMLElement {
  let around = element.parentElement;
  while (around !== null && !/auto|scroll/.test(getComputedStyle(around).overflowY)) around = around.parentElement;
  return around ?? document.documentElement;
}

/**
 * A list of any length, of which only what is in sight is in the page. It scrolls with the page.
 * The arrow keys lead from one row to the next, if rows have a control.
 */
export function Rows<T>({ items, keyOf, estimate, label, children }: RowsProps<T>) {
  const list = useRef<HTMLDivElement>(null);
  const scroller = useRef<HTMLElement | null>(null);
  const [margin, setMargin] = useState(0);

  // What stands above the list may have changed its height.
  useLayoutEffect(() => {
    if (list.current === null) return;
    scroller.current ??= scrollerOf(list.current);
    const top = scroller.current.getBoundingClientRect().top - scroller.current.scrollTop;
    setMargin(Math.round(list.current.getBoundingClientRect().top - top));
  });

  const rows = useVirtualizer({
    count: items.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => estimate,
    getItemKey: (place) => {
      const item = items[place];
      return item === undefined ? place : keyOf(item);
    },
    scrollMargin: margin,
    overscan: 3,
  });

  const lead = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-index]") : null;
    const isText = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
    if (step === undefined || row === null || isText) return;
    const place = Number(row.dataset.index) + step;
    if (place < 0 || place >= items.length) return;
    event.preventDefault();
    rows.scrollToIndex(place, { align: "auto" });
    const focus = () => {
      const next = list.current?.querySelector<HTMLElement>(`[data-index="${place}"] :is(button, a)`);
      next?.focus({ preventScroll: true });
    };
    // One that was out of sight is there after the next frame.
    if (list.current?.querySelector(`[data-index="${place}"]`)) focus();
    else requestAnimationFrame(focus);
  };

  return (
    <div ref={list} className={styles.rows} role="list" aria-label={label} style={{ height: rows.getTotalSize() }} onKeyDown={lead}>
      {rows.getVirtualItems().map((row) => {
        const item = items[row.index];
        return (
          item !== undefined && (
            <div
              key={row.key}
              ref={rows.measureElement}
              data-index={row.index}
              className={styles.row}
              role="listitem"
              aria-setsize={items.length}
              aria-posinset={row.index + 1}
              style={{ transform: `translateY(${row.start - margin}px)` }}
            >
              {children(item, row.index)}
            </div>
          )
        );
      })}
    </div>
  );
}
