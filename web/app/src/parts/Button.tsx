import type { AnchorHTMLAttributes, ButtonHTMLAttributes, ReactNode, Ref } from "react";
import { Link } from "wouter";
import styles from "./Button.module.css";
import { cx } from "./cx.ts";
import { Spinner } from "./Spinner.tsx";

/** What a button does to the world: `good` agrees, `danger` refuses or destroys. */
export type Look = "primary" | "secondary" | "quiet" | "good" | "danger" | "dangerStrong";

interface Shape {
  look?: Look;
  small?: boolean;
  wide?: boolean;
}

function classes({ look = "secondary", small, wide }: Shape, extra?: string) {
  return cx(styles.button, styles[look], small && styles.small, wide && styles.wide, extra);
}

export interface ButtonProps extends Shape, ButtonHTMLAttributes<HTMLButtonElement> {
  /** Its work is under way: it shows that, and cannot be pressed again. */
  busy?: boolean;
  ref?: Ref<HTMLButtonElement>;
}

export function Button(props: ButtonProps) {
  const { look, small, wide, busy = false, disabled, className, children, type, ...rest } = props;
  return (
    <button
      type={type ?? "button"}
      className={classes({ look, small, wide }, className)}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      {...rest}
    >
      {busy && <Spinner />}
      {children}
    </button>
  );
}

export interface IconButtonProps extends Omit<ButtonProps, "children" | "wide"> {
  /** What it does, read aloud and shown when a pointer rests on it. */
  label: string;
  children: ReactNode;
}

export function IconButton({ label, className, look = "quiet", ...rest }: IconButtonProps) {
  return <Button aria-label={label} title={label} look={look} className={cx(styles.icon, className)} {...rest} />;
}

export interface ButtonLinkProps extends Shape, AnchorHTMLAttributes<HTMLAnchorElement> {
  /** A path of this page, without the part before `/ui`. */
  to: string;
}

/** A link to another place of this page that looks like a button. */
export function ButtonLink({ to, look, small, wide, className, ...rest }: ButtonLinkProps) {
  return <Link href={to} className={classes({ look, small, wide }, className)} {...rest} />;
}
