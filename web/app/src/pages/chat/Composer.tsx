import { type Agent, Problem } from "@assent/client";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import {
  type ChangeEvent,
  type ClipboardEvent,
  type DragEvent,
  type KeyboardEvent,
  type RefObject,
  useEffect,
  useId,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Button, IconButton } from "../../parts/Button.tsx";
import { SelectField } from "../../parts/Field.tsx";
import { CrossIcon, FileIcon, SendIcon, StopIcon } from "../../parts/icons.tsx";
import { Kbd } from "../../parts/Kbd.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { bytes } from "../../parts/times.ts";
import { type Draft, EMPTY_DRAFT, keepDraft, useDraft } from "./drafts.ts";
import { obstacleIn, type Obstacle, type Sent, useSending, type Way } from "./sending.ts";
import styles from "./Composer.module.css";

const words = messages.chat.composer;

export interface ComposerProps {
  thread: string | undefined;
  /** For a new conversation: the agents to choose from. */
  agents: readonly Agent[];
  /** What stands in the way of a message, as far as the page knows. */
  obstacle: Obstacle | null;
  /** Why what waits cannot be rejected here; null if it can. */
  whyNoReject: string | null;
  /** The run to stop, if one is at work. */
  activeRun: string | null;
  onSent: (sent: Sent) => void;
  /** The box, so that the page can lead the keyboard there. */
  box: RefObject<HTMLTextAreaElement | null>;
}

const isTouched = () => matchMedia("(pointer: coarse)").matches;

/** Where a person writes to the agent. What is written here never decides a question by itself. */
export function Composer(props: ComposerProps) {
  const { thread, agents, obstacle, whyNoReject, activeRun, onSent, box } = props;
  const [draft, change] = useDraft(thread);
  const [agent, setAgent] = useState<string | undefined>(undefined);
  const [asksWay, setAsksWay] = useState<Obstacle | null>(null);
  const uploads = useUploads(change);
  const sending = useSending(thread, agent ?? agents[0]?.agent, (sent) => {
    setAsksWay(null);
    change((before) => {
      const rest = without(before, sent.draft);
      if (thread !== undefined) return rest;
      // What was written since goes along into the conversation that has begun.
      keepDraft(sent.run.thread_id, rest);
      return EMPTY_DRAFT;
    });
    onSent(sent);
    box.current?.focus();
  });
  useGrowth(box, draft.text);

  // Whoever finds nothing in the way any more is not asked about it.
  useEffect(() => {
    if (obstacle === null) setAsksWay(null);
    else setAsksWay((asked) => (asked === null ? null : obstacle));
  }, [obstacle]);

  const isEmpty = draft.text.trim() === "" && draft.files.length === 0;
  const cannotSend = isEmpty || sending.isPending || uploads.isBusy;

  const send = (way: Way) => {
    if (cannotSend) return;
    sending.mutate(
      { draft, way },
      { onError: (error) => setAsksWay(obstacleIn(error) ?? asksWay) },
    );
  };
  const submit = () => {
    if (cannotSend) return;
    if (obstacle === null) send("say");
    else setAsksWay(obstacle);
  };

  const onKeyDown = (event: KeyboardEvent) => {
    // The key that ends the choice of a character in an input method is no Enter of the message.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    if (isTouched() && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    submit();
  };
  const onPaste = (event: ClipboardEvent) => {
    const files = [...event.clipboardData.files];
    if (files.length === 0) return;
    event.preventDefault();
    uploads.add(files);
  };
  const onDrop = (event: DragEvent) => {
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    uploads.add([...event.dataTransfer.files]);
  };

  const failed = sending.error !== null && obstacleIn(sending.error) === null;
  return (
    <form
      className={styles.composer}
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onDrop={onDrop}
      onDragOver={(event) => event.preventDefault()}
    >
      {asksWay !== null && !isEmpty && (
        <Ways
          obstacle={asksWay}
          whyNoReject={whyNoReject}
          busy={sending.isPending ? (sending.variables?.way ?? null) : null}
          onChoose={send}
          onBack={() => {
            setAsksWay(null);
            sending.reset();
            box.current?.focus();
          }}
        />
      )}
      <div className={styles.box}>
        <Attached draft={draft} uploads={uploads} change={change} />
        <textarea
          ref={box}
          className={styles.text}
          rows={1}
          value={draft.text}
          placeholder={obstacle === "paused" ? words.placeholderPaused : words.placeholder}
          aria-label={words.label}
          aria-keyshortcuts="/"
          onChange={(event) => change((before) => ({ ...before, text: event.target.value }))}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
        />
        <div className={styles.tools}>
          <AttachButton onFiles={uploads.add} />
          {agents.length > 1 && (
            <SelectField
              label={words.agent}
              hideLabel
              className={styles.agents}
              value={agent ?? agents[0]?.agent ?? ""}
              options={agents.map((each) => ({ value: each.agent, label: each.agent }))}
              onChange={(event) => setAgent(event.target.value)}
            />
          )}
          <span className={styles.hint} aria-hidden="true">
            <Kbd>Enter</Kbd> {words.sends} <Kbd>Shift</Kbd> <Kbd>Enter</Kbd> {words.breaks}
          </span>
          {activeRun !== null && <Stop key={activeRun} runId={activeRun} />}
          <IconButton
            type="submit"
            look="primary"
            label={words.send}
            className={styles.send}
            aria-disabled={cannotSend || undefined}
            busy={sending.isPending}
          >
            {!sending.isPending && <SendIcon />}
          </IconButton>
        </div>
      </div>
      {failed && (
        <p className={styles.error} role="alert">
          {messageOf(sending.error)}
        </p>
      )}
    </form>
  );
}

/** What was written since something was sent. */
function without({ text, files }: Draft, sent: Draft): Draft {
  const isSent = ({ file_id: id }: Draft["files"][number]) => sent.files.some((each) => each.file_id === id);
  const rest = text.startsWith(sent.text) ? text.slice(sent.text.length).trimStart() : text;
  return { text: rest, files: files.filter((each) => !isSent(each)) };
}

function messageOf(error: unknown): string {
  const isOut = error instanceof Problem && error.status === 401;
  return isOut ? words.signedOut : words.notSent(sentenceOf(error));
}

/** The box is as high as its text, up to what its style allows. */
function useGrowth(box: RefObject<HTMLTextAreaElement | null>, text: string): void {
  useLayoutEffect(() => {
    const { current } = box;
    if (current === null) return;
    current.style.height = "auto";
    current.style.height = `${current.scrollHeight}px`;
  }, [box, text]);
}

// ── ways ──

interface WaysProps {
  obstacle: Obstacle;
  whyNoReject: string | null;
  busy: Way | null;
  onChoose: (way: Way) => void;
  onBack: () => void;
}

const WAYS: Record<Obstacle, Way[]> = {
  paused: ["wait", "reject", "drop"],
  busy: ["after", "instead"],
};

/** What is to become of what runs or waits. The first way changes nothing, and has the focus: a key
 * that is pressed blindly stops and rejects nothing. */
function Ways({ obstacle, whyNoReject, busy, onChoose, onBack }: WaysProps) {
  const title = useId();
  const first = useRef<HTMLButtonElement>(null);
  useEffect(() => first.current?.focus(), []);
  return (
    <div
      className={styles.ways}
      role="group"
      aria-labelledby={title}
      onKeyDown={(event) => {
        if (event.key === "Escape") onBack();
      }}
    >
      <div className={styles.waysHead}>
        <p id={title} className={styles.waysTitle}>
          {words.ways[obstacle]}
        </p>
        <IconButton small label={words.keepWriting} onClick={onBack}>
          <CrossIcon />
        </IconButton>
      </div>
      {obstacle === "paused" && <p className={styles.waysHint}>{words.noConsent}</p>}
      <div className={styles.choices}>
        {WAYS[obstacle].map((way, place) => {
          const why = way === "reject" ? whyNoReject : null;
          return (
            <Button
              key={way}
              ref={place === 0 ? first : undefined}
              look={way === "reject" || way === "drop" || way === "instead" ? "danger" : "secondary"}
              className={styles.choice}
              busy={busy === way}
              disabled={why !== null || (busy !== null && busy !== way)}
              onClick={() => onChoose(way)}
            >
              <span className={styles.choiceText}>
                <span>{words.way[way]}</span>
                <span className={styles.choiceHint}>{why ?? words.wayHint[way]}</span>
              </span>
            </Button>
          );
        })}
      </div>
    </div>
  );
}

// ── stopping ──

/** Asks the run to stop; it shows that until the run says that it has. */
function Stop({ runId }: { runId: string }) {
  const queries = useQueryClient();
  const stopping = useMutation({
    mutationFn: () => assent.runs.cancel(runId),
    onSettled: () => queries.invalidateQueries({ queryKey: ["threads"] }),
  });
  const isStopping = stopping.isPending || stopping.isSuccess;
  return (
    <>
      {stopping.error !== null && <span className={styles.stopError}>{sentenceOf(stopping.error)}</span>}
      <Button busy={isStopping} onClick={() => stopping.mutate()}>
        {!isStopping && <StopIcon />}
        {isStopping ? words.stopping : words.stop}
      </Button>
    </>
  );
}

// ── files ──

interface Upload {
  id: number;
  name: string;
  error: string | null;
}

interface Uploads {
  list: Upload[];
  isBusy: boolean;
  add: (files: File[]) => void;
  forget: (id: number) => void;
}

let uploadCount = 0;

/** Files are uploaded as soon as they are chosen, so that sending does not wait for them. */
function useUploads(change: (change: (draft: Draft) => Draft) => void): Uploads {
  const [list, setList] = useState<Upload[]>([]);
  const forget = (id: number) => setList((before) => before.filter((each) => each.id !== id));
  const upload = async (file: File) => {
    uploadCount += 1;
    const id = uploadCount;
    setList((before) => [...before, { id, name: file.name, error: null }]);
    try {
      const { file_id, name, mime_type, size } = await assent.files.upload(file, file.name);
      change((before) => ({ ...before, files: [...before.files, { file_id, name, mime_type, size }] }));
      forget(id);
    } catch (error) {
      const failed = (each: Upload) => (each.id === id ? { ...each, error: sentenceOf(error) } : each);
      setList((before) => before.map(failed));
    }
  };
  const add = (files: File[]) => {
    for (const file of files) void upload(file);
  };
  return { list, isBusy: list.some((each) => each.error === null), add, forget };
}

interface AttachedProps {
  draft: Draft;
  uploads: Uploads;
  change: (change: (draft: Draft) => Draft) => void;
}

function Attached({ draft, uploads, change }: AttachedProps) {
  if (draft.files.length === 0 && uploads.list.length === 0) return null;
  const remove = (fileId: string) => {
    const others = (before: Draft) => before.files.filter((each) => each.file_id !== fileId);
    change((before) => ({ ...before, files: others(before) }));
    // If it cannot be removed, the server does so after a day.
    assent.files.delete(fileId).catch(() => undefined);
  };
  return (
    <ul className={styles.files} aria-label={messages.chat.said.files}>
      {draft.files.map((file) => (
        <li key={file.file_id} className={styles.file}>
          <FileIcon />
          <span className={styles.fileName}>
            <Marked text={file.name} /> <span className={styles.size}>{bytes(file.size)}</span>
          </span>
          <IconButton small label={words.removeFile(file.name)} onClick={() => remove(file.file_id)}>
            <CrossIcon />
          </IconButton>
        </li>
      ))}
      {uploads.list.map((upload) => (
        <li key={upload.id} className={styles.file} role={upload.error === null ? undefined : "alert"}>
          <FileIcon />
          <span className={styles.fileName}>
            <Marked text={upload.name} />{" "}
            <span className={upload.error === null ? styles.size : styles.fileError}>
              {upload.error ?? words.uploading}
            </span>
          </span>
          {upload.error !== null && (
            <IconButton small label={words.removeFile(upload.name)} onClick={() => uploads.forget(upload.id)}>
              <CrossIcon />
            </IconButton>
          )}
        </li>
      ))}
    </ul>
  );
}

function AttachButton({ onFiles }: { onFiles: (files: File[]) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const onChange = (event: ChangeEvent<HTMLInputElement>) => {
    onFiles([...(event.target.files ?? [])]);
    // The same file may be chosen again after it was removed.
    event.target.value = "";
  };
  return (
    <>
      <IconButton label={words.attach} onClick={() => input.current?.click()}>
        <FileIcon />
      </IconButton>
      <input ref={input} type="file" multiple hidden aria-label={words.attach} onChange={onChange} />
    </>
  );
}
