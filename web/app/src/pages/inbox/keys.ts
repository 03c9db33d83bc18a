/** The inbox's keys: off while somebody writes, while a dialog is open, and where they are turned off. */

import { useEffect, useRef, useState } from "react";

const STORED = "assent.shortcuts";

/** Keys do nothing for so long after the list has changed, or after the last one that was pressed
 * while they do nothing: milliseconds. */
export const QUIET = 400;

/** Whether this browser wants keys, and how to say so. */
export function useShortcutsWanted(): [boolean, (wanted: boolean) => void] {
  const [wanted, setWanted] = useState(() => localStorage.getItem(STORED) !== "off");
  const choose = (next: boolean) => {
    if (next) localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, "off");
    setWanted(next);
  };
  return [wanted, choose];
}

/** How long it is shown that a key did nothing: milliseconds. */
const SHOWN = 2_000;

function isWriting(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return target.type !== "checkbox" && target.type !== "radio";
  return target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

const LAYERS = "dialog, [role=menu]";

export type Keys = Record<string, (event: KeyboardEvent) => void>;

/** Keys that decide nothing: they may be held down, and always work. */
const MOVES = new Set(["j", "k", "ArrowDown", "ArrowUp"]);

/**
 * Calls `keys[key]`. `quiet` makes the keys of the list do nothing for a moment: call it when what
 * stands under them has changed. `isResting` is true for a while after one was not taken.
 */
export function useKeys(keys: Keys, wanted: boolean): { quiet: () => void; isResting: boolean } {
  const latest = useRef(keys);
  const quietUntil = useRef(0);
  const [rested, setRested] = useState(0);
  useEffect(() => {
    if (rested === 0) return undefined;
    const timer = setTimeout(() => setRested(0), SHOWN);
    return () => clearTimeout(timer);
  }, [rested]);
  useEffect(() => {
    latest.current = keys;
  });
  useEffect(() => {
    if (!wanted) return undefined;
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (isWriting(event.target) || document.querySelector(LAYERS) !== null) return;
      const moves = MOVES.has(event.key);
      if (!moves && performance.now() < quietUntil.current) {
        // Whoever types on, as for a reason, types past a key that was not taken: none of it counts.
        quietUntil.current = performance.now() + QUIET;
        if (event.key === "Tab" || event.key === "Shift") return;
        event.preventDefault();
        if (latest.current[event.key] !== undefined) setRested((before) => before + 1);
        return;
      }
      const work = latest.current[event.key];
      if (work === undefined) return;
      if (event.repeat && !moves) {
        event.preventDefault();
        return;
      }
      work(event);
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [wanted]);
  const [quiet] = useState(() => () => {
    quietUntil.current = performance.now() + QUIET;
  });
  return { quiet, isResting: rested > 0 };
}
