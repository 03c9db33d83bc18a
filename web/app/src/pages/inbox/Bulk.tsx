/** Decides several approvals of a low risk at once, and says what became of each. */

import type { ApprovalForYou, Decision, OutcomeOfOne } from "@assent/client";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Button } from "../../parts/Button.tsx";
import { Confirm, Dialog } from "../../parts/Dialog.tsx";
import { CheckIcon, CrossIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Notice } from "../../parts/states.tsx";
import { InFull, isYesOrNo } from "../approval/InFull.tsx";
import { gistOf, nameOf } from "../approval/question.ts";
import styles from "./InboxPage.module.css";

const words = messages.inbox.bulk;

/** Whether it may be decided with others by whoever reads. */
export function isForBulk(approval: ApprovalForYou): boolean {
  const { risk, status, yours } = approval;
  return isYesOrNo(approval) && risk === "low" && status === "pending" && yours.may.includes("approve") && yours.may.includes("reject");
}

type Verdict = "approve" | "reject";
const DECISIONS: Record<Verdict, Decision> = { approve: { type: "approve" }, reject: { type: "reject" } };

/** The statuses of what was taken. */
const isTaken = ({ status }: OutcomeOfOne) => status < 300;

function One({ approval }: { approval: ApprovalForYou }) {
  return (
    <span className={styles.bulkOne}>
      <code>
        <Marked text={nameOf(approval)} />
      </code>{" "}
      <Marked text={gistOf(approval)} />
    </span>
  );
}

export interface BulkProps {
  /** What is chosen, as it was shown. */
  chosen: ApprovalForYou[];
  /** What could be. */
  all: ApprovalForYou[];
  onChoose: (approvals: ApprovalForYou[]) => void;
}

export function Bulk({ chosen, all, onChoose }: BulkProps) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  const [asked, setAsked] = useState<{ verdict: Verdict; approvals: ApprovalForYou[] } | null>(null);
  const deciding = useMutation({
    mutationFn: async ({ verdict, approvals }: { verdict: Verdict; approvals: ApprovalForYou[] }) => {
      const outcomes = await assent.approvals.decideSeveral(
        approvals.map((approval) => [approval, DECISIONS[verdict]] as const),
      );
      return approvals.map((approval) => ({ approval, outcome: outcomes[approval.approval_id] }));
    },
    onSuccess: (results) => {
      const done = results.filter(({ outcome }) => outcome !== undefined && isTaken(outcome)).length;
      announce(words.done(done, results.length));
      onChoose([]);
    },
    onSettled: () => {
      setAsked(null);
      void queries.invalidateQueries({ queryKey: ["approvals"] });
    },
  });
  const results = deciding.data;
  const count = chosen.length;
  return (
    <>
      {count > 0 && (
        <div className={styles.bulk} role="group" aria-label={words.chosen(count)}>
          <strong>{words.chosen(count)}</strong>
          <Button small look="good" onClick={() => setAsked({ verdict: "approve", approvals: chosen })}>
            {words.approve(count)}
          </Button>
          <Button small look="danger" onClick={() => setAsked({ verdict: "reject", approvals: chosen })}>
            {words.reject(count)}
          </Button>
          {count < all.length && (
            <Button small look="quiet" onClick={() => onChoose(all)}>
              {words.all}
            </Button>
          )}
          <Button small look="quiet" onClick={() => onChoose([])}>
            {words.none}
          </Button>
        </div>
      )}
      {deciding.error !== null && (
        <Notice tone="bad" urgent>
          {sentenceOf(deciding.error)}
        </Notice>
      )}
      {asked !== null && (
        <Confirm
          open
          onOpenChange={() => setAsked(null)}
          title={asked.verdict === "approve" ? words.approveTitle(asked.approvals.length) : words.rejectTitle(asked.approvals.length)}
          verb={asked.verdict === "approve" ? words.approveVerb : words.rejectVerb}
          look={asked.verdict === "approve" ? "good" : "dangerStrong"}
          busy={deciding.isPending}
          onConfirm={() => deciding.mutate(asked)}
        >
          <ul className={styles.bulkList} tabIndex={0}>
            {asked.approvals.map((approval) => (
              <li key={approval.approval_id}>
                <InFull approval={approval} />
              </li>
            ))}
          </ul>
        </Confirm>
      )}
      {results !== undefined && (
        <Dialog open onOpenChange={() => deciding.reset()} title={words.outcomes}>
          <p>{words.done(results.filter(({ outcome }) => outcome && isTaken(outcome)).length, results.length)}</p>
          <ul className={styles.bulkList}>
            {results.map(({ approval, outcome }) => {
              const taken = outcome !== undefined && isTaken(outcome);
              return (
                <li key={approval.approval_id} className={styles.outcome}>
                  {taken ? <CheckIcon className={styles.good} /> : <CrossIcon className={styles.bad} />}
                  <div>
                    <One approval={approval} />
                    <div className={taken ? styles.good : styles.bad}>
                      {taken ? words.taken : <Marked text={outcome?.detail ?? messages.states.unknown} lines />}
                    </div>
                  </div>
                </li>
              );
            })}
          </ul>
        </Dialog>
      )}
    </>
  );
}
