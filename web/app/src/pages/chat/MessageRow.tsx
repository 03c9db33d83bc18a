import type { AgentMessage, Message, Part, PersonMessage, SystemMessage } from "@assent/client";
import { lazy, Suspense, useState } from "react";
import { apiUrl } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { ChevronIcon, InfoIcon, SparkIcon, WarningIcon } from "../../parts/icons.tsx";
import { cx } from "../../parts/cx.ts";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Notice } from "../../parts/states.tsx";
import { bytes, number } from "../../parts/times.ts";
import { Time } from "../../parts/Time.tsx";
import { AskedOrDecided } from "./Asked.tsx";
import { Call } from "./Call.tsx";
import type { SentFile } from "./rows.ts";
import styles from "./MessageRow.module.css";

const words = messages.chat.said;

const Markdown = lazy(async () => ({ default: (await import("../../parts/Markdown.tsx")).Markdown }));

export interface MessageRowProps {
  message: Message;
  /** The name of the agent whose run it is of. */
  agent: string;
  /** It is the first of what the agent says at this point. */
  opens: boolean;
  files: SentFile[];
}

export function MessageRow({ message, agent, opens, files }: MessageRowProps) {
  switch (message.role) {
    case "person":
      return <Person message={message} files={files} />;
    case "agent":
      return <Agent message={message} agent={agent} opens={opens} />;
    case "tool":
      return (
        <article aria-label={words.agentSays(agent)}>
          {opens && <AgentHead agent={agent} message={message} />}
          <Call call={message.call} />
        </article>
      );
    case "approval":
      return (
        <article aria-label={words.agentAsks(agent)}>
          {opens && <AgentHead agent={agent} message={message} />}
          <AskedOrDecided approval={message.approval} />
        </article>
      );
    case "system":
      return <System message={message} />;
  }
}

// ── people ──

function Person({ message, files }: { message: PersonMessage; files: SentFile[] }) {
  return (
    <article className={styles.person} aria-label={words.personSays}>
      <div className={styles.bubble}>
        {message.text !== "" && <Long text={message.text} />}
        {message.text === "" && message.input !== null && <Json value={message.input} />}
        {files.length > 0 && (
          <ul className={styles.files} aria-label={words.files}>
            {files.map((file) => (
              <li key={file.file_id}>
                <File file={file} />
              </li>
            ))}
          </ul>
        )}
      </div>
      <div className={styles.when}>
        <Time at={message.at} />
      </div>
    </article>
  );
}

/** From here on a person's text is folded, at first: characters. */
const LONG = 4_000;

function Long({ text }: { text: string }) {
  const [open, setOpen] = useState(false);
  if (open || text.length <= LONG) return <Marked text={text} lines />;
  return (
    <>
      <Marked text={text.slice(0, LONG)} lines />
      <button type="button" className={styles.fold} onClick={() => setOpen(true)}>
        <ChevronIcon />
        {words.rest(number(text.length - LONG))}
      </button>
    </>
  );
}

/** What our own server keeps; no file of any other place is ever loaded. */
const OWN = /^upload_[A-Za-z0-9]+$/;
const contentOf = (fileId: string) => `${apiUrl}/files/${fileId}/content`;

function File({ file }: { file: SentFile }) {
  if (!OWN.test(file.file_id)) return <Marked text={file.name} />;
  const isImage = file.mime_type.startsWith("image/");
  return (
    <a className={styles.file} href={contentOf(file.file_id)} download>
      {isImage && <img className={styles.image} src={contentOf(file.file_id)} alt="" loading="lazy" />}
      <span className={styles.fileName}>
        <Marked text={file.name} /> {file.size > 0 && <span className={styles.size}>{bytes(file.size)}</span>}
      </span>
    </a>
  );
}

// ── agents ──

function AgentHead({ agent, message }: { agent: string; message: Message }) {
  const nested = "ns" in message ? message.ns.map((step) => step.split(":")[0]).join(" › ") : "";
  return (
    <div className={styles.head}>
      <span className={styles.seal}>
        <SparkIcon />
      </span>
      <span className={styles.name}>{agent || words.agent}</span>
      {nested !== "" && <span className={styles.nested}>{words.within(nested)}</span>}
      <span className={styles.when}>
        <Time at={message.at} />
      </span>
    </div>
  );
}

function Agent({ message, agent, opens }: { message: AgentMessage; agent: string; opens: boolean }) {
  return (
    <article aria-label={words.agentSays(agent)} className={styles.agent}>
      {(opens || message.ns.length > 0) && <AgentHead agent={agent} message={message} />}
      {message.parts.map((part) => (
        <PartView key={part.id} part={part} />
      ))}
      {message.status === "stopped" && (
        <p className={styles.cut}>
          <WarningIcon />
          {words.cutOff}
        </p>
      )}
    </article>
  );
}

function PartView({ part }: { part: Part }) {
  switch (part.type) {
    case "text":
      return (
        <div className={cx(styles.text, part.kind === "refusal" && styles.refusal)} dir="auto">
          {part.kind === "refusal" && <p className={styles.label}>{words.refusal}</p>}
          {part.kind === "transcript" && <p className={styles.label}>{words.transcript}</p>}
          <Suspense fallback={<Marked text={part.text} lines />}>
            <Markdown text={part.text} />
          </Suspense>
        </div>
      );
    case "reasoning":
      return <Reasoning text={part.text} isOpen={part.is_open} />;
    case "media":
      return <Media part={part} />;
    case "call":
      return <Call call={part} />;
  }
}

/** What the model thought before it spoke, folded. */
function Reasoning({ text, isOpen }: { text: string; isOpen: boolean }) {
  return (
    <details className={styles.reasoning}>
      <summary>
        <ChevronIcon />
        {isOpen ? words.thinking : words.thought}
      </summary>
      <div className={styles.thoughts}>
        <Marked text={text} lines />
      </div>
    </details>
  );
}

function Media({ part }: { part: Extract<Part, { type: "media" }> }) {
  if (OWN.test(part.file_id)) {
    const { file_id, mime_type, size, media } = part;
    return <File file={{ file_id, mime_type, size, name: words.media[media] ?? media }} />;
  }
  const name = words.media[part.media] ?? part.media;
  const isAddress = /^https?:\/\//i.test(part.url);
  return (
    <p className={styles.media}>
      {words.elsewhere(name)} {part.size > 0 && bytes(part.size)}{" "}
      {isAddress ? (
        <a href={part.url} target="_blank" rel="noreferrer noopener nofollow">
          {part.url}
        </a>
      ) : (
        <Marked text={part.url || part.file_id} />
      )}
    </p>
  );
}

// ── news ──

function System({ message }: { message: SystemMessage }) {
  const { event } = message;
  switch (event.type) {
    case "error":
      return (
        <Notice tone="bad">
          <strong>{words.failed}</strong> <Marked text={event.message} />
        </Notice>
      );
    case "run_cancelled":
      return (
        <p className={styles.news}>
          <InfoIcon />
          {event.rolled_back ? words.rolledBack : words.cancelled}
          {event.reason && <Marked text={event.reason} />}
        </p>
      );
    case "run_recovered":
      return (
        <p className={styles.news}>
          <InfoIcon />
          {words.recovered}
        </p>
      );
    case "budget_warning":
    case "budget_exceeded": {
      const { budget, used, limit } = event;
      const say = event.type === "budget_exceeded" ? words.budgetOver : words.budgetNear;
      return <Notice tone="waiting">{say(budget, number(used), number(limit))}</Notice>;
    }
    case "broadcast":
      return (
        <Notice>
          <strong>{words.broadcast(event.by ?? "")}</strong> <Marked text={event.message} lines />
        </Notice>
      );
  }
}
