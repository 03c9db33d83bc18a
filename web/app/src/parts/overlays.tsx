/** What comes over the page, loaded when the first of it is opened: `Dialog.tsx` is its door. */

import { AlertDialog } from "@base-ui/react/alert-dialog";
import { Dialog as Base } from "@base-ui/react/dialog";
import { Menu as BaseMenu } from "@base-ui/react/menu";
import { messages } from "../messages/en.ts";
import { Button, IconButton } from "./Button.tsx";
import { CrossIcon } from "./icons.tsx";
import { cx } from "./cx.ts";
import type { ConfirmProps, DialogProps, DrawerProps, MenuProps } from "./Dialog.tsx";
import styles from "./Dialog.module.css";

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

/** A panel that comes from the left over the page, where there is no room beside it. */
export function Drawer({ open, onOpenChange, title, children }: DrawerProps) {
  return (
    <Base.Root open={open} onOpenChange={(next) => onOpenChange(next)}>
      <Base.Portal>
        <Base.Backdrop className={styles.veil} />
        <Base.Popup className={styles.drawer}>
          <div className={styles.drawerHead}>
            <Base.Title className={styles.title}>{title}</Base.Title>
            <Base.Close render={<IconButton label={messages.actions.close}><CrossIcon /></IconButton>} />
          </div>
          <div className={styles.drawerBody}>{children}</div>
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
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

/** A menu that is open at first, and its button. */
export function Menu({ trigger, items, label }: MenuProps) {
  return (
    <BaseMenu.Root modal={false} defaultOpen>
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
