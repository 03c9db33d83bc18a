import type { InputHTMLAttributes, ReactNode, Ref, SelectHTMLAttributes, TextareaHTMLAttributes } from "react";
import { useId } from "react";
import { cx } from "./cx.ts";
import styles from "./Field.module.css";

interface Worded {
  label: string;
  /** The label is read aloud only, since what stands around it says it too. */
  hideLabel?: boolean;
  hint?: ReactNode;
  /** Why what is written is not taken. It stands under it. */
  error?: string | null;
}

interface Wiring {
  id: string;
  "aria-describedby": string | undefined;
  "aria-invalid": true | undefined;
}

function Frame({ label, hideLabel, hint, error, children }: Worded & { children: (wiring: Wiring) => ReactNode }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return (
    <div className={styles.field}>
      <label htmlFor={id} className={hideLabel ? "sr-only" : styles.label}>
        {label}
      </label>
      {children({ id, "aria-describedby": described || undefined, "aria-invalid": error ? true : undefined })}
      {hint && (
        <div id={`${id}-hint`} className={styles.hint}>
          {hint}
        </div>
      )}
      {error && (
        <div id={`${id}-error`} className={styles.error} role="alert">
          {error}
        </div>
      )}
    </div>
  );
}

export interface TextFieldProps extends Worded, Omit<InputHTMLAttributes<HTMLInputElement>, "id"> {
  code?: boolean;
  ref?: Ref<HTMLInputElement>;
}

export function TextField({ label, hideLabel, hint, error, code, className, ...rest }: TextFieldProps) {
  return (
    <Frame label={label} hideLabel={hideLabel} hint={hint} error={error}>
      {(wiring) => <input className={cx(styles.input, code && styles.code, className)} {...wiring} {...rest} />}
    </Frame>
  );
}

export interface TextAreaProps extends Worded, Omit<TextareaHTMLAttributes<HTMLTextAreaElement>, "id"> {
  code?: boolean;
  ref?: Ref<HTMLTextAreaElement>;
}

export function TextArea({ label, hideLabel, hint, error, code, className, ...rest }: TextAreaProps) {
  return (
    <Frame label={label} hideLabel={hideLabel} hint={hint} error={error}>
      {(wiring) => <textarea className={cx(styles.input, code && styles.code, className)} {...wiring} {...rest} />}
    </Frame>
  );
}

export interface SelectFieldProps extends Worded, Omit<SelectHTMLAttributes<HTMLSelectElement>, "id" | "children"> {
  options: { value: string; label: string }[];
}

export function SelectField({ label, hideLabel, hint, error, options, className, ...rest }: SelectFieldProps) {
  return (
    <Frame label={label} hideLabel={hideLabel} hint={hint} error={error}>
      {(wiring) => (
        <select className={cx(styles.input, className)} {...wiring} {...rest}>
          {options.map((option) => (
            <option key={option.value} value={option.value}>
              {option.label}
            </option>
          ))}
        </select>
      )}
    </Frame>
  );
}

export interface CheckFieldProps extends Omit<InputHTMLAttributes<HTMLInputElement>, "id" | "type"> {
  label: ReactNode;
}

export function CheckField({ label, ...rest }: CheckFieldProps) {
  return (
    <label className={styles.check}>
      <input type="checkbox" {...rest} />
      <span>{label}</span>
    </label>
  );
}
