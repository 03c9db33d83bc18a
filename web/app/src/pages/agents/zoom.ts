/** How large a sheet is shown in what it scrolls in: by buttons, ctrl and wheel, or two fingers. */

import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

const LEAST = 0.2;
const MOST = 2;
/** A small sheet is shown as a whole, but hardly larger than it is. */
const FIT_MOST = 1.25;

const within = (scale: number) => Math.min(MOST, Math.max(LEAST, scale));

/** A place in the window. */
interface At {
  readonly x: number;
  readonly y: number;
}

interface Zoom {
  view: RefObject<HTMLDivElement | null>;
  sheet: RefObject<HTMLDivElement | null>;
  scale: number;
  zoomBy: (factor: number) => void;
  fit: () => void;
}

/** Shows all of a sheet of this size; the point of it that is zoomed at stays where it is. */
export function useZoom(width: number, height: number): Zoom {
  const view = useRef<HTMLDivElement>(null);
  const sheet = useRef<HTMLDivElement>(null);
  const [scale, setScale] = useState(1);
  const latest = useRef(1);
  const isFitted = useRef(true);
  const kept = useRef<{ at: At; left: number; top: number } | null>(null);

  const show = useCallback((next: number) => {
    latest.current = next;
    setScale(next);
  }, []);

  const fit = useCallback(() => {
    const { clientWidth, clientHeight } = view.current ?? { clientWidth: 0, clientHeight: 0 };
    isFitted.current = true;
    show(within(Math.min(FIT_MOST, clientWidth / width, clientHeight / height)));
  }, [width, height, show]);
  useLayoutEffect(fit, [fit]);

  const zoom = useCallback(
    (factor: number, given?: At) => {
      const [frame, drawn] = [view.current?.getBoundingClientRect(), sheet.current?.getBoundingClientRect()];
      if (frame === undefined || drawn === undefined) return;
      const at = given ?? { x: frame.x + frame.width / 2, y: frame.y + frame.height / 2 };
      const before = latest.current;
      const next = within(before * factor);
      if (next === before) return;
      // Of several in one frame the first has measured what is on the screen.
      kept.current = { at, left: kept.current?.left ?? (at.x - drawn.x) / before, top: kept.current?.top ?? (at.y - drawn.y) / before };
      isFitted.current = false;
      show(next);
    },
    [show],
  );
  useLayoutEffect(() => {
    const [frame, drawn, keep] = [view.current, sheet.current?.getBoundingClientRect(), kept.current];
    kept.current = null;
    if (frame === null || drawn === undefined || keep === null) return;
    frame.scrollBy(drawn.x + keep.left * scale - keep.at.x, drawn.y + keep.top * scale - keep.at.y);
  }, [scale]);

  useEffect(() => {
    const frame = view.current;
    if (frame === null) return undefined;
    const stop = new AbortController();
    // They have to be refused, or the browser zooms the whole page.
    const options = { signal: stop.signal, passive: false };
    frame.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        const pixels = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * 20;
        zoom(Math.exp(-Math.max(-50, Math.min(50, pixels)) / 100), { x: event.clientX, y: event.clientY });
      },
      options,
    );
    let apart: number | null = null;
    frame.addEventListener(
      "touchmove",
      (event) => {
        const [one, two, more] = event.touches;
        if (one === undefined || two === undefined || more !== undefined) return;
        if (event.cancelable) event.preventDefault();
        const now = Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY);
        if (apart !== null) zoom(now / apart, { x: (one.clientX + two.clientX) / 2, y: (one.clientY + two.clientY) / 2 });
        apart = now;
      },
      options,
    );
    for (const kind of ["touchstart", "touchend", "touchcancel"] as const) frame.addEventListener(kind, () => (apart = null), { signal: stop.signal });
    const watch = new ResizeObserver(() => {
      if (isFitted.current) fit();
    });
    watch.observe(frame);
    return () => {
      stop.abort();
      watch.disconnect();
    };
  }, [zoom, fit]);

  return { view, sheet, scale, zoomBy: zoom, fit };
}
