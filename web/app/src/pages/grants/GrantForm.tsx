import type { Agent, Json } from "@assent/client";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId, useState } from "react";
import { assent } from "../../assent.ts";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Button } from "../../parts/Button.tsx";
import { Dialog } from "../../parts/Dialog.tsx";
import { CheckField, SelectField, TextArea, TextField } from "../../parts/Field.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { ErrorState, Loading, Notice } from "../../parts/states.tsx";
import { fullTime, serverNow } from "../../parts/times.ts";
import { argumentsOf, type Argument, boundOf, type Draft, draftOf, type Kind, kindsOf } from "./bounds.ts";
import styles from "./Grants.module.css";
import { boundText } from "./words.ts";

const words = messages.grants;
const HOUR = 60 * 60 * 1000;
const SPANS = ["1", "8", "24", "168", "720"] as const;

type Tool = NonNullable<Agent["tools"]>[number];

/** Approves calls in advance, and says in a sentence what that will let through. */
export function GrantForm({ onClose }: { onClose: () => void }) {
  const agents = useQuery({ queryKey: ["agents"], queryFn: () => assent.agents.list() });
  const [isBusy, setIsBusy] = useState(false);
  const form = useId();
  const offered = (agents.data ?? []).flatMap(({ agent, tools = [] }) =>
    tools.filter((tool) => tool.needs_approval).map((tool) => ({ agent, tool })),
  );
  return (
    <Dialog
      open
      onOpenChange={(open) => {
        if (!open) onClose();
      }}
      title={words.add}
      actions={
        <>
          <Button onClick={onClose}>{messages.actions.cancel}</Button>
          <Button type="submit" form={form} look="primary" busy={isBusy} disabled={offered.length === 0}>
            {words.give}
          </Button>
        </>
      }
    >
      {agents.isPending && <Loading lines={4} />}
      {agents.isError && <ErrorState error={agents.error} retry={() => void agents.refetch()} />}
      {agents.data && offered.length === 0 && <Notice>{words.noTools}</Notice>}
      {offered.length > 0 && <Fields id={form} offered={offered} onBusy={setIsBusy} onClose={onClose} />}
    </Dialog>
  );
}

interface FieldsProps {
  id: string;
  offered: readonly { agent: string; tool: Tool }[];
  onBusy: (isBusy: boolean) => void;
  onClose: () => void;
}

function Fields({ id, offered, onBusy, onClose }: FieldsProps) {
  const me = useMe();
  const queries = useQueryClient();
  const announce = useAnnounce();
  const [place, setPlace] = useState(0);
  const [drafts, setDrafts] = useState<Record<string, Draft>>({});
  const [user, setUser] = useState(me.authentication === "local" ? me.name : "");
  const [thread, setThread] = useState("");
  const [uses, setUses] = useState("10");
  const [hours, setHours] = useState<string>("24");
  const [isTried, setIsTried] = useState(false);

  const chosen = offered[place] ?? offered[0];
  const args = argumentsOf(chosen?.tool.schema ?? null);
  const draft = (argument: Argument) => drafts[argument.name] ?? draftOf(argument);
  const bounds = args.map((argument) => ({ argument, ...boundOf(argument, draft(argument)) }));
  const wrongUses = !/^[1-9]\d{0,6}$/.test(uses) || Number(uses) > 1_000_000;
  const wrongScope = user.trim() === "" && thread.trim() === "";
  const isWhole = !wrongUses && !wrongScope && bounds.every(({ error }) => error === null);

  const give = useMutation({
    mutationFn: () => {
      const named = bounds.flatMap(({ argument, bound }) => (bound === null ? [] : [[argument.name, bound] as const]));
      return assent.grants.create({
        tool: chosen?.tool.name ?? "",
        agent: chosen?.agent ?? null,
        bounds: Object.fromEntries(named),
        uses: Number(uses),
        until: new Date(serverNow() + Number(hours) * HOUR).toISOString(),
        user: user.trim() || null,
        thread_id: thread.trim() || null,
      });
    },
    onMutate: () => onBusy(true),
    onSettled: () => onBusy(false),
    onSuccess: () => {
      void queries.invalidateQueries({ queryKey: ["approvals", "grants"] });
      announce(words.given);
      onClose();
    },
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    setIsTried(true);
    if (isWhole) give.mutate();
  };
  const until = new Date(serverNow() + Number(hours) * HOUR).toISOString();
  return (
    <form id={id} className={styles.form} onSubmit={send} noValidate>
      <Notice tone="waiting">{words.warning}</Notice>
      {give.isError && (
        <Notice tone="bad" urgent>
          {sentenceOf(give.error)}
        </Notice>
      )}
      <SelectField
        label={words.tool}
        value={String(place)}
        hint={chosen?.tool.description}
        options={offered.map(({ agent, tool }, each) => ({ value: String(each), label: words.toolOf(tool.name, agent) }))}
        onChange={(event) => {
          setPlace(Number(event.target.value));
          setDrafts({});
        }}
      />
      <fieldset className={styles.form}>
        <legend className={styles.legend}>{words.bounds}</legend>
        {args.length === 0 && <p className={styles.quiet}>{words.noArguments}</p>}
        {bounds.map(({ argument, error }) => (
          <BoundFields
            key={`${place} ${argument.name}`}
            argument={argument}
            draft={draft(argument)}
            error={isTried ? error : null}
            onChange={(next) => setDrafts({ ...drafts, [argument.name]: next })}
          />
        ))}
      </fieldset>
      <div className={styles.two}>
        <TextField
          label={words.uses}
          inputMode="numeric"
          value={uses}
          error={isTried && wrongUses ? words.usesWrong : null}
          onChange={(event) => setUses(event.target.value)}
        />
        <SelectField
          label={words.lasts}
          value={hours}
          options={SPANS.map((value) => ({ value, label: words.spans[value] }))}
          onChange={(event) => setHours(event.target.value)}
        />
      </div>
      <div className={styles.two}>
        <TextField
          label={words.user}
          hint={words.userHint}
          value={user}
          autoComplete="off"
          error={isTried && wrongScope ? words.scopeMissing : null}
          onChange={(event) => setUser(event.target.value)}
        />
        <TextField label={words.thread} hint={words.threadHint} value={thread} code autoComplete="off" onChange={(event) => setThread(event.target.value)} />
      </div>
      {chosen && (
        <section className={styles.summary} aria-label={words.summary} aria-live="polite">
          <p>
            {words.will} <code>{chosen.tool.name}</code>{" "}
            {bounds.every(({ error }) => error === null) ? (
              <Limits of={bounds.flatMap(({ argument, bound }) => (bound ? [[argument.name, boundText(bound)] as const] : []))} />
            ) : (
              words.withinBounds
            )}
            {words.summaryEnd(wrongUses ? "…" : uses, fullTime(until), user.trim(), thread.trim())}
          </p>
        </section>
      )}
    </form>
  );
}

function Limits({ of: limits }: { of: (readonly [string, string])[] }) {
  if (limits.length === 0) return <>{words.withoutArguments}</>;
  return (
    <>
      {words.where}{" "}
      {limits.map(([name, text], place) => (
        <span key={name}>
          {place > 0 && words.and}
          <code>{name}</code> {words.is} <strong><Marked text={text} /></strong>
        </span>
      ))}
    </>
  );
}

interface ChoicesProps {
  label: string;
  of: readonly Json[];
  /** By their JSON. */
  picked: readonly string[];
  error: string | null;
  onPick: (picked: readonly string[]) => void;
}

/** Of the values that an argument may have, those that are let through. */
function Choices({ label, of: choices, picked, error, onPick }: ChoicesProps) {
  const said = useId();
  return (
    <fieldset className={styles.choices} aria-describedby={error === null ? undefined : said}>
      <legend className={styles.legend}>{label}</legend>
      {choices.map((choice) => {
        const value = JSON.stringify(choice);
        const isPicked = picked.includes(value);
        const others = picked.filter((each) => each !== value);
        return (
          <CheckField
            key={value}
            label={<Marked text={typeof choice === "string" ? choice : value} />}
            checked={isPicked}
            onChange={() => onPick(isPicked ? others : [...picked, value])}
          />
        );
      })}
      {error !== null && (
        <div id={said}>
          <Notice tone="bad" urgent>
            {error}
          </Notice>
        </div>
      )}
    </fieldset>
  );
}

interface BoundFieldsProps {
  argument: Argument;
  draft: Draft;
  error: string | null;
  onChange: (draft: Draft) => void;
}

function BoundFields({ argument, draft, error, onChange }: BoundFieldsProps) {
  const { name } = argument;
  return (
    <div className={styles.argument}>
      <SelectField
        label={name}
        value={draft.kind}
        options={kindsOf(argument).map((kind) => ({ value: kind, label: words.kinds[kind] }))}
        onChange={(event) => {
          const kind = kindsOf(argument).find((each): each is Kind => each === event.target.value);
          if (kind !== undefined) onChange({ ...draft, kind });
        }}
      />
      {draft.kind === "range" && (
        <div className={styles.two}>
          <TextField label={words.min(name)} inputMode="decimal" value={draft.min} error={error} onChange={(event) => onChange({ ...draft, min: event.target.value })} />
          <TextField label={words.max(name)} inputMode="decimal" value={draft.max} onChange={(event) => onChange({ ...draft, max: event.target.value })} />
        </div>
      )}
      {draft.kind === "among" && argument.choices !== null && (
        <Choices label={words.values(name)} of={argument.choices} picked={draft.picked} error={error} onPick={(picked) => onChange({ ...draft, picked })} />
      )}
      {draft.kind === "among" && argument.choices === null && (
        <TextArea
          label={words.values(name)}
          hint={words.valuesHint}
          value={draft.values}
          rows={2}
          code
          error={error}
          onChange={(event) => onChange({ ...draft, values: event.target.value })}
        />
      )}
      {draft.kind === "any" && <Notice tone="waiting">{words.anyHint}</Notice>}
    </div>
  );
}
