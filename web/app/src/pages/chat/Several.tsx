import { type Approval, type ApprovalForYou, type Decision, AlreadyDecided } from "@assent/client";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { Dialog } from "../../parts/Dialog.tsx";
import { TextArea } from "../../parts/Field.tsx";
import { Loading, Notice } from "../../parts/states.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { InFull, isYesOrNo } from "../approval/InFull.tsx";
import { isRisky } from "../approval/question.ts";
import styles from "./Several.module.css";

const words = messages.chat.several;

type Verb = "approve" | "reject";

/** Where several questions wait at once: a way to decide all of them, each as it is shown. */
export function Several({ asked }: { asked: readonly Approval[] }) {
  const [verb, setVerb] = useState<Verb | null>(null);
  if (asked.length < 2) return null;
  return (
    <div className={styles.bar}>
      <span className={styles.count}>{words.wait(asked.length)}</span>
      <Button small look="danger" onClick={() => setVerb("reject")}>
        {words.rejectAll}
      </Button>
      <Button small onClick={() => setVerb("approve")}>
        {words.approveAll}
      </Button>
      {verb !== null && <DecideAll verb={verb} ids={asked.map((each) => each.approval_id)} onOver={() => setVerb(null)} />}
    </div>
  );
}

interface Result {
  approval: ApprovalForYou;
  error: unknown;
}

/** Why this one is left out of a decision about all; null if it is not. */
function whyNot(approval: ApprovalForYou, verb: Verb): string | null {
  if (!approval.yours.may.includes(verb)) return approval.yours.why_not ?? words.takesAnswer;
  if (verb === "approve" && !isYesOrNo(approval)) return words.takesAnswer;
  if (verb === "approve" && isRisky(approval.risk)) return words.tooRisky;
  return null;
}

/** Shows each question as the server has it now, and decides exactly what was shown. */
function DecideAll({ verb, ids, onOver }: { verb: Verb; ids: string[]; onOver: () => void }) {
  const queries = useQueryClient();
  const [reason, setReason] = useState("");
  // They are read once: what is decided is what was shown, whatever comes meanwhile.
  const [shown, setShown] = useState<ApprovalForYou[] | null>(null);
  const reading = useMutation({
    mutationFn: () => Promise.all(ids.map((id) => assent.approvals.get(id))),
    onSuccess: setShown,
  });
  if (shown === null && reading.isIdle) reading.mutate();
  const chosen = shown?.filter((each) => whyNot(each, verb) === null) ?? [];

  const deciding = useMutation({
    mutationFn: async () => {
      const results: Result[] = [];
      for (const approval of chosen) {
        const decision: Decision = verb === "approve" ? { type: "approve" } : { type: "reject", message: reason };
        try {
          await assent.approvals.decide(approval, decision);
          results.push({ approval, error: null });
        } catch (error) {
          results.push({ approval, error });
        }
      }
      return results;
    },
    onSettled: () => queries.invalidateQueries({ queryKey: ["approvals"] }),
    onSuccess: (results) => {
      if (results.every((each) => each.error === null)) onOver();
    },
  });
  const failed = deciding.data?.filter((each) => each.error !== null) ?? [];
  return (
    <Dialog
      open
      wide
      onOpenChange={(open) => !open && onOver()}
      title={words.title[verb](chosen.length)}
      actions={
        <>
          <Button onClick={onOver}>{deciding.data === undefined ? messages.actions.cancel : messages.actions.close}</Button>
          {deciding.data === undefined && (
            <Button
              look={verb === "approve" ? "good" : "dangerStrong"}
              busy={deciding.isPending}
              disabled={chosen.length === 0}
              onClick={() => deciding.mutate()}
            >
              {words.verb[verb](chosen.length)}
            </Button>
          )}
        </>
      }
    >
      {reading.isPending && <Loading />}
      {reading.error !== null && <Notice tone="bad">{sentenceOf(reading.error)}</Notice>}
      {failed.map(({ approval, error }) => (
        <Notice key={approval.approval_id} tone="bad" urgent>
          <Marked text={approval.tool || approval.node} />: {outcomeOf(error)}
        </Notice>
      ))}
      <ul className={styles.list}>
        {shown?.map((approval) => {
          const why = whyNot(approval, verb);
          return (
            <li key={approval.approval_id} className={styles.item}>
              <InFull approval={approval} />
              {why !== null && <Notice>{words.leftOut(why)}</Notice>}
            </li>
          );
        })}
      </ul>
      {verb === "reject" && (
        <TextArea label={words.reason} value={reason} onChange={(event) => setReason(event.target.value)} />
      )}
    </Dialog>
  );
}

function outcomeOf(error: unknown): string {
  if (error instanceof AlreadyDecided) return words.already(error.by ?? "");
  return sentenceOf(error);
}
