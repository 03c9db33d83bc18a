import { NotFound, type Run } from "@assent/client";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useEffect, useState } from "react";
import { Link, useParams } from "wouter";
import { useAddress } from "../../address.ts";
import { assent } from "../../assent.ts";
import { Page } from "../../layout/Page.tsx";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Button, ButtonLink } from "../../parts/Button.tsx";
import { Copy } from "../../parts/Copy.tsx";
import { Confirm } from "../../parts/Dialog.tsx";
import { ChatIcon, ForkIcon, GraphIcon, InboxIcon, RetryIcon, StopIcon } from "../../parts/icons.tsx";
import { Text } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { isNarrow } from "../../parts/narrow.ts";
import { Facts, Panel } from "../../parts/Panel.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Segmented } from "../../parts/Segmented.tsx";
import { Empty, ErrorState, Loading, Notice, Stale } from "../../parts/states.tsx";
import { RunStatus } from "../../parts/statuses.tsx";
import { Time, useNow } from "../../parts/Time.tsx";
import { dollars, duration, number, relativeTime, zone } from "../../parts/times.ts";
import { useSummaries } from "../runs/titles.ts";
import { Events } from "./Events.tsx";
import styles from "./RunPage.module.css";
import { type Story, useStory } from "./story.ts";
import { Timeline } from "./Timeline.tsx";

const words = messages.run;

type Form = "picture" | "list" | "events";

/** A phone has no room for the picture; its list says the same. */

export default function RunPage() {
  const { id = "" } = useParams();
  const run = useQuery({ queryKey: ["runs", "one", id], queryFn: ({ signal }) => assent.runs.get(id, { signal }) });
  const story = useStory(run.data?.thread_id, id);
  useReadAnew(id, story);

  if (run.data === undefined) {
    return (
      <Page title={words.title}>
        {run.isPending && <Loading />}
        {run.error instanceof NotFound && <Empty title={words.notFound}>{messages.states.notFoundHint}</Empty>}
        {run.error !== null && !(run.error instanceof NotFound) && <ErrorState error={run.error} retry={() => void run.refetch()} />}
      </Page>
    );
  }
  const stale = run.isError && <Stale error={run.error} retry={() => void run.refetch()} />;
  return <OneRun run={run.data} story={story} stale={stale} />;
}

/** Reads the run anew when the log says that it stands otherwise. */
function useReadAnew(id: string, { view, isRead }: Story): void {
  const queries = useQueryClient();
  const told = view.runs[id];
  const state = `${told?.status} ${told?.attempt}`;
  useEffect(() => {
    if (isRead) void queries.invalidateQueries({ queryKey: ["runs"] });
  }, [queries, isRead, state]);
}

function OneRun({ run, story, stale }: { run: Run; story: Story; stale: ReactNode }) {
  const threads = useSummaries([run.thread_id]);
  const [address, change] = useAddress();
  const asked = address.get("show");
  const form: Form = asked === "picture" || asked === "list" || asked === "events" ? asked : isNarrow() ? "list" : "picture";
  const first = story.runs[0];
  // What began the run, and else what its conversation is called: that may have gone on to other things.
  const title = first?.message.split("\n")[0]?.slice(0, 120) || threads[run.thread_id]?.title;
  return (
    <Page title={title || words.title} sub={<Sub run={run} isOver={story.runs.at(-1)?.run_id !== run.run_id} />} actions={<Actions run={run} story={story} />}>
      {stale}
      {run.error && (
        <Notice tone="bad">
          <strong>{words.failed}.</strong> <Text text={run.error.message} />
        </Notice>
      )}
      {run.reason && (
        <Notice tone="waiting">
          <strong>{words.stuck}.</strong> {run.reason}
        </Notice>
      )}
      <Numbers run={run} />
      <Panel
        flush
        title={
          <Segmented
            label={words.form}
            value={form}
            options={[
              { value: "picture", label: words.forms.picture },
              { value: "list", label: words.forms.list },
              { value: "events", label: words.forms.events },
            ]}
            onChange={(value) => change({ show: value })}
          />
        }
        actions={<span className={styles.zone}>{messages.time.zone(zone)}</span>}
      >
        {form === "events" ? (
          <Events run={run} group={address.get("kind") ?? "all"} onGroup={(group) => change({ kind: group === "all" ? null : group })} />
        ) : (
          <Picture run={run} story={story} form={form} selected={address.get("at")} onSelect={(id) => change({ at: id })} />
        )}
      </Panel>
    </Page>
  );
}

interface PictureProps {
  run: Run;
  story: Story;
  form: "picture" | "list";
  selected: string | null;
  onSelect: (id: string | null) => void;
}

function Picture({ run, story, form, selected, onSelect }: PictureProps) {
  const { view, runs, isRead, isCut, error } = story;
  if (runs.length === 0) {
    if (error !== null) return <ErrorState error={error} retry={story.again} />;
    if (!isRead) return <Loading label={words.reading} />;
    const hint = run.due_at ? words.queued(relativeTime(run.due_at)) : words.emptyHint;
    return <Empty title={words.empty}>{hint}</Empty>;
  }
  return (
    <>
      {error !== null && (
        <Stale error={error} retry={story.again} />
      )}
      {isCut && <Notice>{words.cut}</Notice>}
      <Timeline view={view} runs={runs} runId={run.run_id} form={form} selected={selected} onSelect={onSelect} />
    </>
  );
}

function Sub({ run, isOver }: { run: Run; isOver: boolean }) {
  return (
    <span className={styles.sub}>
      <RunStatus status={run.status} isOver={isOver} />
      <Link href={`/agents/${encodeURIComponent(run.agent)}`}>
        <Marked text={run.agent} />
      </Link>
      <span>
        {words.facts.by} <Marked text={run.requested_by.join(", ")} />
      </span>
      <Time at={run.started_at ?? run.created_at} />
    </span>
  );
}

const GOING = new Set(["pending", "running", "cancelling"]);

function Actions({ run, story }: { run: Run; story: Story }) {
  const me = useMe();
  const queries = useQueryClient();
  const announce = useAnnounce();
  const [isAsked, setIsAsked] = useState(false);
  const cancel = useMutation({
    mutationFn: () => assent.runs.cancel(run.run_id),
    onSuccess: (runs) => {
      const stopped = runs.find((each) => each.run_id === run.run_id);
      if (stopped) queries.setQueryData(["runs", "one", run.run_id], stopped);
      announce(words.cancelled);
      setIsAsked(false);
    },
    onSettled: () => void queries.invalidateQueries({ queryKey: ["runs"] }),
  });
  const pending = story.view.pending.filter((each) => story.runs.some((one) => one.run_id === each.run_id));
  const [question] = pending;
  const mayCancel = me.rights.includes("stop") && (GOING.has(run.status) || (run.status === "interrupted" && pending.length > 0));
  const thread = encodeURIComponent(run.thread_id);
  return (
    <>
      {question && (
        <ButtonLink look="primary" to={`/approvals/${question.approval_id}`}>
          <InboxIcon />
          {words.approvals(pending.length)}
        </ButtonLink>
      )}
      <ButtonLink to={`/chat/${thread}`}>
        <ChatIcon />
        {words.chat}
      </ButtonLink>
      <ButtonLink to={`/threads/${thread}/state`}>
        <ForkIcon />
        {words.state}
      </ButtonLink>
      <ButtonLink to={`/agents/${encodeURIComponent(run.agent)}?thread=${thread}`}>
        <GraphIcon />
        {words.graph}
      </ButtonLink>
      {!GOING.has(run.status) && me.rights.includes("run") && (
        <ButtonLink to={`/threads/${thread}/state?run=${run.run_id}`} title={words.retryHint}>
          <RetryIcon />
          {words.retry}
        </ButtonLink>
      )}
      {mayCancel && (
        <Button look="danger" disabled={run.status === "cancelling"} onClick={() => setIsAsked(true)}>
          <StopIcon />
          {words.cancel}
        </Button>
      )}
      <Confirm
        open={isAsked}
        onOpenChange={setIsAsked}
        title={words.cancelTitle}
        verb={words.cancelVerb}
        busy={cancel.isPending}
        onConfirm={() => cancel.mutate()}
      >
        <p>{words.cancelHint}</p>
        {cancel.isError && <Notice tone="bad">{sentenceOf(cancel.error)}</Notice>}
      </Confirm>
    </>
  );
}

const A_SECOND = 1000;

/** How long it has been at work, each second while it is. */
function Worked({ run }: { run: Run }) {
  const now = useNow(A_SECOND);
  if (run.started_at === null) return null;
  const end = run.ended_at === null ? now : Date.parse(run.ended_at);
  return duration(end - Date.parse(run.started_at));
}

function Numbers({ run }: { run: Run }) {
  const { usage } = run;
  const { facts } = words;
  const count = (name: string) => (usage[name] === undefined ? null : number(usage[name]));
  const read = count("input_tokens");
  const written = count("output_tokens");
  const numbers: [string, ReactNode][] = [
    [facts.began, run.started_at && <Time at={run.started_at} exact />],
    [facts.due, run.status === "pending" && run.due_at && <Time at={run.due_at} />],
    [facts.took, run.started_at && <Worked run={run} />],
    [facts.attempts, run.attempt > 1 && number(run.attempt)],
    [facts.calls, count("model_calls")],
    [facts.tools, count("tool_calls")],
    [facts.tokens, read !== null && facts.inOut(read, written ?? "0")],
    [facts.cost, usage["cost"] !== undefined && dollars(usage["cost"])],
    ...budgetsOf(run),
  ];
  return (
    <div className={styles.numbers}>
      {numbers.map(
        ([name, value]) =>
          value !== null &&
          value !== false &&
          value !== undefined && (
            <div key={name} className={styles.number}>
              <span className={styles.name}>{name}</span>
              <span className={styles.value}>{value}</span>
            </div>
          ),
      )}
      <details className={styles.more}>
        <summary>{words.more}</summary>
        <Facts
          of={[
            [facts.id, <Id key="id" id={run.run_id} />],
            [facts.thread, <Id key="thread" id={run.thread_id} />],
            [facts.created, <Time key="at" at={run.created_at} />],
            [facts.ended, run.ended_at && <Time key="at" at={run.ended_at} />],
            [facts.schedule, run.schedule_id],
            [facts.steps, count("steps")],
          ]}
        />
      </details>
    </div>
  );
}

function Id({ id }: { id: string }) {
  return (
    <span className={styles.id}>
      <code>{id}</code>
      <Copy text={id} />
    </span>
  );
}

/** What is used of each of its limits. */
function budgetsOf(run: Run): [string, ReactNode][] {
  const names: Record<string, string> = messages.budgets;
  const found: [string, ReactNode][] = [];
  for (const [name, limit] of Object.entries(run.budget)) {
    if (typeof limit !== "number") continue;
    const used = number(Math.round((run.usage[name] ?? 0) * 100) / 100);
    found.push([`${words.facts.budget}: ${names[name] ?? name}`, words.facts.used(used, number(limit))]);
  }
  return found;
}
