import styles from "./Kbd.module.css";

/** A key of the keyboard, for eyes: what it belongs to says it as `aria-keyshortcuts`. */
export function Kbd({ children }: { children: string }) {
  return <kbd className={styles.key} aria-hidden="true">{children}</kbd>;
}
