/** One approval: exactly what will be done, what was said, who decides, and how. */

import type { Approval, ApprovalForYou } from "@assent/client";
import { type ReactNode, type Ref, useEffect, useId, useRef, useState } from "react";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { cx } from "../../parts/cx.ts";
import { Diff } from "../../parts/Diff.tsx";
import { CheckIcon, CrossIcon, ChevronIcon } from "../../parts/icons.tsx";
import { Json, Text } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Notice } from "../../parts/states.tsx";
import { ApprovalStatus, Risk } from "../../parts/statuses.tsx";
import { Countdown, Time, useIsOver } from "../../parts/Time.tsx";
import styles from "./ApprovalCard.module.css";
import { Arguments } from "./Arguments.tsx";
import { type CardHandle, Deciding } from "./Deciding.tsx";
import { decidedSentence } from "./deciding.ts";
import { useDraft } from "./desk.ts";
import { Effect } from "./Effect.tsx";
import { More } from "./More.tsx";
import { agreeing, objectOf, promptOf, restOf, sentenceFor, situationOf } from "./question.ts";
import { Raw } from "./Raw.tsx";
import { Rules } from "./Rules.tsx";
import { hasSaid, Said } from "./Said.tsx";

export type { CardHandle } from "./Deciding.tsx";

const words = messages.approval;

export interface ApprovalCardProps {
  approval: ApprovalForYou;
  /** Within a conversation: what was said stands there already, and the rules are folded. */
  compact?: boolean;
  /** Called with what became of it after a decision of the reader was taken. */
  onDecided?: (approval: Approval) => void;
  /** For a list that leads the reader through several. */
  handle?: Ref<CardHandle>;
  /** The level of its heading. */
  level?: 1 | 2 | 3;
}

/** What the reader has looked at: a decision is never sent about anything else. */
interface Seen {
  digest: string;
  args: unknown;
}

/** Each approval has a card of its own: nothing that was seen or begun goes over to another. */
export function ApprovalCard(props: ApprovalCardProps) {
  return <Card key={props.approval.approval_id} {...props} />;
}

function Card({ approval: told, compact, onDecided, handle, level = 2 }: ApprovalCardProps) {
  const me = useMe();
  const [draft, change] = useDraft(told.approval_id);
  const approval = newest(told, draft.now);
  const [seen, setSeen] = useState<Seen>({ digest: told.digest, args: told.args });
  const heading = useId();

  // An answer to a decision is newer than the list, until the list is read anew.
  const listed = useRef(told);
  useEffect(() => {
    if (listed.current !== told && draft.now !== null) change({ now: null });
    listed.current = told;
  }, [told, draft.now, change]);

  const isOver = useIsOver(approval.expires_at);
  const isPending = approval.status === "pending";
  const edited = approval.edit;
  // Their name is not enough: they may have another tab, or a program that edits for them.
  const isOwnEdit = approval.digest === draft.own;
  const isChanged = isPending && approval.digest !== seen.digest && !isOwnEdit;
  const Heading = `h${level}` as const;
  const sentence = sentenceFor(approval);
  const asker = approval.requested_by[0];
  const prompt = promptOf(approval);
  const situation = situationOf(approval);

  return (
    <article className={cx(styles.card, compact && styles.compact)} aria-labelledby={heading}>
      <header className={styles.head}>
        <Heading id={heading} className={styles.title} tabIndex={-1} data-card-title>
          <Marked text={sentence.before} />{" "}
          {sentence.name && (
            <code className={styles.tool}>
              <Marked text={sentence.name} />
            </code>
          )}
          {sentence.after}
        </Heading>
        <div className={styles.badges}>
          <ApprovalStatus status={approval.status} />
          {isPending && <Risk risk={approval.risk} />}
          {isPending && approval.quorum > 1 && (
            <span className={styles.tally}>{words.voted(agreeing(approval), approval.quorum)}</span>
          )}
          {isPending && approval.expires_at !== null && <Countdown to={approval.expires_at} />}
          <span className={styles.asked}>
            {asker !== undefined && <Marked text={asker === me.name ? words.askedByYou : words.askedBy(asker)} />}{" "}
            <Time at={approval.requested_at} />
          </span>
        </div>
      </header>

      {!isPending && <Decided approval={approval} me={me.name} lost={draft.lost !== null} />}
      {draft.lost !== null && <Lost approvalId={approval.approval_id} />}
      {isPending && approval.shortage !== null && (
        <Notice tone="waiting">
          {words.shortage} <Marked text={approval.shortage} />
        </Notice>
      )}
      {approval.warnings.length > 0 && (
        <Notice tone="bad">
          {words.warnings}
          <ul>
            {approval.warnings.map((warning) => (
              <li key={warning}>
                <Marked text={warning} />
              </li>
            ))}
          </ul>
        </Notice>
      )}

      {isPending && situation !== null && (
        <Notice tone="waiting">
          <Marked text={situation} />
        </Notice>
      )}
      {prompt !== null && (
        <p className={styles.prompt}>
          <Text text={prompt} bare />
        </p>
      )}
      <What approval={approval} />
      {edited !== null && approval.asked_first !== null && (
        <Section title={words.edited(edited.by)}>
          <p className={styles.hint}>{words.editedHint}</p>
          <Diff before={approval.asked_first.args} after={approval.args} />
        </Section>
      )}
      {approval.preview !== null && (
        <Section title={effectTitle(approval)}>
          <Effect preview={approval.preview} />
        </Section>
      )}
      {!compact && hasSaid(approval) && (
        <Section title={words.said}>
          <Said approval={approval} />
        </Section>
      )}
      <Folded title={words.who} open={!compact && (approval.quorum > 1 || approval.comments.length > 0)}>
        <Rules approval={approval} />
      </Folded>

      {isPending && (
        <footer className={styles.foot}>
          {isChanged ? (
            <ChangedNotice approval={approval} seen={seen} onSeen={() => setSeen({ digest: approval.digest, args: approval.args })} />
          ) : isOver ? (
            <Notice tone="waiting">{words.over}</Notice>
          ) : (
            <>
              {draft.told !== null && <Notice tone="good">{draft.told}</Notice>}
              {approval.yours.why_not !== null && (
                <Notice>
                  {words.whyNot} <Marked text={approval.yours.why_not} />
                </Notice>
              )}
              {approval.yours.may.length > 0 ? (
                <Deciding approval={approval} onDecided={onDecided} handle={handle} />
              ) : (
                <div className={styles.pinned}>
                  {draft.refusal !== null && (
                    <Notice tone="bad" urgent>
                      <Marked text={sentenceOf(draft.refusal)} lines />
                    </Notice>
                  )}
                  <More approval={approval} onRespond={() => undefined} />
                </div>
              )}
            </>
          )}
        </footer>
      )}
    </article>
  );
}

/** The approval as it is now: an answer to one's own decision may be newer than the list. */
function newest(told: ApprovalForYou, now: Approval | null): ApprovalForYou {
  return now === null ? told : { ...told, ...now };
}

function Section({ title, children }: { title: ReactNode; children: ReactNode }) {
  const heading = useId();
  return (
    // No landmark: there may be several cards on a page.
    <div className={styles.section} role="group" aria-labelledby={heading}>
      <p id={heading} className={styles.label}>
        {title}
      </p>
      {children}
    </div>
  );
}

function Folded({ title, open, children }: { title: string; open: boolean; children: ReactNode }) {
  return (
    <details className={styles.folded} open={open}>
      <summary>
        <ChevronIcon />
        {title}
      </summary>
      <div className={styles.foldedBody}>{children}</div>
    </details>
  );
}

function effectTitle({ kind, status }: Approval): string {
  if (kind === "node") return words.what.node;
  if (kind === "budget") return words.soFar;
  return status === "pending" ? words.effect : words.effectWas;
}

/** What will be done, or was asked, in full: nothing in it is left out, and nothing is worded. */
function What({ approval }: { approval: ApprovalForYou }) {
  const heading = useId();
  const { kind } = approval;
  // A step is called with nothing but the state, which stands below.
  const isEmpty = approval.args === null || Object.keys(objectOf(approval.args) ?? { some: 1 }).length === 0;
  if (kind === "node" && isEmpty) return null;
  const asked = kind === "input" ? restOf(approval) : approval.args;
  if (kind === "input" && asked === null) return <Raw value={approval.args} name={approval.approval_id} />;
  return (
    <div className={cx(styles.what, kind === "input" && styles.isQuiet)} role="group" aria-labelledby={heading}>
      <p id={heading} className={styles.label}>
        {kind === "tool" && approval.status !== "pending" ? words.whatWasAsked : words.what[kind]}
      </p>
      {kind === "input" ? <Arguments args={asked} /> : <Arguments args={asked} schema={approval.schema} />}
      <Raw value={approval.args} name={approval.approval_id} />
    </div>
  );
}

/** What became of it: who decided what, and when. */
function Decided({ approval, me, lost }: { approval: Approval; me: string; lost: boolean }) {
  const { decision, status } = approval;
  const isGood = status === "approved" || status === "edited" || status === "responded";
  const look = isGood ? styles.isGood : status === "rejected" || status === "expired" ? styles.isBad : undefined;
  const said = decision?.type === "reject" || decision?.type === "respond" ? decision.message : null;
  return (
    <div className={cx(styles.decided, look)} role={lost ? undefined : "status"}>
      {isGood ? <CheckIcon /> : <CrossIcon />}
      <div>
        <strong>
          <Marked text={decidedSentence(approval, me)} />
        </strong>{" "}
        {approval.decided_at !== null && <Time at={approval.decided_at} />}
        {said !== null && said !== undefined && said !== "" && (
          <div className={styles.decidedWords}>
            {decision?.type === "reject" ? words.reason : words.answer}:{" "}
            {typeof said === "string" ? <Text text={said} bare /> : <Json value={said} />}
          </div>
        )}
      </div>
    </div>
  );
}

/** Somebody else was faster: who, what and when. */
function Lost({ approvalId }: { approvalId: string }) {
  const [draft] = useDraft(approvalId);
  const { lost } = draft;
  if (lost === null) return null;
  const { by, decision, at } = lost;
  return (
    <Notice tone="waiting" urgent>
      <strong>
        <Marked text={by === null || decision === null ? words.lost.nobody : words.lost[decision.type](by)} />
      </strong>{" "}
      {at !== null && <Time at={at} />}. {words.lost.after}
    </Notice>
  );
}

interface ChangedProps {
  approval: ApprovalForYou;
  seen: Seen;
  onSeen: () => void;
}

/** What is asked is not what the reader looked at: what is different, before anything is decided. */
function ChangedNotice({ approval, seen, onSeen }: ChangedProps) {
  const by = approval.edit?.by;
  return (
    <div className={styles.changed} role="alert">
      <strong>{by === undefined ? words.changed.title : words.changed.by(by)}</strong>
      <p>{words.changed.hint}</p>
      <Diff before={seen.args} after={approval.args} />
      <div className={styles.row}>
        <Button look="primary" onClick={onSeen}>
          {words.changed.go}
        </Button>
      </div>
    </div>
  );
}
