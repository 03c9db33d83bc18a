import { AlertDialog } from "@base-ui/react/alert-dialog";
import { Dialog as Base } from "@base-ui/react/dialog";
import { Menu as BaseMenu } from "@base-ui/react/menu";
import type { ReactElement, ReactNode } from "react";
import { messages } from "../messages/en.ts";
import { Button, IconButton, type Look } from "./Button.tsx";
import { CrossIcon } from "./icons.tsx";
import { cx } from "./cx.ts";
import styles from "./Dialog.module.css";

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
  return (
    <Base.Root open={open} onOpenChange={(next) => onOpenChange(next)}>
      <Base.Portal>
        <Base.Backdrop className={styles.veil} />
        <Base.Popup className={cx(styles.popup, wide && styles.wide)}>
          <div className={styles.head}>
            <Base.Title className={styles.title}>{title}</Base.Title>
            <Base.Close render={<IconButton label={messages.actions.close}><CrossIcon /></IconButton>} />
          </div>
          {/* It scrolls, so the keyboard must be able to reach it. */}
          <div className={styles.body} tabIndex={0} role="group" aria-label={title}>
            {children}
          </div>
          {actions && <div className={styles.actions}>{actions}</div>}
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
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
  return (
    <AlertDialog.Root open={open} onOpenChange={(next) => onOpenChange(next)}>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className={styles.veil} />
        <AlertDialog.Popup className={styles.popup}>
          <div className={styles.head}>
            <AlertDialog.Title className={styles.title}>{title}</AlertDialog.Title>
          </div>
          {children && <AlertDialog.Description className={styles.body} render={<div />}>{children}</AlertDialog.Description>}
          <div className={styles.actions}>
            <AlertDialog.Close render={<Button>{messages.actions.back}</Button>} />
            <Button look={look} busy={busy} onClick={onConfirm}>
              {verb}
            </Button>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}

export interface MenuItem {
  label: ReactNode;
  icon?: ReactNode;
  bad?: boolean;
  disabled?: boolean;
  onSelect: () => void;
}

/** A menu behind a button: `trigger` is the button. */
export function Menu({ trigger, items, label }: { trigger: ReactElement; items: MenuItem[]; label: string }) {
  return (
    <BaseMenu.Root modal={false}>
      <BaseMenu.Trigger render={trigger} />
      <BaseMenu.Portal>
        <BaseMenu.Positioner sideOffset={4} align="end">
          <BaseMenu.Popup className={styles.menu} aria-label={label}>
            {items.map((item, place) => (
              <BaseMenu.Item
                key={place}
                className={cx(styles.item, item.bad && styles.isBad)}
                disabled={item.disabled}
                onClick={item.onSelect}
              >
                {item.icon}
                {item.label}
              </BaseMenu.Item>
            ))}
          </BaseMenu.Popup>
        </BaseMenu.Positioner>
      </BaseMenu.Portal>
    </BaseMenu.Root>
  );
}
