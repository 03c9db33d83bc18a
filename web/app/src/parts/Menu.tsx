/** Menus behind buttons. */

import {
  type ButtonHTMLAttributes,
  cloneElement,
  type FocusEvent,
  type KeyboardEvent,
  type MouseEvent,
  type ReactElement,
  type ReactNode,
  type Ref,
  useEffect,
  useId,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { cx } from "./cx.ts";
import styles from "./Menu.module.css";

export interface MenuItem {
  label: ReactNode;
  icon?: ReactNode;
  bad?: boolean;
  disabled?: boolean;
  onSelect: () => void;
}

interface TriggerProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  ref?: Ref<HTMLButtonElement>;
}

export interface MenuProps {
  /** The button behind which the menu is. */
  trigger: ReactElement<TriggerProps>;
  items: MenuItem[];
  label: string;
}

/** What has the focus when it opens: an item, for who came by keyboard, or the menu itself. */
type Start = "first" | "last" | "menu";

/** A menu behind a button. */
export function Menu({ trigger, items, label }: MenuProps) {
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();
  const [start, setStart] = useState<Start | null>(null);
  const isOpen = start !== null;
  const onClick = ({ detail }: MouseEvent) => setStart(isOpen ? null : detail === 0 ? "first" : "menu");
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    setStart(event.key === "ArrowDown" ? "first" : "last");
  };
  return (
    <>
      {cloneElement(trigger, {
        ref: button,
        "aria-haspopup": "menu",
        "aria-expanded": isOpen,
        "aria-controls": isOpen ? id : undefined,
        onClick,
        onKeyDown,
      })}
      {isOpen && <Items id={id} label={label} items={items} start={start} button={button} onClose={() => setStart(null)} />}
    </>
  );
}

/** Letters that are typed within so many milliseconds are the beginning of one name. */
const TYPING = 700;

interface ItemsProps {
  id: string;
  label: string;
  items: MenuItem[];
  start: Start;
  button: { readonly current: HTMLButtonElement | null };
  onClose: () => void;
}

function Items({ id, label, items, start, button, onClose }: ItemsProps) {
  const menu = useRef<HTMLDivElement>(null);
  const typed = useRef({ text: "", at: 0 });
  const close = useRef(onClose);
  useEffect(() => {
    close.current = onClose;
  });

  useLayoutEffect(() => {
    const shown = menu.current;
    if (shown === null) return undefined;
    const stand = () => button.current && placeBy(shown, button.current);
    shown.showPopover();
    stand();
    if (start === "menu") shown.focus();
    else itemsOf(shown).at(start === "first" ? 0 : -1)?.focus();
    window.addEventListener("resize", stand);
    window.addEventListener("scroll", stand, true);
    return () => {
      window.removeEventListener("resize", stand);
      window.removeEventListener("scroll", stand, true);
    };
  }, [button, start]);

  useEffect(() => {
    const onPress = ({ target }: PointerEvent) => {
      const isMine = target instanceof Node && (menu.current?.contains(target) || button.current?.contains(target));
      if (!isMine) close.current();
    };
    document.addEventListener("pointerdown", onPress, true);
    return () => document.removeEventListener("pointerdown", onPress, true);
  }, [button]);

  /** Closes it, and gives the focus back. */
  const leave = () => {
    button.current?.focus({ preventScroll: true });
    onClose();
  };

  const onKeyDown = (event: KeyboardEvent) => {
    // They are for the menu alone, and not for what it stands over.
    event.stopPropagation();
    if (event.key === "Tab") return leave();
    if (event.ctrlKey || event.metaKey || event.altKey) return undefined;
    const all = itemsOf(menu.current);
    const place = all.findIndex((item) => item === document.activeElement);
    const lead = (to: HTMLElement | undefined) => {
      event.preventDefault();
      to?.focus();
    };
    switch (event.key) {
      case "Escape":
        event.preventDefault();
        return leave();
      case "ArrowDown":
        return lead(all[(place + 1) % all.length]);
      case "ArrowUp":
        return lead(all.at(place <= 0 ? -1 : place - 1));
      case "Home":
        return lead(all[0]);
      case "End":
        return lead(all.at(-1));
    }
    if (event.key.length !== 1) return undefined;
    const { text: before, at } = typed.current;
    const goesOn = event.timeStamp - at < TYPING && before !== "";
    // A space presses an item, unless it is in the midst of a name.
    if (event.key === " " && !goesOn) return undefined;
    const text = (goesOn ? before : "") + event.key.toLowerCase();
    typed.current = { text, at: event.timeStamp };
    // The same letter again leads to the next item that begins with it.
    const isOne = new Set(text).size === 1;
    const from = isOne ? place + 1 : Math.max(0, place);
    const order = [...all.slice(from), ...all.slice(0, from)];
    const wanted = isOne ? text.slice(0, 1) : text;
    return lead(order.find((item) => (item.textContent ?? "").trim().toLowerCase().startsWith(wanted)));
  };

  const onBlur = ({ relatedTarget }: FocusEvent) => {
    const isMine = relatedTarget instanceof Node && (menu.current?.contains(relatedTarget) || relatedTarget === button.current);
    if (relatedTarget !== null && !isMine) onClose();
  };

  const choose = (item: MenuItem) => {
    if (item.disabled) return;
    // First, so that a dialog that it opens gives the focus back to the button.
    leave();
    item.onSelect();
  };

  return (
    <div ref={menu} id={id} className={styles.menu} role="menu" aria-label={label} popover="manual" tabIndex={-1} onKeyDown={onKeyDown} onBlur={onBlur}>
      {items.map((item, place) => (
        <button
          key={place}
          type="button"
          role="menuitem"
          tabIndex={-1}
          className={cx(styles.item, item.bad && styles.isBad)}
          aria-disabled={item.disabled || undefined}
          onPointerMove={({ currentTarget }) => currentTarget.focus({ preventScroll: true })}
          onClick={() => choose(item)}
        >
          {item.icon}
          {item.label}
        </button>
      ))}
    </div>
  );
}

function itemsOf(menu: HTMLElement | null): HTMLElement[] {
  return [...(menu?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
}

/** Between the menu and its button, and the least between it and the window's edge: pixels. */
const GAP = 4;
const EDGE = 8;

/** Puts the menu below its button, or above it where there is more room. */
function placeBy(menu: HTMLElement, button: HTMLElement) {
  const by = button.getBoundingClientRect();
  const { clientWidth, clientHeight } = document.documentElement;
  const below = by.bottom + GAP;
  const above = by.top - GAP - menu.offsetHeight;
  const lowest = clientHeight - EDGE - menu.offsetHeight;
  const top = below <= lowest || above < EDGE ? Math.min(below, lowest) : above;
  const left = Math.min(by.right - menu.offsetWidth, clientWidth - EDGE - menu.offsetWidth);
  menu.style.top = `${Math.max(EDGE, top)}px`;
  menu.style.left = `${Math.max(EDGE, left)}px`;
}
