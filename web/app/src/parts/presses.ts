/**
 * Presses that are not meant for what came under them: a held Enter goes on pressing whatever has the
 * focus by then, and the second press of a double one may meet a dialog that the first has opened, or
 * the page below a dialog or a menu that the first has closed. None of them does anything.
 */

const PRESSED = "button, a[href], summary, [role=menuitem]";
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
      const isPressed = event.target instanceof Element && event.target.closest(PRESSED) !== null;
      if (event.repeat && event.key === "Enter" && isPressed) event.preventDefault();
    },
    true,
  );
}
