/** Sends decisions, and keeps on the desk what became of them. */

import { AlreadyDecided, type Approval, Changed, type Decision } from "@assent/client";
import { useQueryClient } from "@tanstack/react-query";
import { useCallback } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { changeDraft, draftOf } from "./desk.ts";
import { agreeing } from "./question.ts";

const words = messages.approval;

/** How a decision is worded for this kind of question: the key of its words. */
export type Wording = "approve" | "node" | "budget" | "again" | "edit" | "respond" | "reject";

export function wordingOf(approval: Approval, type: Decision["type"]): Wording {
  if (approval.kind === "budget" && type !== "reject") return "budget";
  if (type !== "approve") return type;
  if (approval.kind === "node") return "node";
  if (approval.kind === "unknown_outcome") return "again";
  return "approve";
}

/** One sentence on who has decided, and what. */
export function decidedSentence(approval: Approval, me: string): string {
  const { decided, theAgent } = words;
  const name = approval.decided_by === me ? decided.you : (approval.decided_by ?? theAgent);
  const otherwise = otherwiseDecided(approval.kind, approval.status);
  if (otherwise !== null) return decided[otherwise](name);
  switch (approval.status) {
    case "approved":
    case "edited":
    case "rejected":
    case "responded":
      return decided[approval.status](name);
    case "expired":
    case "cancelled":
    case "superseded":
      return decided[approval.status];
    default:
      return "";
  }
}

type Otherwise = "didNotHappen" | "happened" | "gaveUp" | "more" | "noMore";

/** The words for a decision that means something else with this kind of question. */
function otherwiseDecided(kind: Approval["kind"], status: Approval["status"]): Otherwise | null {
  if (kind === "budget") {
    if (status === "approved" || status === "edited") return "more";
    return status === "rejected" ? "noMore" : null;
  }
  if (kind !== "unknown_outcome") return null;
  if (status === "approved") return "didNotHappen";
  if (status === "responded") return "happened";
  return status === "rejected" ? "gaveUp" : null;
}

function lostSentence(error: AlreadyDecided): string {
  const { by, decision } = error;
  const what = by === null || decision === null ? words.lost.nobody : words.lost[decision.type](by);
  return `${what}. ${words.lost.after}`;
}

/** Decides about an approval exactly as it was shown; what comes of it stands on the desk. */
export function useDecide(me: string, onDecided?: (approval: Approval) => void) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  return useCallback(
    async (shown: Approval, decision: Decision): Promise<void> => {
      const id = shown.approval_id;
      if (draftOf(id).busy) return;
      const change = (parts: Parameters<typeof changeDraft>[1]) => changeDraft(id, parts);
      change({ busy: true, refusal: null, told: null });
      try {
        const outcome = await assent.approvals.decide(shown, decision);
        const now = outcome.decisions[id];
        if (now === undefined) throw new Error(messages.states.unknown);
        const isVote = now.status === "pending";
        const left = Math.max(1, now.quorum - agreeing(now));
        const told = isVote ? words.counted(left) : decidedSentence(now, me);
        const own = decision.type === "edit" ? now.digest : draftOf(id).own;
        const done = { busy: false, open: null, now, own, told: isVote ? told : null };
        change({ ...done, reason: "", args: undefined, argsText: undefined });
        announce(told);
        onDecided?.(now);
      } catch (error) {
        if (error instanceof AlreadyDecided) {
          change({ busy: false, open: null, lost: error });
          announce(lostSentence(error));
        } else if (error instanceof Changed) {
          change({ busy: false, open: null, now: error.approval });
          announce(words.changed.title);
        } else {
          const { open } = draftOf(id);
          const back = open?.kind === "armed" ? open.from : open;
          change({ busy: false, refusal: error, open: back });
          announce(`${words.refused} ${sentenceOf(error)}`);
        }
      }
      void queries.invalidateQueries({ queryKey: ["approvals"] });
    },
    [announce, me, onDecided, queries],
  );
}
