import { NotFound } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useMemo, useState } from "react";
import { Link, useParams } from "wouter";
import { useAddress } from "../../address.ts";
import { assent } from "../../assent.ts";
import { Page } from "../../layout/Page.tsx";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { Badge } from "../../parts/Badge.tsx";
import { Button, ButtonLink } from "../../parts/Button.tsx";
import { Copy } from "../../parts/Copy.tsx";
import { cx } from "../../parts/cx.ts";
import { Diff } from "../../parts/Diff.tsx";
import { SelectField } from "../../parts/Field.tsx";
import { ChatIcon, ForkIcon, RetryIcon } from "../../parts/icons.tsx";
import { Text } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts, Panel } from "../../parts/Panel.tsx";
import { Empty, ErrorState, Loading, Stale } from "../../parts/states.tsx";
import { ApprovalStatus, RunStatus } from "../../parts/statuses.tsx";
import { Time } from "../../parts/Time.tsx";
import { clockTime } from "../../parts/times.ts";
import { useSummaries } from "../runs/titles.ts";
import { type Known, knownOf, useHistory } from "./history.ts";
import { type Placed, placed } from "./lanes.ts";
import { ForkFrom, RunFrom } from "./RunFrom.tsx";
import styles from "./StatePage.module.css";
import { Values } from "./Values.tsx";

const words = messages.state;

export default function StatePage() {
  const { id = "" } = useParams();
  const thread = useSummaries([id])[id];
  const history = useHistory(id);
  const states = useMemo(() => knownOf(history.data?.pages.flatMap((page) => page.items) ?? []), [history.data]);
  const path = encodeURIComponent(id);
  return (
    <Page
      title={words.title}
      sub={
        <span className={styles.sub}>
          <Marked text={thread?.title || id} />
          {thread && <RunStatus status={thread.status} />}
        </span>
      }
      actions={
        <>
          <ButtonLink to={`/chat/${path}`}>
            <ChatIcon />
            {messages.run.chat}
          </ButtonLink>
          <ButtonLink to={`/runs?thread=${path}`}>{words.runs}</ButtonLink>
        </>
      }
    >
      {history.isPending && <Loading />}
      {history.error instanceof NotFound && <Empty title={words.noThread}>{messages.states.notFoundHint}</Empty>}
      {history.isError && !(history.error instanceof NotFound) && states.length === 0 && (
        <ErrorState error={history.error} retry={() => void history.refetch()} />
      )}
      {history.isError && states.length > 0 && (
        <Stale error={history.error} retry={() => void history.refetch()} />
      )}
      {history.isSuccess && states.length === 0 && <Empty title={words.none}>{words.noneHint}</Empty>}
      {states.length > 0 && (
        <Both
          threadId={id}
          isPaused={thread?.status === "interrupted"}
          states={states}
          more={
            history.hasNextPage ? (
              <Button small busy={history.isFetchingNextPage} onClick={() => void history.fetchNextPage()}>
                {words.older}
              </Button>
            ) : null
          }
        />
      )}
    </Page>
  );
}

interface BothProps {
  threadId: string;
  isPaused: boolean;
  states: readonly Known[];
  more: ReactNode;
}

/** The state that the address names; or where the run that it names began; or the last one. */
function chosenOf(states: readonly Known[], search: URLSearchParams): Known | undefined {
  const at = states.find((each) => each.id === search.get("at"));
  const begun = states.findLast((each) => each.runId === search.get("run"));
  return at ?? begun ?? states[0];
}

function Both({ threadId, isPaused, states, more }: BothProps) {
  const [address, change] = useAddress();
  const chosen = chosenOf(states, address);
  const other = states.find((each) => each.id === address.get("with"));
  const places = useMemo(() => placed(states.map(({ id, state }) => ({ id, parent: state.parent_checkpoint_id }))), [states]);
  const width = 1 + Math.max(0, ...places.map((place) => Math.max(place.lane, ...place.passing)));
  return (
    <div className={styles.both}>
      <Panel flush title={words.checkpoints} className={styles.list}>
        <ol className={styles.states}>
          {states.map((known, row) => (
            <li key={known.id}>
              <Checkpoint
                known={known}
                place={places[row]}
                width={width}
                isChosen={known.id === chosen?.id}
                isOther={known.id === other?.id}
                onChoose={() => change({ at: known.id })}
              />
            </li>
          ))}
        </ol>
        {more && <div className={styles.foot}>{more}</div>}
      </Panel>
      {chosen && (
        <Chosen
          key={chosen.id}
          threadId={threadId}
          known={chosen}
          other={other}
          states={states}
          isPaused={isPaused}
          onCompare={(id) => change({ with: id })}
        />
      )}
    </div>
  );
}

const LANE = 14;
const ROW = 52;

/** The lines of the tree beside a row. */
function Lanes({ place, width }: { place: Placed; width: number }) {
  const x = (lane: number) => lane * LANE + LANE / 2;
  const { lane, passing, joining, goesOn } = place;
  return (
    <svg className={styles.lanes} width={width * LANE} height={ROW} viewBox={`0 0 ${width * LANE} ${ROW}`} aria-hidden="true">
      {passing.map((each) => (
        <path key={each} d={`M${x(each)} 0V${ROW}`} />
      ))}
      {joining.map((each) => (
        <path key={`j${each}`} d={each === lane ? `M${x(each)} 0V${ROW / 2}` : `M${x(each)} 0C${x(each)} ${ROW / 2} ${x(lane)} 8 ${x(lane)} ${ROW / 2}`} />
      ))}
      {goesOn && <path d={`M${x(lane)} ${ROW / 2}V${ROW}`} />}
      <circle cx={x(lane)} cy={ROW / 2} r={4} />
    </svg>
  );
}

function nameOf(known: Known): string {
  const sources: Record<string, string> = words.sources;
  const nodes = known.nodes.filter((name) => name !== "__start__");
  if (nodes.length > 0) return nodes.join(", ");
  return sources[known.source] ?? known.source;
}

interface CheckpointProps {
  known: Known;
  place: Placed | undefined;
  width: number;
  isChosen: boolean;
  isOther: boolean;
  onChoose: () => void;
}

function Checkpoint({ known, place, width, isChosen, isOther, onChoose }: CheckpointProps) {
  const { state } = known;
  return (
    <button
      type="button"
      className={cx(styles.checkpoint, isChosen && styles.chosen, isOther && styles.other)}
      aria-current={isChosen ? "true" : undefined}
      onClick={onChoose}
    >
      {place && <Lanes place={place} width={width} />}
      <span className={styles.what}>
        <span className={styles.name}>
          <Marked text={nameOf(known)} />
        </span>
        <span className={styles.about}>
          {known.step !== null && words.step(known.step)}
          {known.channels.length > 0 && ` · ${words.wrote(known.channels.join(", "))}`}
        </span>
      </span>
      <span className={styles.side}>
        {state.approvals.length > 0 && <Badge tone="waiting">{words.waits}</Badge>}
        {state.created_at && <Time at={state.created_at} exact />}
      </span>
    </button>
  );
}

interface ChosenProps {
  threadId: string;
  known: Known;
  other: Known | undefined;
  states: readonly Known[];
  isPaused: boolean;
  onCompare: (id: string | null) => void;
}

function Chosen({ threadId, known, other, states, isPaused, onCompare }: ChosenProps) {
  const me = useMe();
  const [asked, setAsked] = useState<"run" | "fork" | null>(null);
  const mayRun = me.rights.includes("run");
  const { state } = known;
  const graph = state.metadata?.["graph_id"];
  const agent = useQuery({
    queryKey: ["thread-agent", threadId],
    queryFn: async ({ signal }) => String((await assent.threads.get(threadId, { signal })).metadata["graph_id"] ?? ""),
    enabled: typeof graph !== "string",
    staleTime: Infinity,
  });
  const options = states
    .filter((each) => each.id !== known.id)
    .map((each) => ({
      value: each.id,
      label: `${each.step ?? ""} ${nameOf(each)}${each.state.created_at ? ` · ${clockTime(each.state.created_at)}` : ""}`,
    }));
  return (
    <div className={styles.detail}>
      <Panel
        title={nameOf(known)}
        actions={
          mayRun && (
            <>
              <Button small onClick={() => setAsked("fork")}>
                <ForkIcon />
                {words.fork}
              </Button>
              <Button small look="primary" onClick={() => setAsked("run")}>
                <RetryIcon />
                {words.runFrom}
              </Button>
            </>
          )
        }
      >
        <Facts
          of={[
            [words.facts.stored, state.created_at && <Time key="at" at={state.created_at} exact />],
            [words.facts.step, known.step],
            [words.facts.next, state.next.length > 0 ? <Marked key="n" text={state.next.join(", ")} /> : words.nothingNext],
            [words.facts.run, known.runId !== "" && <Link key="r" href={`/runs/${known.runId}`}>{words.openRun}</Link>],
            [
              words.facts.id,
              <span key="id" className={styles.id}>
                <code>{known.id}</code>
                <Copy text={known.id} />
              </span>,
            ],
          ]}
        />
        {state.tasks.some((task) => task.error || task.interrupts.length > 0) && (
          <ul className={styles.tasks}>
            {state.tasks.map((task) => (
              <li key={task.id}>
                <code>
                  <Marked text={task.name} />
                </code>{" "}
                {task.error ? <Text text={task.error} /> : task.interrupts.length > 0 ? words.asks(task.interrupts.length) : null}
              </li>
            ))}
          </ul>
        )}
        {state.approvals.map((approval) => (
          <p key={approval.approval_id} className={styles.waiting}>
            <ApprovalStatus status={approval.status} />
            <Link href={`/approvals/${approval.approval_id}`}>
              <Marked text={approval.tool || approval.node || approval.kind} />
            </Link>
          </p>
        ))}
      </Panel>
      <Panel
        title={other ? words.compared : words.values}
        actions={
          <div className={styles.compare}>
            <SelectField
              hideLabel
              label={words.compare}
              value={other?.id ?? ""}
              options={[{ value: "", label: words.compare }, ...options]}
              onChange={(event) => onCompare(event.target.value || null)}
            />
          </div>
        }
      >
        {other ? <Compared from={other} to={known} /> : <Values values={state.values} />}
      </Panel>
      <RunFrom
        open={asked === "run"}
        onOpenChange={() => setAsked(null)}
        threadId={threadId}
        agent={typeof graph === "string" ? graph : (agent.data ?? "")}
        known={known}
        isPaused={isPaused}
      />
      <ForkFrom open={asked === "fork"} onOpenChange={() => setAsked(null)} threadId={threadId} known={known} />
    </div>
  );
}

/** What is different: always from the older one to the newer one. */
function Compared({ from, to }: { from: Known; to: Known }) {
  const isOrdered = (from.state.created_at ?? "") <= (to.state.created_at ?? "");
  const [older, newer] = isOrdered ? [from, to] : [to, from];
  const isSame = JSON.stringify(older.state.values) === JSON.stringify(newer.state.values);
  return (
    <>
      <p className={styles.quiet}>{words.between(`${older.step ?? ""} ${nameOf(older)}`, `${newer.step ?? ""} ${nameOf(newer)}`)}</p>
      {isSame ? <p>{words.same}</p> : <Diff before={older.state.values} after={newer.state.values} />}
    </>
  );
}
