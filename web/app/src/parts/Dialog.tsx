/** Windows over the page, made of the browser's own `<dialog>`. */

import { type MouseEvent, type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";
import { createPortal } from "react-dom";
import { messages } from "../messages/en.ts";
import { Saying } from "./Announcer.tsx";
import { Button, IconButton, type Look } from "./Button.tsx";
import { cx } from "./cx.ts";
import styles from "./Dialog.module.css";
import { CrossIcon } from "./icons.tsx";

const FOCUSABLE = 'button:enabled, a[href], input:enabled, select:enabled, textarea:enabled, [tabindex="0"]';

interface ModalProps {
  className: string | undefined;
  role?: "alertdialog";
  labelledBy: string;
  describedBy?: string | undefined;
  /** Whether a click beside it closes it. */
  isLight?: boolean;
  onClose: () => void;
  children: ReactNode;
}

/**
 * What stands over the page while it is mounted: the browser keeps the focus in it, gives it back,
 * and makes all else inert. It is a child of the body, so that nothing around its place hides it.
 */
function Modal({ className, role, labelledBy, describedBy, isLight = false, onClose, children }: ModalProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [isShown, setIsShown] = useState(false);
  const beganBeside = useRef(false);

  useLayoutEffect(() => {
    const shown = dialog.current;
    if (shown === null) return undefined;
    shown.showModal();
    // Only now: what is not shown yet cannot take the focus.
    setIsShown(true);
    return () => {
      shown.close();
      setIsShown(false);
      queueMicrotask(leadSomewhere);
    };
  }, []);
  useLayoutEffect(() => {
    const shown = dialog.current;
    if (isShown && document.activeElement === shown) shown?.querySelector<HTMLElement>(FOCUSABLE)?.focus();
  }, [isShown]);

  const isBeside = (event: MouseEvent) => event.target === dialog.current && !isWithin(dialog.current, event);
  return createPortal(
    <dialog
      ref={dialog}
      className={className}
      role={role}
      aria-labelledby={labelledBy}
      aria-describedby={describedBy}
      onCancel={(event) => {
        if (event.target !== dialog.current) return;
        event.preventDefault();
        onClose();
      }}
      onClose={(event) => {
        // A browser may close it without asking, when Escape is pressed again and again.
        if (event.target !== dialog.current || dialog.current.open) return;
        dialog.current.showModal();
        onClose();
      }}
      onPointerDown={(event) => {
        beganBeside.current = isBeside(event);
      }}
      onClick={(event) => {
        if (isLight && beganBeside.current && isBeside(event)) onClose();
      }}
    >
      {isShown && (
        <>
          {children}
          <Saying />
        </>
      )}
    </dialog>,
    document.body,
  );
}

function isWithin(element: Element, { clientX: x, clientY: y }: { clientX: number; clientY: number }): boolean {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return x >= left && x <= right && y >= top && y <= bottom;
}

/** What had the focus before may be gone, as a row is that was deleted. */
function leadSomewhere() {
  if (document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
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
export function Dialog({ open, onOpenChange, title, wide, actions, children }: DialogProps) {
  const id = useId();
  if (!open) return null;
  const close = () => onOpenChange(false);
  return (
    <Modal className={cx(styles.popup, wide && styles.wide)} labelledBy={id} isLight onClose={close}>
      <div className={styles.head}>
        <h2 id={id} className={styles.title}>
          {title}
        </h2>
        <IconButton label={messages.actions.close} onClick={close}>
          <CrossIcon />
        </IconButton>
      </div>
      {/* It scrolls, so the keyboard must be able to reach it. */}
      <div className={styles.body} tabIndex={0} role="group" aria-label={title}>
        {children}
      </div>
      {actions && <div className={styles.actions}>{actions}</div>}
    </Modal>
  );
}

export interface DrawerProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  children: ReactNode;
}

/** A panel that comes from the left over the page, where there is no room beside it. */
export function Drawer({ open, onOpenChange, title, children }: DrawerProps) {
  const id = useId();
  if (!open) return null;
  const close = () => onOpenChange(false);
  return (
    <Modal className={styles.drawer} labelledBy={id} isLight onClose={close}>
      <div className={styles.drawerHead}>
        <h2 id={id} className={styles.title}>
          {title}
        </h2>
        <IconButton label={messages.actions.close} onClick={close}>
          <CrossIcon />
        </IconButton>
      </div>
      <div className={styles.drawerBody}>{children}</div>
    </Modal>
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
export function Confirm({ open, onOpenChange, title, children, verb, look = "dangerStrong", busy, onConfirm }: ConfirmProps) {
  const id = useId();
  if (!open) return null;
  const close = () => onOpenChange(false);
  const about = children ? `${id}-about` : undefined;
  return (
    <Modal className={styles.popup} role="alertdialog" labelledBy={id} describedBy={about} onClose={close}>
      <div className={styles.head}>
        <h2 id={id} className={styles.title}>
          {title}
        </h2>
      </div>
      {children && (
        <div id={about} className={styles.body}>
          {children}
        </div>
      )}
      <div className={styles.actions}>
        <Button onClick={close}>{messages.actions.back}</Button>
        <Button look={look} busy={busy ?? false} onClick={onConfirm}>
          {verb}
        </Button>
      </div>
    </Modal>
  );
}
