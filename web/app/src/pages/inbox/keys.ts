/** The inbox's keys: off while somebody writes, while a dialog is open, and where they are turned off. */

import { useEffect, useRef, useState } from "react";

const STORED = "assent.shortcuts";

/** Keys do nothing for so long after the list has changed: milliseconds. */
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

function isWriting(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return target.type !== "checkbox" && target.type !== "radio";
  return target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

const LAYERS = "[role=dialog], [role=alertdialog], [role=menu]";

export type Keys = Record<string, (event: KeyboardEvent) => void>;

/** Keys that may be held down. */
const HELD = new Set(["j", "k", "ArrowDown", "ArrowUp"]);

/**
 * Calls `keys[key]`. `quiet` makes the keys of the list do nothing for a moment: call it when what
 * stands under them has changed.
 */
export function useKeys(keys: Keys, wanted: boolean): { quiet: () => void } {
  const latest = useRef(keys);
  const quietUntil = useRef(0);
  useEffect(() => {
    latest.current = keys;
  });
  useEffect(() => {
    if (!wanted) return undefined;
    const onKey = (event: KeyboardEvent) => {
      const work = latest.current[event.key];
      if (work === undefined || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (isWriting(event.target) || document.querySelector(LAYERS) !== null) return;
      const isEarly = performance.now() < quietUntil.current;
      if (isEarly || (event.repeat && !HELD.has(event.key))) {
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
  return { quiet };
}
