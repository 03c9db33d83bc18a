import type { AgentMessage, CallPart, View } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "wouter";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Badge } from "../../parts/Badge.tsx";
import { Json, Text } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts } from "../../parts/Panel.tsx";
import { ErrorState, Loading, Notice } from "../../parts/states.tsx";
import { ApprovalStatus, RunStatus } from "../../parts/statuses.tsx";
import { Time } from "../../parts/Time.tsx";
import { dollars, duration, number } from "../../parts/times.ts";
import { lookOf, titleOf } from "./looks.tsx";
import styles from "./SpanDetails.module.css";
import { lengthOf, type Row, type RunRow, type SpanRow, type WaitRow } from "./waterfall.ts";

const words = messages.run.details;

export interface SpanDetailsProps {
  row: Row;
  view: View;
  now: number;
}

/** What a row of the timeline stands for, in full. */
export function SpanDetails({ row, view, now }: SpanDetailsProps) {
  const look = lookOf(row);
  return (
    <div className={styles.details}>
      <div className={styles.head}>
        <span className={styles.icon}>{look.icon}</span>
        <h3 className={styles.title}>
          <Marked text={titleOf(row)} />
        </h3>
        <Badge tone={look.tone}>{look.word}</Badge>
      </div>
      {row.kind === "span" && <OfSpan row={row} view={view} now={now} />}
      {row.kind === "wait" && <OfWait row={row} now={now} />}
      {row.kind === "crash" && (
        <>
          <Facts
            of={[
              [words.lastSign, <Time key="t" precise at={new Date(row.from).toISOString()} />],
              [words.takenUp, <Time key="t" precise at={new Date(row.to).toISOString()} />],
              [words.after, duration(lengthOf(row, now))],
            ]}
          />
          <p className={styles.quiet}>{words.crash}</p>
        </>
      )}
      {row.kind === "run" && <OfRun row={row} now={now} />}
    </div>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className={styles.part}>
      <h4 className={styles.name}>{title}</h4>
      {children}
    </section>
  );
}

function times(row: Row, from: string, to: string | null, now: number): [string, ReactNode][] {
  return [
    [words.began, <Time key="from" precise at={from} />],
    [words.ended, to === null ? words.goesOn : <Time key="to" precise at={to} />],
    [words.took, duration(lengthOf(row, now))],
  ];
}

function OfSpan({ row, view, now }: { row: SpanRow; view: View; now: number }) {
  const { span } = row;
  const path = span.ns.map((each) => each.slice(0, each.lastIndexOf(":")));
  const usage = span.usage;
  return (
    <>
      <Facts
        of={[
          ...times(row, span.started_at, span.ended_at, now),
          [words.node, span.kind === "node" ? null : span.node || null],
          [words.within, path.length > 0 ? path.join(" › ") : null],
          [words.step, span.step],
          [words.attempt, span.attempt > 1 ? number(span.attempt) : null],
          [words.tokensIn, usage ? number(usage.input_tokens ?? 0) : null],
          [words.tokensOut, usage ? number(usage.output_tokens ?? 0) : null],
          [words.cost, span.cost === null ? null : dollars(span.cost)],
          [words.progress, span.progress === null ? null : `${Math.round(span.progress * 100)} % ${span.progress_message}`],
        ]}
      />
      {span.status === "cut_off" && <Notice tone="bad">{row.seen === null ? words.cutOff : words.cutOffByCrash}</Notice>}
      {span.status === "unknown" && <Notice tone="bad">{words.unknown}</Notice>}
      {span.error && (
        <Part title={words.error}>
          <Text text={`${span.error.type}: ${span.error.message}`} />
        </Part>
      )}
      {span.kind === "tool" && <OfTool call={callOf(view, span.about)} />}
      {span.kind === "model" && <OfModel row={row} view={view} />}
    </>
  );
}

function callOf(view: View, id: string): CallPart | null {
  for (const message of view.messages) {
    if (message.role === "tool" && message.call.id === id) return message.call;
    if (message.role !== "agent") continue;
    const call = message.parts.find((part) => part.type === "call" && part.id === id);
    if (call?.type === "call") return call;
  }
  return null;
}

function OfTool({ call }: { call: CallPart | null }) {
  if (call === null) return null;
  const { args, output, approval } = call;
  return (
    <>
      <Part title={words.args}>
        <Json value={args} />
      </Part>
      {approval?.decided_by && (
        <Part title={words.consent}>
          <Link href={`/approvals/${approval.approval_id}`}>{words.decided(approval.decision ?? "", approval.decided_by)}</Link>
        </Part>
      )}
      {call.status === "done" && (
        <Part title={words.result}>
          <Json value={output} />
        </Part>
      )}
      {call.documents.length > 0 && (
        <Part title={words.documents(call.documents.length)}>
          <Json value={call.documents} depth={1} />
        </Part>
      )}
    </>
  );
}

interface Written {
  text: string;
  reasoning: string;
  pieces: number;
}

/** What a model has written in one message, from the pieces in the log. */
async function writtenBy(threadId: string, row: SpanRow, signal: AbortSignal): Promise<Written> {
  const written: Written = { text: "", reasoning: "", pieces: 0 };
  for (let after = row.span.seq, more = true; more; ) {
    const page = await assent.threads.events(threadId, { after, types: ["token", "reasoning", "llm_end", "llm_error"], limit: 1000 }, { signal });
    for (const event of page.events) {
      if (!("message_id" in event) || event.message_id !== row.span.about) continue;
      if (event.type === "llm_end" || event.type === "llm_error") return written;
      written.pieces += 1;
      if (event.type === "token") written.text += event.content;
      if (event.type === "reasoning") written.reasoning += event.content;
    }
    ({ next: after, more } = page);
  }
  return written;
}

function OfModel({ row, view }: { row: SpanRow; view: View }) {
  const { span } = row;
  const written = useQuery({
    queryKey: ["written", view.thread_id, span.id, span.ended_at],
    queryFn: ({ signal }) => writtenBy(view.thread_id, row, signal),
    enabled: view.thread_id !== "",
  });
  const message = view.messages.find((each): each is AgentMessage => each.role === "agent" && each.id === span.about);
  const calls = message?.parts.filter((part) => part.type === "call") ?? [];
  if (written.isPending) return <Loading lines={2} />;
  if (written.isError) return <ErrorState error={written.error} retry={() => void written.refetch()} />;
  const { text, reasoning, pieces } = written.data;
  return (
    <>
      {reasoning !== "" && (
        <Part title={words.reasoning}>
          <div className={styles.model}>
            <Text text={reasoning} />
          </div>
        </Part>
      )}
      {(text !== "" || calls.length === 0) && (
        <Part title={words.wrote(number(pieces), pieces)}>
          <div className={styles.model}>{text === "" ? words.nothing : <Text text={text} />}</div>
        </Part>
      )}
      {calls.map((call) => (
        <Part key={call.id} title={words.asked(call.tool)}>
          <div className={styles.model}>
            <Json value={call.args ?? call.args_text} />
          </div>
        </Part>
      ))}
    </>
  );
}

function OfWait({ row, now }: { row: WaitRow; now: number }) {
  const { approval } = row;
  return (
    <>
      <Facts
        of={[
          [words.status, <ApprovalStatus key="s" status={approval.status} />],
          [words.asksFor, approval.tool || approval.node || null],
          [words.decidedBy, approval.decided_by],
          [words.grant, approval.grant || null],
          ...times(row, approval.requested_at, approval.decided_at, now),
        ]}
      />
      {typeof approval.message === "string" && approval.message !== "" && (
        <Part title={words.said}>
          <Text text={approval.message} />
        </Part>
      )}
      <Part title={approval.first_args === undefined || approval.first_args === null ? words.args : words.editedArgs}>
        <Json value={approval.args} />
      </Part>
      <Link href={`/approvals/${approval.approval_id}`}>{words.open}</Link>
    </>
  );
}

function OfRun({ row, now }: { row: RunRow; now: number }) {
  const { run, isOver } = row;
  return (
    <>
      <Facts
        of={[
          [words.status, <RunStatus key="s" status={run.status} isOver={isOver} />],
          ...times(row, run.started_at, run.ended_at, now),
          [words.attempt, run.attempt > 1 ? number(run.attempt) : null],
          [words.calls, run.llm_calls > 0 ? number(run.llm_calls) : null],
          [words.steps, run.steps],
          [words.cost, run.cost === null ? null : dollars(run.cost)],
        ]}
      />
      {run.error && (
        <Part title={words.error}>
          <Text text={run.error.message} />
        </Part>
      )}
      {run.message !== "" && (
        <Part title={words.message}>
          <Text text={run.message} />
        </Part>
      )}
    </>
  );
}
