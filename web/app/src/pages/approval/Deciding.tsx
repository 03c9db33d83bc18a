/** What can be done about an approval, and the steps of doing it. */

import type { Approval, ApprovalForYou, Decision } from "@assent/client";
import {
  lazy,
  type MouseEvent,
  type ReactNode,
  type Ref,
  Suspense,
  useEffect,
  useId,
  useImperativeHandle,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { flushSync } from "react-dom";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { Button, type Look } from "../../parts/Button.tsx";
import { cx } from "../../parts/cx.ts";
import { TextArea } from "../../parts/Field.tsx";
import { CheckIcon, WarningIcon } from "../../parts/icons.tsx";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Loading, Notice } from "../../parts/states.tsx";
import { Answering } from "./Answering.tsx";
import styles from "./ApprovalCard.module.css";
import { disarm, type Open, useDraft } from "./desk.ts";
import { useDecide, type Wording, wordingOf } from "./deciding.ts";
import { More } from "./More.tsx";
import { agreeing, choicesOf, isRisky, limitOf, nameOf } from "./question.ts";

const Editing = lazy(() => import("./Editing.tsx"));

const words = messages.approval;

/** What can be pressed next waits for so long after a press: milliseconds. */
const SAME_PRESS = 400;

/** What a list can do with the card beside it. */
export interface CardHandle {
  /** Gets ready to agree: the next Enter does. */
  arm(): void;
  /** Gets ready to give the choice at this place, from 0. */
  choose(place: number): void;
  reject(): void;
  edit(): void;
  focus(): void;
}

/** What a rejection is called where it means something else. */
const rejecting: Partial<Record<Approval["kind"], { hint: "giveUpHint" | "budgetHint"; verb: "giveUpVerb" | "budgetVerb" }>> = {
  unknown_outcome: { hint: "giveUpHint", verb: "giveUpVerb" },
  budget: { hint: "budgetHint", verb: "budgetVerb" },
};

interface Does {
  decision: Decision["type"];
  label: string;
  look: Look;
}

/** The decisions that the reader may take, that which agrees first. */
function offered(approval: ApprovalForYou, me: string): Does[] {
  const { votes, digest } = approval;
  const agreed = votes.some((vote) => vote.by === me && vote.digest === digest && vote.decision.type === "approve");
  const may = (type: Decision["type"]) => approval.yours.may.includes(type);
  const { kind } = approval;
  const list: Does[] = [];
  const { decisions } = words;
  if (may("approve") && !agreed) {
    const wording = wordingOf(approval, "approve");
    const label = wording === "budget" ? decisions.budget(limitOf(approval)) : decisions[wording];
    list.push({ decision: "approve", label, look: "good" });
  }
  if (may("respond") && kind === "unknown_outcome") {
    list.push({ decision: "respond", label: decisions.happened, look: "secondary" });
  }
  if (may("edit")) {
    const label = kind === "budget" ? decisions.budgetEdit : decisions.edit;
    list.push({ decision: "edit", label, look: "secondary" });
  }
  if (may("reject")) {
    const label =
      kind === "unknown_outcome" ? decisions.giveUp : kind === "budget" ? decisions.budgetReject : decisions.reject;
    list.push({ decision: "reject", label, look: "danger" });
  }
  return list;
}

export interface DecidingProps {
  approval: ApprovalForYou;
  onDecided?: ((approval: Approval) => void) | undefined;
  handle?: Ref<CardHandle> | undefined;
}

export function Deciding({ approval, onDecided, handle }: DecidingProps) {
  const me = useMe();
  const [draft, change] = useDraft(approval.approval_id);
  const decide = useDecide(me.name, onDecided);
  const first = useRef<HTMLDivElement>(null);
  const may = approval.yours.may;

  const send = (decision: Decision) => void decide(approval, decision);
  /** Sends it, or has it looked at once more first. */
  const begin = (decision: Decision, risk: string = approval.risk) => {
    // What is run again by mistake happens twice.
    const isTwice = approval.kind === "unknown_outcome" && decision.type === "approve";
    if (!isRisky(risk) && !isTwice) return send(decision);
    change({ open: armed(decision, "button", risk, draft.open), refusal: null });
  };
  const armed = (decision: Decision, by: "key" | "button", risk = approval.risk, from: Open | null = null): Open => ({
    kind: "armed",
    decision,
    digest: approval.digest,
    by,
    risk,
    from,
  });
  const open = (next: Open | null) => change({ open: next, refusal: null, told: null });
  const back = (): void => {
    const was = draft.open;
    // At once, so that the buttons are there again, and no key comes in between.
    flushSync(() => open(was?.kind === "armed" ? was.from : null));
    if (handle !== undefined) return toTitle(first.current);
    const led = was?.kind === "armed" ? was.decision.type : was?.kind;
    first.current?.querySelector<HTMLElement>(`[data-decision="${led ?? ""}"]`)?.focus();
  };

  useImperativeHandle(handle, () => ({
    arm() {
      if (draft.busy || !may.includes("approve")) return;
      open(armed({ type: "approve" }, "key"));
    },
    choose(place) {
      const choice = choicesOf(approval)?.[place];
      if (draft.busy || choice === undefined || !may.includes("respond")) return;
      open(armed({ type: "respond", message: choice }, "key"));
    },
    reject() {
      if (!draft.busy && may.includes("reject")) open({ kind: "reject" });
    },
    edit() {
      if (draft.busy) return;
      if (may.includes("edit")) open({ kind: "edit" });
      else if (approval.kind === "input") toAnswer(first.current);
    },
    focus() {
      toTitle(first.current);
    },
  }));

  // What was armed is not ready any more for who comes back to it, or is asked something else.
  const isOld = draft.open?.kind === "armed" && draft.open.digest !== approval.digest;
  useLayoutEffect(() => {
    if (isOld) disarm(approval.approval_id);
  }, [isOld, approval.approval_id]);
  // A card that is hidden while the next page is on its way stays mounted, but has no layout.
  useLayoutEffect(() => () => disarm(approval.approval_id), [approval.approval_id]);

  const kind = isOld ? null : (draft.open?.kind ?? null);
  const answers = approval.kind === "input" && may.includes("respond");
  const buttons = (
    <>
      {offered(approval, me.name).map(({ decision, label, look }) => (
        <Button
          key={decision}
          data-decision={decision}
          look={look}
          busy={draft.busy && decision === "approve"}
          disabled={draft.busy}
          className={decision === "approve" ? styles.main : undefined}
          onClick={() => (decision === "approve" ? begin({ type: "approve" }) : open({ kind: decision }))}
        >
          {decision === "approve" && <CheckIcon />}
          {label}
        </Button>
      ))}
      <More approval={approval} onRespond={() => open({ kind: "respond" })} />
    </>
  );
  return (
    <div className={styles.deciding} ref={first} onClickCapture={ignoreSecond}>
      {draft.refusal !== null && kind !== "edit" && !answers && (
        <Notice tone="bad" urgent>
          {words.refused} <Marked text={sentenceOf(draft.refusal)} lines />
        </Notice>
      )}
      {answers && kind !== "armed" && kind !== "reject" && (
        <Answering approval={approval} withKeys={handle !== undefined} beside={buttons} onAnswer={(message) => begin({ type: "respond", message })} />
      )}
      {!isOld && draft.open?.kind === "armed" && (
        <Armed approval={approval} armed={draft.open} busy={draft.busy} onBack={back} onConfirm={send} />
      )}
      {kind === "reject" && (
        <Saying
          label={words.rejecting.label}
          hint={words.rejecting[rejecting[approval.kind]?.hint ?? "hint"]}
          verb={words.rejecting[rejecting[approval.kind]?.verb ?? "verb"]}
          look="dangerStrong"
          text={draft.reason}
          onText={(reason) => change({ reason })}
          busy={draft.busy}
          onBack={back}
          onSay={(message) => send(message === "" ? { type: "reject" } : { type: "reject", message })}
        />
      )}
      {kind === "respond" && (
        <Saying
          label={approval.kind === "unknown_outcome" ? words.responding.happened : words.responding.label}
          hint={approval.kind === "unknown_outcome" ? words.responding.happenedHint : words.responding.hint}
          verb={words.responding.verb}
          look="primary"
          needed
          text={draft.result}
          onText={(result) => change({ result })}
          busy={draft.busy}
          onBack={back}
          onSay={(message) => begin({ type: "respond", message })}
        />
      )}
      {kind === "edit" && (
        <Suspense fallback={<Loading lines={3} />}>
          <Editing approval={approval} onBack={back} onEdit={(args, risk) => begin({ type: "edit", args }, risk)} />
        </Suspense>
      )}
      {kind === null && !answers && <div className={styles.pinned}>{buttons}</div>}
    </div>
  );
}

/** Leads to the card's title, where no key decides: whoever uses keys may press one too many. */
function toTitle(place: HTMLElement | null) {
  place?.closest("article")?.querySelector<HTMLElement>("[data-card-title]")?.focus();
}

/** Leads to where a question is answered: what is written in, else the first choice. */
function toAnswer(place: HTMLElement | null) {
  const field = place?.querySelector<HTMLElement>("textarea, input, select");
  (field ?? place?.querySelector<HTMLElement>("button"))?.focus();
}

/** The second press of a double one: what stood there at the first may be gone by then. */
function ignoreSecond(event: MouseEvent): void {
  const isButton = event.target instanceof Element && event.target.closest("button") !== null;
  if (event.detail < 2 || !isButton) return;
  event.preventDefault();
  event.stopPropagation();
}

interface ArmedProps {
  approval: ApprovalForYou;
  armed: Extract<Open, { kind: "armed" }>;
  busy: boolean;
  onBack: () => void;
  onConfirm: (decision: Decision) => void;
}

/** The second look: says what will happen, and asks for another press than the one that led here. */
function Armed({ approval, armed, busy, onBack, onConfirm }: ArmedProps) {
  const title = useId();
  const group = useRef<HTMLDivElement>(null);
  const confirm = useRef<HTMLButtonElement>(null);
  // Another press that comes at once is the same one: of a double click, or of a key held down.
  const [isReady, setIsReady] = useState(armed.by === "key");
  const wording: Wording = wordingOf(approval, armed.decision.type);

  useEffect(() => {
    // Whoever pressed a button must press another one, not the same key again.
    if (armed.by === "key") confirm.current?.focus();
    else group.current?.focus();
    group.current?.scrollIntoView({ block: "nearest" });
  }, [armed.by]);

  useEffect(() => {
    if (isReady) return undefined;
    const timer = setTimeout(() => setIsReady(true), SAME_PRESS);
    return () => clearTimeout(timer);
  }, [isReady]);

  const missing = approval.quorum - agreeing(approval) - 1;
  const runs =
    wording === "again"
      ? words.armed.twice(nameOf(approval))
      : wording === "approve" || wording === "edit"
        ? words.armed.runs(nameOf(approval))
        : words.armed.goesOn;
  return (
    <div
      ref={group}
      className={cx(styles.armed, isRisky(armed.risk) && styles.isRisky)}
      role="group"
      aria-labelledby={title}
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key === "Escape" || (armed.by === "key" && isAstray(event.key))) {
          event.preventDefault();
          event.stopPropagation();
          onBack();
        }
      }}
    >
      <div className={styles.armedWords}>
        {isRisky(armed.risk) && <WarningIcon />}
        <div>
          <strong id={title}>
            {isRisky(armed.risk) && `${words.armed.risk} `}
            {words.armed[wording]}
          </strong>
          <div>
            {armed.decision.type === "respond" ? (
              <Marked text={answerText(armed.decision.message)} lines />
            ) : missing > 0 ? (
              words.armed.votes(missing)
            ) : (
              <Marked text={runs} />
            )}
          </div>
          {armed.decision.type === "edit" && <Json value={armed.decision.args} />}
        </div>
      </div>
      <div className={styles.row}>
        <Button onClick={onBack} disabled={busy || !isReady}>
          {words.back}
        </Button>
        <Button
          ref={confirm}
          look={isRisky(armed.risk) ? "dangerStrong" : "good"}
          className={styles.main}
          busy={busy}
          disabled={!isReady}
          onClick={() => onConfirm(armed.decision)}
        >
          {words.confirm[wording]}
        </Button>
        {armed.by === "key" && <span className={styles.hint}>{words.armed.keys}</span>}
      </div>
    </div>
  );
}

/**
 * Whether a key that is pressed while Enter would decide shows that somebody means something else,
 * such as to write: then Enter decides nothing any more. The key that led here does nothing again.
 */
function isAstray(key: string): boolean {
  return key.length === 1 && key !== "a" && !/^[1-9]$/.test(key);
}

function answerText(message: unknown): string {
  return typeof message === "string" ? message : (JSON.stringify(message, null, 2) ?? "");
}

interface SayingProps {
  label: string;
  hint: ReactNode;
  verb: string;
  look: Look;
  needed?: boolean;
  text: string;
  busy: boolean;
  onText: (text: string) => void;
  onBack: () => void;
  onSay: (text: string) => void;
}

/** A few words that go with a decision. */
function Saying({ label, hint, verb, look, needed, text, busy, onText, onBack, onSay }: SayingProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => field.current?.focus(), []);
  const say = () => {
    if (needed && text.trim() === "") return setError(words.answering.needed);
    return onSay(text.trim());
  };
  return (
    <form
      className={styles.panel}
      onSubmit={(event) => {
        event.preventDefault();
        say();
      }}
      onKeyDown={(event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          say();
        } else if (event.key === "Escape") {
          event.stopPropagation();
          onBack();
        }
      }}
    >
      <TextArea
        ref={field}
        label={label}
        hint={hint}
        error={error}
        rows={3}
        value={text}
        onChange={(event) => {
          setError(null);
          onText(event.target.value);
        }}
      />
      <div className={styles.row}>
        <Button onClick={onBack} disabled={busy}>
          {words.back}
        </Button>
        <Button type="submit" look={look} busy={busy} className={styles.main}>
          {verb}
        </Button>
      </div>
    </form>
  );
}
