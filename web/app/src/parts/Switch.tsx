import type { ButtonHTMLAttributes } from "react";
import { cx } from "./cx.ts";
import styles from "./Switch.module.css";

export interface SwitchProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "onChange" | "children"> {
  /** What is on or off, read aloud. */
  label: string;
  on: boolean;
  busy?: boolean;
  onChange: (on: boolean) => void;
}

/** On or off, at once: for what needs no other button to save it. */
export function Switch({ label, on, busy, onChange, disabled, className, ...rest }: SwitchProps) {
  return (
    <button
      type="button"
      role="switch"
      aria-checked={on}
      aria-label={label}
      aria-busy={busy || undefined}
      title={label}
      disabled={disabled || busy}
      className={cx(styles.switch, className)}
      onClick={() => onChange(!on)}
      {...rest}
    >
      <span className={styles.track} aria-hidden="true">
        <span className={styles.knob} />
      </span>
    </button>
  );
}
