import type { ApprovalForYou } from "@assent/client";
import { memo, type Ref } from "react";
import { messages } from "../../messages/en.ts";
import { cx } from "../../parts/cx.ts";
import { LockIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { ApprovalStatus, Risk } from "../../parts/statuses.tsx";
import { Countdown, Time } from "../../parts/Time.tsx";
import { agreeing, gistOf, isRisky, nameOf, titleOf } from "../approval/question.ts";
import styles from "./InboxPage.module.css";

const words = messages.inbox;

export interface RowProps {
  approval: ApprovalForYou;
  isSelected: boolean;
  /** Tab leads to this one of the rows. */
  isReachable: boolean;
  /** It can be decided with others; null if it cannot. */
  isChosen: boolean | null;
  ref?: Ref<HTMLButtonElement>;
  onSelect: (approvalId: string) => void;
  onChoose: (approvalId: string, isChosen: boolean) => void;
}

/** Only what asks for care has a colour of its own in a list. */
function RiskOf({ risk }: { risk: string }) {
  const risks: Record<string, string> = messages.status.risks;
  return isRisky(risk) ? <Risk risk={risk} /> : <span className={styles.mark}>{risks[risk] ?? risk}</span>;
}

/** One approval in a list: enough to know it by, and to see what is urgent. */
export const Row = memo(function Row({ approval, isSelected, isReachable, isChosen, ref, onSelect, onChoose }: RowProps) {
  const id = approval.approval_id;
  const isPending = approval.status === "pending";
  const decidedAt = approval.decided_at ?? approval.requested_at;
  return (
    <div className={cx(styles.rowFrame, isSelected && styles.isSelected)}>
      {isChosen !== null && (
        <label className={styles.check}>
          <input
            type="checkbox"
            checked={isChosen}
            tabIndex={isReachable ? 0 : -1}
            aria-label={words.choose(titleOf(approval))}
            onChange={({ target }) => onChoose(id, target.checked)}
          />
        </label>
      )}
      <button
        ref={ref}
        type="button"
        className={styles.rowButton}
        aria-current={isSelected ? "true" : undefined}
        tabIndex={isReachable ? 0 : -1}
        onClick={() => onSelect(id)}
      >
        <span className={styles.top}>
          <span className={styles.rowName}>
            <Marked text={nameOf(approval)} />
          </span>
          <span className={styles.rowAgent}>
            <Marked text={approval.agent} />
          </span>
          <span className={styles.age}>
            <Time at={isPending ? approval.requested_at : decidedAt} />
          </span>
        </span>
        <span className={styles.gist}>
          <Marked text={gistOf(approval)} />
        </span>
        <span className={styles.marks}>
          {isPending ? (
            <>
              <RiskOf risk={approval.risk} />
              {approval.quorum > 1 && (
                <span className={styles.mark} title={words.votesLong(agreeing(approval), approval.quorum)}>
                  {words.votes(agreeing(approval), approval.quorum)}
                </span>
              )}
              {approval.expires_at !== null && <Countdown to={approval.expires_at} />}
              {approval.yours.may.length === 0 && (
                <span className={styles.mark} title={approval.yours.why_not ?? undefined}>
                  <LockIcon />
                  {words.notYours}
                </span>
              )}
            </>
          ) : (
            <>
              <ApprovalStatus status={approval.status} />
              {approval.decided_by !== null && (
                <span className={styles.mark}>
                  <Marked text={words.by(approval.decided_by)} />
                </span>
              )}
            </>
          )}
        </span>
      </button>
    </div>
  );
});
