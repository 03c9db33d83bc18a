/** A tool call with its question: what will be done, and every decision that may be taken. */

import { type ToolCallMessagePartProps, useAuiState } from "@assistant-ui/react";
import {
  AlreadyDecided,
  type ApprovalForYou,
  type ApprovalState,
  type Assent,
  Changed,
  type Decision,
  type EditPreview,
  type JsonObject,
  visible,
} from "@assent/client";
import { type FormEvent, type ReactNode, useEffect, useId, useMemo, useState } from "react";

import { type AssentArtifact, jsonOf, promptOf } from "./messages.ts";
import { AssentExtras } from "./runtime.ts";

/** The words of the card, which an app may give in another language. */
export const WORDS = {
  approve: "Approve",
  edit: "Edit",
  reject: "Reject",
  respond: "Answer",
  approveEdited: "Approve with these arguments",
  cancel: "Back",
  args: "Arguments",
  editedArgs: "Arguments, as JSON",
  reason: "Reason, which the agent reads",
  answer: "Answer",
  answerJson: "Answer, as JSON",
  noObject: "Write a JSON object.",
  noJson: "Write JSON.",
  result: "Result",
  preview: "What it would do",
  previewEdit: "Show what it would do",
  asks: (tool: string) => `May ${tool} run?`,
  votes: (votes: number, quorum: number) => `${votes} of ${quorum} people have decided.`,
  decided: (status: string, by: string | null) => (by ? `${status} by ${by}` : status),
  edited: (by: string) => `${by} has changed the arguments.`,
  seen: "I have seen it",
  alreadyDecided: (by: string | null, status: string) =>
    by ? `${by} was faster: it is ${status}.` : `It is no longer asked: ${status}.`,
  changed: "Something else is asked now than you were shown. Look again.",
  unseen: (codePoint: string, name: string) => `${codePoint}, ${name}`,
};

export type Words = typeof WORDS;

/**
 * The tool UI of assistant-ui that shows each call of a tool, and what is asked about it:
 *
 *     <MessagePrimitive.Parts components={{ tools: { Override: AssentApproval } }} />
 *
 * It has plain elements with class names (`assent-…`) and data attributes, and no style of its own.
 */
export function AssentApproval(props: ToolCallMessagePartProps): ReactNode {
  const extras = useAuiState((state) => state.thread.extras);
  const artifact = isArtifact(props.artifact) ? props.artifact : null;
  const approval = artifact?.approval ?? null;
  const status = artifact?.call?.status ?? approval?.status ?? props.status.type;
  const args = approval ? jsonOf(approval.args) : props.argsText;
  return (
    <div
      className="assent-call"
      role="group"
      aria-label={props.toolName}
      data-status={status}
      data-tool={props.toolName}
    >
      <p className="assent-tool">{props.toolName}</p>
      <ArgumentsOf text={args} />
      {approval && extras instanceof AssentExtras ? (
        <Question key={approval.approval_id} assent={extras.assent} approval={approval} />
      ) : null}
      {props.result === undefined || approval?.kind === "input" ? null : (
        <div className="assent-result">
          <span className="assent-label">{WORDS.result}</span>
          <pre>
            <Marked text={textOf(props.result)} />
          </pre>
        </div>
      )}
    </div>
  );
}

function isArtifact(value: unknown): value is AssentArtifact {
  return typeof value === "object" && value !== null && "approval" in value && "call" in value;
}

function ArgumentsOf({ text }: { text: string }): ReactNode {
  if (text === "" || text === "{}") return null;
  return (
    <pre className="assent-args" aria-label={WORDS.args} tabIndex={0}>
      <Marked text={text} />
    </pre>
  );
}

/** A text in which characters that nobody sees, or takes for others, are marked. */
function Marked({ text }: { text: string }): ReactNode {
  const segments = useMemo(() => visible(text), [text]);
  return (
    <bdi>
      {segments.map((segment, at) =>
        segment.kind === "plain" ? (
          segment.text
        ) : (
          <mark
            key={at}
            className="assent-unseen"
            data-kind={segment.kind}
            title={WORDS.unseen(segment.codePoint, segment.name)}
          >
            {segment.kind === "alike" ? segment.text : ""}
            {segment.codePoint}
          </mark>
        ),
      )}
    </bdi>
  );
}

type Mode = "choose" | "edit" | "reject" | "respond";

function Question({ assent, approval }: { assent: Assent; approval: ApprovalState }): ReactNode {
  const [mode, setMode] = useState<Mode>("choose");
  const [isDeciding, setIsDeciding] = useState(false);
  const [problem, setProblem] = useState("");
  // What comes while somebody moves to a button has to be seen before it is decided.
  const [seen, setSeen] = useState(approval.digest);
  const details = useDetails(assent, approval);
  const titleId = useId();
  const isQuestion = approval.kind === "input";

  if (approval.status !== "pending") {
    return (
      <p className="assent-outcome" data-outcome={approval.status} role="status">
        <Marked text={WORDS.decided(approval.status, approval.decided_by)} />
        {typeof approval.message === "string" && approval.message ? (
          <>
            : <Marked text={approval.message} />
          </>
        ) : null}
      </p>
    );
  }

  const decide = async (decision: Decision) => {
    setIsDeciding(true);
    setProblem("");
    try {
      const { decisions } = await assent.approvals.decide(approval, decision);
      const own = decisions[approval.approval_id];
      if (decision.type === "edit" && own !== undefined) setSeen(own.digest);
      setMode("choose");
    } catch (error) {
      setProblem(sentenceOf(error));
      if (error instanceof Changed) setMode("choose");
    } finally {
      setIsDeciding(false);
    }
  };

  // Events tell how many must agree with the first vote only.
  const quorum = Math.max(details?.quorum ?? 1, approval.quorum);
  const may = details ? details.yours.may : approval.allowed;
  const button = (type: Decision["type"], act: () => void) =>
    approval.allowed.includes(type) ? (
      <button
        type="button"
        className={`assent-${type}`}
        data-decision={type}
        disabled={isDeciding || !may.includes(type)}
        onClick={act}
      >
        {WORDS[type]}
      </button>
    ) : null;
  const back = () => setMode("choose");
  const look = () => {
    setSeen(approval.digest);
    back();
  };
  const shown = approval.digest === seen ? mode : "changed";

  return (
    <div
      className="assent-question"
      role="group"
      aria-labelledby={titleId}
      data-approval={approval.approval_id}
      data-kind={approval.kind}
    >
      <p className="assent-asks" id={titleId}>
        <Marked text={isQuestion ? promptOf(approval.args) : WORDS.asks(subjectOf(approval))} />
      </p>
      {approval.edited_by ? (
        <p className="assent-edited">
          <Marked text={WORDS.edited(approval.edited_by)} />
        </p>
      ) : null}
      {quorum > 1 ? <Votes approval={approval} quorum={quorum} /> : null}
      <Effect preview={details ? details.preview : approval.preview} />
      <Warnings of={details?.warnings ?? []} />
      {details?.yours.why_not ? <p className="assent-why-not">{details.yours.why_not}</p> : null}
      {shown === "changed" ? (
        <button type="button" className="assent-seen" onClick={look}>
          {WORDS.seen}
        </button>
      ) : null}
      {shown === "choose" ? (
        <div className="assent-decisions">
          {button("approve", () => void decide({ type: "approve" }))}
          {button("edit", () => setMode("edit"))}
          {button("respond", () => setMode("respond"))}
          {button("reject", () => setMode("reject"))}
        </div>
      ) : null}
      {shown === "edit" ? (
        <Form
          label={WORDS.editedArgs}
          submit={WORDS.approveEdited}
          initial={jsonOf(approval.args)}
          isBusy={isDeciding}
          read={readArgs}
          onBack={back}
          preview={(args) => assent.approvals.preview(approval.approval_id, args)}
          onRead={(args) => void decide({ type: "edit", args })}
        />
      ) : null}
      {shown === "respond" ? (
        <Form
          label={isText(approval) ? WORDS.answer : WORDS.answerJson}
          submit={WORDS.respond}
          initial=""
          isBusy={isDeciding}
          read={isText(approval) ? readText : readJson}
          onBack={back}
          onRead={(message) => void decide({ type: "respond", message })}
        />
      ) : null}
      {shown === "reject" ? (
        <Form
          label={WORDS.reason}
          submit={WORDS.reject}
          initial=""
          isBusy={isDeciding}
          read={readText}
          onBack={back}
          onRead={(message) => void decide({ type: "reject", message })}
        />
      ) : null}
      {problem ? (
        <p className="assent-problem" role="alert">
          {problem}
        </p>
      ) : null}
    </div>
  );
}

/** What you may do about the approval, and what the server warns of, as it is asked now. */
function useDetails(assent: Assent, approval: ApprovalState): ApprovalForYou | null {
  const { approval_id, digest, status, votes } = approval;
  const [details, setDetails] = useState<ApprovalForYou | null>(null);
  useEffect(() => {
    if (status !== "pending") return;
    const stop = new AbortController();
    const load = async () => {
      const found = await assent.approvals.get(approval_id, { signal: stop.signal });
      if (!stop.signal.aborted) setDetails(found);
    };
    // Without it, the server says what may not be when it is tried.
    load().catch(() => {});
    return () => stop.abort();
  }, [assent, approval_id, digest, status, votes.length]);
  return details?.digest === digest ? details : null;
}

/** What the tool shows of the call, as its own words. */
function Effect({ preview }: { preview: unknown }): ReactNode {
  if (preview === null || preview === undefined) return null;
  return (
    <div className="assent-preview">
      <span className="assent-label">{WORDS.preview}</span>
      <pre aria-label={WORDS.preview} tabIndex={0}>
        <Marked text={textOf(preview)} />
      </pre>
    </div>
  );
}

function Warnings({ of }: { of: readonly string[] }): ReactNode {
  return of.map((warning) => (
    <p key={warning} className="assent-warning">
      <Marked text={warning} />
    </p>
  ));
}

function Votes({ approval, quorum }: { approval: ApprovalState; quorum: number }): ReactNode {
  return (
    <div className="assent-votes">
      <p>{WORDS.votes(approval.votes.length, quorum)}</p>
      <ul>
        {approval.votes.map((vote) => (
          <li key={vote.by} data-decision={vote.decision}>
            <Marked text={vote.by} />: {vote.decision}
          </li>
        ))}
      </ul>
    </div>
  );
}

type Read<T> = { readonly value: T } | { readonly problem: string };

interface FormProps<T> {
  readonly label: string;
  readonly submit: string;
  readonly initial: string;
  readonly isBusy: boolean;
  readonly read: (text: string) => Read<T>;
  readonly onRead: (value: T) => void;
  readonly onBack: () => void;
  /** What the value would mean, for those who look first. */
  readonly preview?: (value: T) => Promise<EditPreview>;
}

function Form<T>(props: FormProps<T>): ReactNode {
  const { label, submit, initial, isBusy, read, onRead, onBack, preview } = props;
  const [text, setText] = useState(initial);
  const [shown, setShown] = useState<EditPreview | null>(null);
  const [problem, setProblem] = useState("");
  const fieldId = useId();
  const problemId = useId();
  const send = (event: FormEvent) => {
    event.preventDefault();
    const found = read(text);
    if ("problem" in found) setProblem(found.problem);
    else onRead(found.value);
  };
  const look = async () => {
    const found = read(text);
    if ("problem" in found) return setProblem(found.problem);
    setProblem("");
    try {
      setShown((await preview?.(found.value)) ?? null);
    } catch (error) {
      setProblem(sentenceOf(error));
    }
  };
  const change = (written: string) => {
    setText(written);
    // It was of what stood there before.
    setShown(null);
  };
  return (
    <form className="assent-form" onSubmit={send}>
      <label htmlFor={fieldId}>{label}</label>
      <textarea
        id={fieldId}
        value={text}
        rows={Math.min(20, text.split("\n").length + 1)}
        aria-invalid={problem !== ""}
        aria-describedby={problem ? problemId : undefined}
        onChange={(event) => change(event.target.value)}
        // Whoever has opened the form goes on in it.
        ref={focusOnce}
      />
      {problem ? (
        <p id={problemId} className="assent-problem" role="alert">
          {problem}
        </p>
      ) : null}
      {shown ? (
        <>
          <Effect preview={shown.preview} />
          <Warnings of={shown.warnings} />
        </>
      ) : null}
      <button type="submit" disabled={isBusy}>
        {submit}
      </button>
      {preview ? (
        <button type="button" onClick={() => void look()}>
          {WORDS.previewEdit}
        </button>
      ) : null}
      <button type="button" onClick={onBack}>
        {WORDS.cancel}
      </button>
    </form>
  );
}

const focused = new WeakSet<HTMLElement>();

function focusOnce(field: HTMLTextAreaElement | null): void {
  if (field === null || focused.has(field)) return;
  focused.add(field);
  field.focus();
}

function readText(text: string): Read<string> {
  return { value: text };
}

function readJson(text: string): Read<unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return { value };
  } catch {
    return { problem: WORDS.noJson };
  }
}

function readArgs(text: string): Read<JsonObject> {
  const found = readJson(text);
  if ("problem" in found) return { problem: WORDS.noObject };
  return isObject(found.value) ? { value: found.value } : { problem: WORDS.noObject };
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether the answer is a text: the question's schema may want another kind of value. */
function isText(approval: ApprovalState): boolean {
  const { schema } = approval;
  if (approval.kind !== "input" || !isObject(schema)) return true;
  return schema["type"] === undefined || schema["type"] === "string";
}

function subjectOf(approval: ApprovalState): string {
  return approval.tool || approval.node || approval.kind;
}

function sentenceOf(error: unknown): string {
  if (error instanceof AlreadyDecided) return WORDS.alreadyDecided(error.by, error.outcome);
  if (error instanceof Changed) return WORDS.changed;
  return error instanceof Error ? error.message : String(error);
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : jsonOf(value);
}
