import { isObject, type RunOptions } from "@assent/client";
import { useMutation, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { useLocation } from "wouter";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { Dialog } from "../../parts/Dialog.tsx";
import { TextArea } from "../../parts/Field.tsx";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Segmented } from "../../parts/Segmented.tsx";
import { Loading, Notice } from "../../parts/states.tsx";
import type { Known } from "./history.ts";
import styles from "./StatePage.module.css";

const words = messages.state;
const SchemaForm = lazy(() => import("../../parts/SchemaForm.tsx"));

type Way = "as-it-is" | "message" | "values";
type Form = "form" | "json";

interface FromProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  threadId: string;
  agent: string;
  known: Known;
  /** The thread waits for a person now. */
  isPaused: boolean;
}

interface AnewProps {
  threadId: string;
  known: Known;
  isOpen: boolean;
  /** The thread waits, and what it waits for is dropped. */
  isDropped: boolean;
}

/** What is asked anew from this state on, as the server says; of what comes later nobody knows yet. */
function Anew({ threadId, known, isOpen, isDropped }: AnewProps) {
  const asks = useQuery({
    queryKey: ["asks", threadId, known.id],
    queryFn: ({ signal }) => assent.threads.asks(threadId, known.id, { signal }),
    enabled: isOpen,
  });
  const questions = asks.data?.asks ?? [];
  return (
    <Notice tone="waiting">
      {questions.length > 0 && (
        <>
          <p>{words.askedAtOnce(questions.length)}</p>
          <ul className={styles.anew}>
            {questions.map((each) => (
              <li key={`${each.node} ${each.tool_call_id}`}>
                <strong>
                  <Marked text={each.tool || each.node} />
                </strong>
                <Json value={each.args} depth={1} />
              </li>
            ))}
          </ul>
        </>
      )}
      {asks.data?.standing === "at_rest" && <p>{words.atRest}</p>}
      <p>{words.anew}</p>
      {isDropped && <p>{words.dropped}</p>}
    </Notice>
  );
}

function parsed(text: string): { value: unknown; error: string | null } {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? { value, error: null } : { value: null, error: words.notObject };
  } catch (error) {
    return { value: null, error: messages.form.invalid(error instanceof Error ? error.message : "") };
  }
}

/** Runs from a checkpoint: as it is, with a message, or with other values. */
export function RunFrom({ open, onOpenChange, threadId, agent, known, isPaused }: FromProps) {
  const [, go] = useLocation();
  const [way, setWay] = useState<Way>("as-it-is");
  const [text, setText] = useState("");
  const [values, setValues] = useState("{}");
  const [isTried, setIsTried] = useState(false);
  const read = parsed(values);
  const isMissing = way === "message" ? text.trim() === "" : way === "values" && read.error !== null;
  const start = useMutation({
    mutationFn: () => {
      const options: RunOptions = { thread_id: threadId, checkpoint_id: known.id };
      if (isPaused) options.if_paused = "cancel";
      if (way === "values") options.input = read.value;
      return assent.runs.start(way === "message" ? text : null, options);
    },
    onSuccess: (run) => go(`/runs/${run.run_id}`),
  });
  const confirm = () => {
    setIsTried(true);
    if (!isMissing) start.mutate();
  };
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={words.runTitle}
      actions={
        <>
          <Button onClick={() => onOpenChange(false)}>{messages.actions.back}</Button>
          <Button look="primary" busy={start.isPending} onClick={confirm}>
            {words.runVerb}
          </Button>
        </>
      }
    >
      <div className={styles.dialog}>
        <Segmented
          label={words.way}
          value={way}
          options={[
            { value: "as-it-is", label: words.ways["as-it-is"] },
            { value: "message", label: words.ways.message },
            { value: "values", label: words.ways.values },
          ]}
          onChange={setWay}
        />
        <p className={styles.quiet}>{words.wayHints[way]}</p>
        {way === "message" && (
          <TextArea
            label={words.message}
            rows={3}
            value={text}
            error={isTried && isMissing ? words.messageMissing : null}
            onChange={(event) => setText(event.target.value)}
          />
        )}
        {way === "values" && <Given agent={agent} values={values} error={isTried ? read.error : null} onChange={setValues} />}
        <Anew threadId={threadId} known={known} isOpen={open} isDropped={isPaused} />
        {start.isError && <Notice tone="bad">{sentenceOf(start.error)}</Notice>}
      </div>
    </Dialog>
  );
}

interface GivenProps {
  agent: string;
  values: string;
  error: string | null;
  onChange: (values: string) => void;
}

/** Fields of the graph's input: as a form where its schema has one, or as JSON. */
function Given({ agent, values, error, onChange }: GivenProps) {
  const [form, setForm] = useState<Form>("json");
  const schemas = useQuery({ queryKey: ["schemas", agent], queryFn: ({ signal }) => assent.agents.schemas(agent, { signal }), staleTime: Infinity });
  const schema = schemas.data?.input_schema;
  const { value } = parsed(values);
  return (
    <>
      {isObject(schema) && (
        <Segmented
          label={words.form}
          value={form}
          options={[
            { value: "json", label: words.forms.json },
            { value: "form", label: words.forms.form },
          ]}
          onChange={setForm}
        />
      )}
      {form === "form" && isObject(schema) ? (
        <Suspense fallback={<Loading lines={3} />}>
          <SchemaForm schema={{ ...schema }} value={value ?? {}} onChange={(changed) => onChange(JSON.stringify(changed, null, 2))} />
        </Suspense>
      ) : (
        <TextArea code label={words.values} rows={8} spellCheck={false} value={values} error={error} onChange={(event) => onChange(event.target.value)} />
      )}
    </>
  );
}

/** Makes a new thread that begins with this state. */
export function ForkFrom({ open, onOpenChange, threadId, known }: Omit<FromProps, "agent" | "isPaused">) {
  const [, go] = useLocation();
  const fork = useMutation({
    mutationFn: () => assent.threads.fork(threadId, { checkpoint_id: known.id }),
    onSuccess: (thread) => {
      onOpenChange(false);
      go(`/threads/${encodeURIComponent(thread.thread_id)}/state`);
    },
  });
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={words.forkTitle}
      actions={
        <>
          <Button onClick={() => onOpenChange(false)}>{messages.actions.back}</Button>
          <Button look="primary" busy={fork.isPending} onClick={() => fork.mutate()}>
            {words.forkVerb}
          </Button>
        </>
      }
    >
      <div className={styles.dialog}>
        <p>{words.forkHint}</p>
        <Anew threadId={threadId} known={known} isOpen={open} isDropped={false} />
        {fork.isError && <Notice tone="bad">{sentenceOf(fork.error)}</Notice>}
      </div>
    </Dialog>
  );
}
