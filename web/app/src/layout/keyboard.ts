/** Keeps what somebody writes in above a phone's keyboard. */

/** Pixels: nothing that covers less of a page is a keyboard. */
const KEYBOARD = 120;
/** Pixels: where less is left than these, the ways to other pages give theirs to what is written. */
const SHORT = 480;

function isWriting(): boolean {
  const field = document.activeElement;
  return field instanceof HTMLElement && field.matches("input, textarea, select, [contenteditable]");
}

/**
 * Fits the page into what the keyboard leaves of the window. Some browsers make the window smaller
 * for it; others lay it over the page, and only `visualViewport` tells.
 */
export function watchKeyboard(): void {
  const seen = window.visualViewport;
  if (seen === null) return;
  const { documentElement: root } = document;
  const fit = () => {
    // Who has zoomed in sees less of the page too, and moves it themselves.
    const isZoomed = seen.scale > 1.01;
    const isCovered = !isZoomed && window.innerHeight - seen.height > KEYBOARD;
    const isShort = !isZoomed && seen.height < SHORT && isWriting();
    root.toggleAttribute("data-keyboard", isShort);
    if (isCovered) root.style.setProperty("--visible-height", `${Math.round(seen.height)}px`);
    else root.style.removeProperty("--visible-height");
    if (isCovered) window.scrollTo(0, 0);
    if (isShort) requestAnimationFrame(() => document.activeElement?.scrollIntoView({ block: "nearest" }));
  };
  seen.addEventListener("resize", fit);
  document.addEventListener("focusin", fit);
  document.addEventListener("focusout", fit);
}
