import styles from "./Spinner.module.css";

/** Says that something is under way, to the eye alone. */
export function Spinner() {
  return <span className={styles.spinner} aria-hidden="true" />;
}
