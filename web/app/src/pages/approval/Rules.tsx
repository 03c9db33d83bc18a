import type { Approval } from "@assent/client";
import { useState, type ReactNode } from "react";
import { Link } from "wouter";
import { messages } from "../../messages/en.ts";
import { Badge } from "../../parts/Badge.tsx";
import { Copy } from "../../parts/Copy.tsx";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts } from "../../parts/Panel.tsx";
import { Time } from "../../parts/Time.tsx";
import styles from "./ApprovalCard.module.css";
import { agreeing } from "./question.ts";

const words = messages.approval;
type Vote = Approval["votes"][number];

const SHORT_DIGEST = 12;

/** A digest, of which the beginning is shown until one asks for all. */
function Digest({ of }: { of: string }) {
  const [whole, setWhole] = useState(false);
  return (
    <span className={styles.digest}>
      <button type="button" className={styles.digestText} aria-expanded={whole} onClick={() => setWhole(!whole)}>
        <code>{whole ? of : `${of.slice(0, SHORT_DIGEST)}…`}</code>
      </button>
      <Copy text={of} />
    </span>
  );
}

function Name({ of }: { of: string }) {
  return (
    <span className={styles.name}>
      <Marked text={of} />
    </span>
  );
}

/** What a vote says beside its kind: a reason, an answer, the arguments that it sets. */
function Content({ vote }: { vote: Vote }) {
  const { decision } = vote;
  if (decision.type === "edit") return <Json value={decision.args} depth={0} />;
  if (decision.type === "approve") return null;
  const said = decision.message;
  if (said === undefined || said === null || said === "") return null;
  return typeof said === "string" ? (
    <span className={styles.words}>
      <Marked text={said} lines />
    </span>
  ) : (
    <Json value={said} depth={1} />
  );
}

function VoteLine({ vote, approval }: { vote: Vote; approval: Approval }) {
  const isOld = vote.digest !== approval.digest;
  return (
    <li className={styles.line}>
      <span>
        <Name of={vote.by} /> {words.vote[vote.decision.type]}
        {vote.voting_right !== vote.by && ` ${words.voteOf(vote.voting_right)}`}
        {vote.grant && ` ${words.byGrant}`} <Time at={vote.at} />
      </span>
      {isOld && <span className={styles.hint}>{words.oldVote}</span>}
      <Content vote={vote} />
    </li>
  );
}

function Votes({ approval }: { approval: Approval }) {
  if (approval.votes.length === 0) return <span className={styles.quiet}>{words.noVotes}</span>;
  return (
    <>
      {approval.quorum > 1 && (
        <Badge tone="waiting">{words.voted(agreeing(approval), approval.quorum)}</Badge>
      )}
      <ul className={styles.lines}>
        {approval.votes.map((vote) => (
          <VoteLine key={`${vote.by} ${vote.at}`} vote={vote} approval={approval} />
        ))}
      </ul>
    </>
  );
}

function deciders(approval: Approval): string {
  const named = [
    ...approval.names,
    ...approval.roles.map(words.role),
    ...approval.assignees.map(words.assignee),
  ];
  return named.length === 0 ? words.everybody : named.join(", ");
}

function Needs({ approval }: { approval: Approval }) {
  return (
    <>
      {approval.quorum > 1 ? words.quorum(approval.quorum) : words.one}
      {approval.four_eyes && <div className={styles.hint}>{words.fourEyes}</div>}
    </>
  );
}

/** Who asked, who may decide under which rules, and what they have said so far. */
export function Rules({ approval }: { approval: Approval }) {
  const { comments, delegations } = approval;
  const asked = approval.requested_by.join(", ");
  const facts: [string, ReactNode][] = [
    [words.facts.asked, <Time key="asked" at={approval.requested_at} />],
    [words.facts.by, asked !== "" && <Marked key="by" text={asked} />],
    [words.facts.may, deciders(approval)],
    [words.facts.needs, <Needs key="needs" approval={approval} />],
    [words.facts.step, approval.step > 0 && words.escalated(approval.step)],
    [words.facts.votes, <Votes key="votes" approval={approval} />],
    [
      words.facts.delegations,
      delegations.length > 0 && (
        <ul key="delegations" className={styles.lines}>
          {delegations.map(({ voting_right: right, to, at }) => (
            <li key={right}>
              {words.delegated(right, to.name || words.anyoneWith(to.role ?? ""))} <Time at={at} />
            </li>
          ))}
        </ul>
      ),
    ],
    [
      words.facts.comments,
      comments.length > 0 && (
        <ul key="comments" className={styles.lines}>
          {comments.map((comment) => (
            <li key={`${comment.by} ${comment.at}`} className={styles.line}>
              <span>
                <Name of={comment.by} /> <Time at={comment.at} />
              </span>
              <span className={styles.words}>
                <Marked text={comment.text} lines />
              </span>
            </li>
          ))}
        </ul>
      ),
    ],
    [words.facts.policy, <Digest key="policy" of={approval.policy_digest} />],
    [words.facts.id, <Digest key="id" of={approval.approval_id} />],
    [
      words.facts.where,
      <span key="where" className={styles.links}>
        <Link href={`/chat/${encodeURIComponent(approval.thread_id)}`}>{words.conversation}</Link>
        <Link href={`/runs/${encodeURIComponent(approval.run_id)}`}>{words.run}</Link>
      </span>,
    ],
  ];
  return <Facts of={facts} />;
}
