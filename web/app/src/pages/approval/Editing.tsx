/** Other arguments for a call: a form or JSON, what is different, and what they would change. */

import type { ApprovalForYou, EditPreview } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { Diff } from "../../parts/Diff.tsx";
import { TextArea } from "../../parts/Field.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Segmented } from "../../parts/Segmented.tsx";
import { Loading, Notice } from "../../parts/states.tsx";
import { Risk } from "../../parts/statuses.tsx";
import styles from "./ApprovalCard.module.css";
import { useDraft } from "./desk.ts";
import { Effect } from "./Effect.tsx";
import { fieldErrors } from "./field-errors.ts";
import { objectOf } from "./question.ts";

const SchemaForm = lazy(() => import("../../parts/SchemaForm.tsx"));

const words = messages.approval;

/** The server is asked what an edit means once nobody has typed for so long: milliseconds. */
const PAUSE = 350;

type Args = Record<string, unknown>;
type Way = "form" | "json";

/** What an edit of a budget sets; of the other kinds the server says what it takes. */
const BUDGET = { type: "object", properties: { limit: { type: "number", title: "limit" } }, required: ["limit"] };

function schemaOf(approval: ApprovalForYou): Record<string, unknown> | null {
  if (approval.kind === "budget") return BUDGET;
  const schema = objectOf(approval.schema);
  return objectOf(schema?.["properties"]) === null ? null : schema;
}

function firstArgs(approval: ApprovalForYou): Args {
  const args = objectOf(approval.args) ?? {};
  return approval.kind === "budget" ? { limit: args["limit"] } : args;
}

function useSettled<Value>(value: Value): Value {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), PAUSE);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

/** What the server says that these arguments would mean. */
function useEffectOf(approval: ApprovalForYou, args: Args, wanted: boolean) {
  const settled = useSettled(JSON.stringify(args));
  const meaning = useQuery({
    queryKey: ["effect of an edit", approval.approval_id, settled],
    queryFn: () => assent.approvals.preview(approval.approval_id, JSON.parse(settled)),
    enabled: wanted && approval.kind === "tool",
    staleTime: 0,
    placeholderData: (before: EditPreview | undefined) => before,
  });
  const isStale = settled !== JSON.stringify(args) || meaning.isPlaceholderData || meaning.isFetching;
  return { meaning, isStale };
}

/** The arguments that a text says, or why it says none. */
function readArgs(text: string): { read: Args; wrong: null } | { read: null; wrong: string } {
  try {
    const read = objectOf(JSON.parse(text));
    return read === null ? { read, wrong: words.editing.notObject } : { read, wrong: null };
  } catch (failure) {
    return { read: null, wrong: messages.form.invalid(sentenceOf(failure)) };
  }
}

export interface EditingProps {
  approval: ApprovalForYou;
  onBack: () => void;
  onEdit: (args: Args, risk: string) => void;
}

export default function Editing({ approval, onBack, onEdit }: EditingProps) {
  const [draft, change] = useDraft(approval.approval_id);
  const schema = schemaOf(approval);
  const [way, setWay] = useState<Way>(schema === null || draft.argsText !== undefined ? "json" : "form");
  const before = firstArgs(approval);
  const args = draft.args ?? before;
  const text = draft.argsText ?? JSON.stringify(args, null, 2);
  // Of the text itself, which is kept while something else is looked at: nothing but it is sent.
  const wrong = draft.argsText === undefined ? null : readArgs(draft.argsText).wrong;
  const isChanged = JSON.stringify(args) !== JSON.stringify(before);
  const { meaning, isStale } = useEffectOf(approval, args, isChanged);
  const top = useRef<HTMLDivElement>(null);

  useEffect(() => {
    top.current?.focus({ preventScroll: true });
    top.current?.scrollIntoView({ block: "start" });
  }, []);

  const refused = draft.refusal ?? (isChanged && !isStale ? meaning.error : null);
  const said = refused === null ? null : sentenceOf(refused);
  const errors = fieldErrors(said);
  const now = isChanged && meaning.data ? meaning.data : null;

  const write = (argsText: string) => {
    const { read } = readArgs(argsText);
    change({ argsText, refusal: null, ...(read !== null && { args: read }) });
  };
  const isBudget = approval.kind === "budget";
  const title = isBudget ? words.editing.budgetTitle : words.editing.title;
  const cannot = wrong !== null || !isChanged || (refused === meaning.error && refused !== null);
  return (
    <div
      ref={top}
      tabIndex={-1}
      role="group"
      aria-label={title}
      className={styles.editing}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        onBack();
      }}
    >
      <div className={styles.editingHead}>
        <strong>{title}</strong>
        {schema !== null && (
          <Segmented
            label={title}
            value={way}
            options={[
              { value: "form", label: words.answering.form },
              { value: "json", label: words.answering.json },
            ]}
            onChange={(next) => {
              if (next === "json") change({ argsText: JSON.stringify(args, null, 2) });
              else if (wrong === null) change({ argsText: undefined });
              if (next === "json" || wrong === null) setWay(next);
            }}
          />
        )}
      </div>
      {way === "form" && schema !== null ? (
        <Suspense fallback={<Loading lines={4} />}>
          <SchemaForm
            schema={schema}
            value={args}
            errors={errors}
            onChange={(value) => change({ args: objectOf(value) ?? {}, refusal: null })}
          />
        </Suspense>
      ) : (
        <TextArea
          label={words.editing.json}
          code
          rows={Math.min(18, text.split("\n").length + 1)}
          error={wrong}
          value={text}
          spellCheck={false}
          onChange={(event) => write(event.target.value)}
        />
      )}
      {said !== null && errors.length === 0 && (
        <Notice tone="bad" urgent>
          {words.refused} <Marked text={said} lines />
        </Notice>
      )}
      {isChanged ? (
        <div className={styles.section}>
          <p className={styles.label}>{words.editing.diff}</p>
          <Diff before={before} after={args} />
        </div>
      ) : (
        <p className={styles.hint}>{words.editing.same}</p>
      )}
      {now !== null && (
        <div className={styles.section} aria-busy={isStale}>
          <p className={styles.label}>{words.editing.effect}</p>
          {isStale && <p className={styles.stale}>{words.effectStale}</p>}
          <div className={isStale ? styles.isStale : undefined}>
            {now.preview !== null && <Effect preview={now.preview} />}
            {now.risk !== approval.risk && <Risk risk={now.risk} />}
            {now.quorum !== approval.quorum && <p>{words.editing.quorum(now.quorum)}</p>}
            {now.warnings.map((warning) => (
              <Notice key={warning} tone="waiting">
                <Marked text={warning} />
              </Notice>
            ))}
          </div>
        </div>
      )}
      <div className={styles.pinned}>
        <Button onClick={onBack} disabled={draft.busy}>
          {words.back}
        </Button>
        <Button
          look="good"
          className={styles.main}
          busy={draft.busy}
          disabled={cannot || isStale}
          onClick={() => onEdit(args, now?.risk ?? approval.risk)}
        >
          {isBudget ? words.editing.budgetVerb : words.editing.verb}
        </Button>
      </div>
    </div>
  );
}
