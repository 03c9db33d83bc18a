import type { CallPart, CallStatus } from "@assent/client";
import { type ReactNode, useId, useState } from "react";
import { messages } from "../../messages/en.ts";
import type { Tone } from "../../parts/Badge.tsx";
import { CheckIcon, ChevronIcon, CrossIcon, ToolIcon, WarningIcon } from "../../parts/icons.tsx";
import { cx } from "../../parts/cx.ts";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Spinner } from "../../parts/Spinner.tsx";
import { duration } from "../../parts/times.ts";
import { AskedOrDecided } from "./Asked.tsx";
import styles from "./Call.module.css";

const words = messages.chat.call;

const TONES: Record<CallStatus, Tone> = {
  writing: "neutral",
  ready: "neutral",
  waiting: "waiting",
  running: "active",
  done: "good",
  failed: "bad",
  denied: "bad",
  unknown: "waiting",
  stopped: "neutral",
};

/** A call of a tool: one line, behind which its arguments and its result are; and what a person is
 * asked about it, or has said. */
export function Call({ call }: { call: CallPart }) {
  const [open, setOpen] = useState(false);
  const details = useId();
  return (
    <div className={styles.call}>
      <button
        type="button"
        className={styles.line}
        aria-expanded={open}
        aria-controls={open ? details : undefined}
        onClick={() => setOpen(!open)}
      >
        <ChevronIcon className={cx(styles.chevron, open && styles.turned)} />
        <ToolIcon className={styles.tool} />
        <span className={styles.name}>
          <Marked text={call.tool} />
        </span>
        <span className={styles.summary}>
          <Summary call={call} />
        </span>
        <Status call={call} />
      </button>
      {call.status === "running" && <Progress progress={call.progress} />}
      {open && (
        <div id={details} className={styles.details}>
          <Detail name={words.arguments}>
            {call.args === undefined ? <Marked text={call.args_text} lines /> : <Json value={call.args} />}
          </Detail>
          {call.error !== null && (
            <Detail name={words.error}>
              <Marked text={call.error.message ?? call.error.type} lines />
            </Detail>
          )}
          {call.status === "done" && (
            <Detail name={words.result}>
              <Json value={opened(call.output)} depth={2} />
            </Detail>
          )}
          {call.documents.length > 0 && (
            <Detail name={words.documents}>
              <Json value={call.documents} depth={1} />
            </Detail>
          )}
        </div>
      )}
      {call.approval !== null && <AskedOrDecided approval={call.approval} />}
    </div>
  );
}

function Detail({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className={styles.detail}>
      <div className={styles.heading}>{name}</div>
      {children}
    </div>
  );
}

/** What tools return is often JSON in a text. */
function opened(output: unknown): unknown {
  if (typeof output !== "string" || !/^\s*[[{]/.test(output)) return output;
  try {
    return JSON.parse(output);
  } catch {
    return output;
  }
}

/** Enough of the arguments to tell calls apart: all of them are behind the line. */
const SUMMARY = 160;

function Summary({ call }: { call: CallPart }) {
  const { args } = call;
  if (args === undefined) return <code>{call.args_text.slice(-SUMMARY)}</code>;
  if (typeof args !== "object" || args === null) return <code>{JSON.stringify(args)}</code>;
  const entries = Object.entries(args);
  const shown = entries.map(([name, value]) => `${name}: ${textOf(value)}`).join(", ");
  return <Marked text={shown.slice(0, SUMMARY)} />;
}

function textOf(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.slice(0, SUMMARY).replaceAll(/\s+/g, " ");
}

function Status({ call }: { call: CallPart }) {
  const { status, started_at, ended_at } = call;
  const isOver = status === "done" || status === "failed";
  const took = isOver && started_at && ended_at ? Date.parse(ended_at) - Date.parse(started_at) : null;
  return (
    <span className={cx(styles.status, styles[TONES[status]])}>
      <Sign status={status} />
      <span className={cx(status === "done" && took !== null && "sr-only")}>{words.statuses[status]}</span>
      {took !== null && <span>{duration(took)}</span>}
    </span>
  );
}

function Sign({ status }: { status: CallStatus }) {
  if (status === "running" || status === "writing") return <Spinner />;
  if (status === "done") return <CheckIcon />;
  if (status === "failed" || status === "denied") return <CrossIcon />;
  if (status === "unknown") return <WarningIcon />;
  return null;
}

/** What a tool sends while it runs: a part of the whole where it is a number, else as it is. */
function Progress({ progress }: { progress: unknown }) {
  if (progress === null || progress === undefined) return null;
  const part = typeof progress === "number" && progress >= 0 && progress <= 1 ? progress : null;
  if (part !== null) return <progress className={styles.bar} value={part} max={1} aria-label={words.progress} />;
  return (
    <div className={styles.progress}>
      {typeof progress === "string" ? <Marked text={progress} lines /> : <Json value={progress} depth={1} />}
    </div>
  );
}
