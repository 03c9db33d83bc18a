import type { ApprovalForYou } from "@assent/client";
import { lazy, type ReactNode, Suspense, useState } from "react";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { TextArea } from "../../parts/Field.tsx";
import { Kbd } from "../../parts/Kbd.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Segmented } from "../../parts/Segmented.tsx";
import { Loading, Notice } from "../../parts/states.tsx";
import styles from "./ApprovalCard.module.css";
import { type Draft, useDraft } from "./desk.ts";
import { fieldErrors } from "./field-errors.ts";
import { choicesOf, objectOf } from "./question.ts";

const SchemaForm = lazy(() => import("../../parts/SchemaForm.tsx"));

const words = messages.approval.answering;

/** More choices than these would hide what is asked: they scroll with it. */
const MANY = 5;

type Way = NonNullable<Draft["answerWay"]>;

/** The ways in which a question can be answered, the usual one first. */
function waysFor(schema: unknown): Way[] {
  const type = objectOf(schema)?.["type"];
  if (type === "object" || type === "array" || type === "boolean") return ["form", "json"];
  if (type === "integer" || type === "number") return ["form", "json"];
  if (type === "string") return ["text"];
  return ["text", "json"];
}

export interface AnsweringProps {
  approval: ApprovalForYou;
  /** The choices have keys. */
  withKeys: boolean;
  /** What else can be done, beside the button that sends. */
  beside: ReactNode;
  onAnswer: (answer: unknown) => void;
}

/** Answers a question: by a button for each choice, by its form, in words, or as JSON. */
export function Answering({ approval, withKeys, beside, onAnswer }: AnsweringProps) {
  const [draft, change] = useDraft(approval.approval_id);
  const ways = waysFor(approval.schema);
  const way = ways.find((each) => each === draft.answerWay) ?? ways[0] ?? "text";
  const [error, setError] = useState<string | null>(null);
  const choices = choicesOf(approval);
  const said = draft.refusal === null ? null : sentenceOf(draft.refusal);

  if (choices !== null) {
    return (
      <div className={choices.length > MANY ? styles.form : styles.panel} role="group" aria-label={words.choose}>
        {said && <Refused sentence={said} />}
        {choices.map((choice, place) => (
          <Button
            key={choice}
            disabled={draft.busy}
            className={styles.choice}
            aria-keyshortcuts={withKeys && place < 9 ? String(place + 1) : undefined}
            onClick={() => onAnswer(choice)}
          >
            <Marked text={choice} />
            {withKeys && place < 9 && <Kbd>{String(place + 1)}</Kbd>}
          </Button>
        ))}
        <div className={styles.row}>{beside}</div>
      </div>
    );
  }

  const answer = () => {
    setError(null);
    if (way === "form") return onAnswer(draft.answerForm);
    if (draft.answer.trim() === "") return setError(words.needed);
    if (way === "text") return onAnswer(draft.answer);
    try {
      return onAnswer(JSON.parse(draft.answer));
    } catch (failure) {
      return setError(messages.form.invalid(sentenceOf(failure)));
    }
  };
  const schema = objectOf(approval.schema);
  const errors = fieldErrors(said);
  return (
    <form
      className={way === "form" ? styles.form : styles.panel}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        answer();
      }}
      onKeyDown={(event) => {
        if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        answer();
      }}
    >
      {ways.length > 1 && (
        <Segmented
          label={words.how}
          value={way}
          options={ways.map((each) => ({ value: each, label: words[each] }))}
          onChange={(next) => {
            // What was filled in goes along.
            if (next === "json" && way === "form" && draft.answerForm !== undefined) {
              change({ answer: JSON.stringify(draft.answerForm, null, 2) });
            }
            change({ answerWay: next });
          }}
        />
      )}
      {said && (way !== "form" || errors.length === 0) && <Refused sentence={said} />}
      {way === "form" && schema !== null ? (
        <Suspense fallback={<Loading lines={3} />}>
          <SchemaForm
            schema={schema}
            value={draft.answerForm}
            withDefaults
            errors={errors}
            onChange={(answerForm) => change({ answerForm })}
          />
        </Suspense>
      ) : (
        <TextArea
          label={words.label}
          code={way === "json"}
          rows={way === "json" ? 6 : 3}
          error={error}
          value={draft.answer}
          onChange={(event) => {
            setError(null);
            change({ answer: event.target.value });
          }}
        />
      )}
      <div className={way === "form" ? styles.pinned : styles.row}>
        <Button type="submit" look="primary" busy={draft.busy} className={styles.main}>
          {words.verb}
        </Button>
        {beside}
      </div>
    </form>
  );
}

function Refused({ sentence }: { sentence: string }) {
  return (
    <Notice tone="bad" urgent>
      {messages.approval.refused} <Marked text={sentence} lines />
    </Notice>
  );
}
