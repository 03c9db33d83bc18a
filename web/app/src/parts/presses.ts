/**
 * Presses that are not meant for what came under them: a held key goes on pressing whatever has the
 * focus by then, and the second press of a double one may meet a dialog that the first has opened, or
 * the page below a dialog or a menu that the first has closed. None of them does anything.
 */

/** What a key presses: on a link the space bar scrolls. */
const PRESSED: Readonly<Record<string, string>> = { Enter: "button, a[href], summary", " ": "button, summary" };
const LAYERS = "dialog, [role=menu]";

const layerOf = (target: EventTarget | null) => (target instanceof Element ? target.closest(LAYERS) : null);

/** Guards the whole page, before anything of it hears of the press. */
export function guardPresses() {
  let began: Element | null = null;
  document.addEventListener(
    "click",
    (event) => {
      if (event.detail < 2) began = layerOf(event.target);
      else if (layerOf(event.target) !== began) {
        event.preventDefault();
        event.stopImmediatePropagation();
      }
    },
    true,
  );
  document.addEventListener(
    "keydown",
    (event) => {
      const pressed = PRESSED[event.key];
      if (!event.repeat || pressed === undefined || !(event.target instanceof Element)) return;
      if (event.target.closest(pressed) !== null) event.preventDefault();
    },
    true,
  );
}
