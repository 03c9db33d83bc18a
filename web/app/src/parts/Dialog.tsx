/**
 * Windows and menus over the page. What draws them is a fifth of the page's program, so it is loaded
 * when the first one is opened.
 */

import {
  type ButtonHTMLAttributes,
  cloneElement,
  type KeyboardEvent,
  lazy,
  type ReactElement,
  type ReactNode,
  Suspense,
  useState,
} from "react";
import type { Look } from "./Button.tsx";

const load = () => import("./overlays.tsx");

/** It is there soon in any case: one may be opened while the server is away. */
const SOON = 3_000;
setTimeout(() => void load().catch(() => undefined), SOON);

const LoadedDialog = lazy(async () => ({ default: (await load()).Dialog }));
const LoadedDrawer = lazy(async () => ({ default: (await load()).Drawer }));
const LoadedConfirm = lazy(async () => ({ default: (await load()).Confirm }));
const LoadedMenu = lazy(async () => ({ default: (await load()).Menu }));

/** Whether it was open at any time: from then on it is there, so that it can close by itself. */
function useWasOpen(open: boolean): boolean {
  const [wasOpen, setWasOpen] = useState(open);
  if (open && !wasOpen) setWasOpen(true);
  return wasOpen;
}

export interface DialogProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  wide?: boolean;
  actions?: ReactNode;
  children: ReactNode;
}

/** A window over the page. Escape, its cross, and a click beside it close it. */
export function Dialog(props: DialogProps) {
  if (!useWasOpen(props.open)) return null;
  return (
    <Suspense fallback={null}>
      <LoadedDialog {...props} />
    </Suspense>
  );
}

export interface DrawerProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  children: ReactNode;
}

/** A panel that comes from the left over the page, where there is no room beside it. */
export function Drawer(props: DrawerProps) {
  if (!useWasOpen(props.open)) return null;
  return (
    <Suspense fallback={null}>
      <LoadedDrawer {...props} />
    </Suspense>
  );
}

export interface ConfirmProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  /** The question, as in "Cancel this run?". */
  title: string;
  children?: ReactNode;
  /** The verb that is done, as in "Cancel the run". */
  verb: string;
  look?: Look;
  busy?: boolean;
  onConfirm: () => void;
}

/** Asks before something that cannot be taken back. A click beside it does not answer. */
export function Confirm(props: ConfirmProps) {
  if (!useWasOpen(props.open)) return null;
  return (
    <Suspense fallback={null}>
      <LoadedConfirm {...props} />
    </Suspense>
  );
}

export interface MenuItem {
  label: ReactNode;
  icon?: ReactNode;
  bad?: boolean;
  disabled?: boolean;
  onSelect: () => void;
}

export interface MenuProps {
  /** The button behind which the menu is. */
  trigger: ReactElement<ButtonHTMLAttributes<HTMLButtonElement>>;
  items: MenuItem[];
  label: string;
}

/** A menu behind a button. */
export function Menu(props: MenuProps) {
  const [isWanted, setIsWanted] = useState(false);
  const closed = cloneElement(props.trigger, {
    "aria-haspopup": "menu",
    "aria-expanded": false,
    onClick: () => setIsWanted(true),
    onKeyDown: (event: KeyboardEvent) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") setIsWanted(true);
    },
  });
  if (!isWanted) return closed;
  return (
    <Suspense fallback={closed}>
      <LoadedMenu {...props} />
    </Suspense>
  );
}
