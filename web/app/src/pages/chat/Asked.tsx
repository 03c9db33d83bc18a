/** What a person is asked in a conversation: a card while it waits, one line once it is decided. */

import type { ApprovalForYou, ApprovalState } from "@assent/client";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, useLayoutEffect, useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { CheckIcon, ChevronIcon, CrossIcon, InfoIcon } from "../../parts/icons.tsx";
import { cx } from "../../parts/cx.ts";
import { Diff } from "../../parts/Diff.tsx";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { ErrorState, Loading } from "../../parts/states.tsx";
import { Time } from "../../parts/Time.tsx";
import { ApprovalCard } from "../approval/ApprovalCard.tsx";
import styles from "./Asked.module.css";

const words = messages.chat.asked;

/** What is known of a decision, from events or from the server's own answer. */
interface Decided {
  approval_id: string;
  status: string;
  decided_by: string | null;
  decided_at: string | null;
  /** Arguments before and after an edit. */
  edit: { before: unknown; after: unknown } | null;
  message: unknown;
  grant: string;
}

function decidedInEvents(approval: ApprovalState): Decided {
  const isEdited = approval.status === "edited";
  return {
    approval_id: approval.approval_id,
    status: approval.status,
    decided_by: approval.decided_by,
    decided_at: approval.decided_at,
    edit: isEdited ? { before: approval.first_args, after: approval.args } : null,
    message: approval.message,
    grant: approval.grant,
  };
}

function decidedOnServer(approval: ApprovalForYou): Decided {
  const { decision } = approval;
  const message = decision !== null && "message" in decision ? decision.message : null;
  return {
    approval_id: approval.approval_id,
    status: approval.status,
    decided_by: approval.decided_by,
    decided_at: approval.decided_at,
    edit: null,
    message: message ?? null,
    grant: "",
  };
}

/** Told when the card of a question is drawn. */
export const CardShown = createContext<(approvalId: string) => void>(() => undefined);

/** The card of a question that waits, or what became of it. */
export function AskedOrDecided({ approval }: { approval: ApprovalState }) {
  if (approval.status === "pending") return <AskedRow approvalId={approval.approval_id} />;
  return <DecidedLine decided={decidedInEvents(approval)} />;
}

/** The card, with what the server says now: the events only say that there is a question. */
export function AskedRow({ approvalId }: { approvalId: string }) {
  const queries = useQueryClient();
  const asked = useQuery({
    queryKey: ["approvals", approvalId],
    queryFn: () => assent.approvals.get(approvalId),
  });
  const onShown = useContext(CardShown);
  const waits = asked.data?.status === "pending";
  useLayoutEffect(() => {
    if (waits) onShown(approvalId);
  }, [waits, onShown, approvalId]);
  if (asked.data === undefined) {
    if (asked.isPending) return <Loading lines={3} label={words.reading} />;
    return <ErrorState error={asked.error} title={words.unread} retry={() => void asked.refetch()} />;
  }
  const approval = asked.data;
  if (approval.status !== "pending") return <DecidedLine decided={decidedOnServer(approval)} />;
  return (
    <div className={styles.card}>
      <ApprovalCard
        compact
        approval={approval}
        onDecided={() => void queries.invalidateQueries({ queryKey: ["approvals"] })}
      />
    </div>
  );
}

/** Who decided what, and when; what they said or changed is behind it. */
function DecidedLine({ decided }: { decided: Decided }) {
  const [open, setOpen] = useState(false);
  const { status, decided_by, decided_at, edit, message, grant } = decided;
  const isGood = status === "approved" || status === "edited" || status === "responded";
  const isBad = status === "rejected" || status === "expired";
  const hasMore = edit !== null || (message !== null && message !== "");
  const sentence = words.decided(status, decided_by ?? "", grant);
  return (
    <div className={styles.decided}>
      <div className={cx(styles.line, isGood && styles.good, isBad && styles.bad)}>
        {isGood ? <CheckIcon /> : isBad ? <CrossIcon /> : <InfoIcon />}
        <span>
          <Marked text={sentence} />
          {decided_at !== null && (
            <>
              {", "}
              <Time at={decided_at} />
            </>
          )}
        </span>
        {hasMore && (
          <button type="button" className={styles.fold} aria-expanded={open} onClick={() => setOpen(!open)}>
            <ChevronIcon className={cx(open && styles.turned)} />
            {edit !== null ? words.changes : status === "rejected" ? words.reason : words.answer}
          </button>
        )}
      </div>
      {open && edit !== null && <Diff before={edit.before} after={edit.after} />}
      {open && edit === null && (
        <div className={styles.message}>
          {typeof message === "string" ? <Marked text={message} lines /> : <Json value={message} />}
        </div>
      )}
    </div>
  );
}
