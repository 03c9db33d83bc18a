import type { Agent } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import { lazy, type ReactNode, Suspense, useMemo, useState } from "react";
import { Link, useParams } from "wouter";
import { useAddress } from "../../address.ts";
import { assent } from "../../assent.ts";
import { Page } from "../../layout/Page.tsx";
import { useLive } from "../../live.tsx";
import { messages } from "../../messages/en.ts";
import { Badge } from "../../parts/Badge.tsx";
import { Button, ButtonLink } from "../../parts/Button.tsx";
import { ChatIcon, GraphIcon, RunsIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { isNarrow } from "../../parts/narrow.ts";
import { Panel } from "../../parts/Panel.tsx";
import { Segmented } from "../../parts/Segmented.tsx";
import { Empty, ErrorState, Loading, Notice, Stale } from "../../parts/states.tsx";
import styles from "./AgentsPage.module.css";
import { around, type Drawn, drawn, placesOf, shownAs } from "./graph.ts";
import type { Lit } from "./GraphCanvas.tsx";
import { leadsTo, nameOf } from "./naming.ts";

const words = messages.agents;
const GraphCanvas = lazy(() => import("./GraphCanvas.tsx"));

/** A graph with more nodes is drawn on request. */
const LARGE = 60;

export default function AgentsPage() {
  const { name } = useParams();
  const agents = useQuery({ queryKey: ["agents"], queryFn: ({ signal }) => assent.agents.list({ signal }) });
  const agent = agents.data?.find((each) => each.agent === name);
  if (agents.data === undefined) {
    return (
      <Page title={words.title}>
        {agents.isPending ? <Loading /> : <ErrorState error={agents.error} retry={() => void agents.refetch()} />}
      </Page>
    );
  }
  const stale = agents.isError && <Stale error={agents.error} retry={() => void agents.refetch()} />;
  if (name === undefined) return <All agents={agents.data} stale={stale} />;
  if (agent === undefined) {
    return (
      <Page title={words.title}>
        <Empty title={words.notFound} actions={<ButtonLink to="/agents">{words.all}</ButtonLink>}>
          {words.notFoundHint}
        </Empty>
      </Page>
    );
  }
  return <One key={name} agent={agent} stale={stale} />;
}

function All({ agents, stale }: { agents: readonly Agent[]; stale: ReactNode }) {
  return (
    <Page title={words.title} sub={words.hint}>
      {stale}
      {agents.length === 0 && (
        <Empty icon={<GraphIcon />} title={words.none}>
          {words.noneHint}
        </Empty>
      )}
      <ul className={styles.agents}>
        {agents.map((agent) => (
          <li key={agent.agent} className={styles.agent}>
            <Link href={`/agents/${encodeURIComponent(agent.agent)}`} className={styles.name}>
              <Marked text={agent.agent} />
            </Link>
            {agent.description && (
              <p className={styles.description}>
                <Marked text={agent.description} />
              </p>
            )}
            <p className={styles.quiet}>{summaryOf(agent)}</p>
          </li>
        ))}
      </ul>
    </Page>
  );
}

function summaryOf({ tools, nodes }: Agent): string {
  if (tools) return words.summary(tools.length, tools.filter((tool) => tool.needs_approval).length);
  return words.nodes(nodes?.length ?? 0);
}

function One({ agent, stale }: { agent: Agent; stale: ReactNode }) {
  const path = encodeURIComponent(agent.agent);
  return (
    <Page
      title={agent.agent}
      sub={agent.description && <Marked text={agent.description} />}
      actions={
        <>
          <ButtonLink to={`/chat?agent=${path}`}>
            <ChatIcon />
            {messages.layout.chat}
          </ButtonLink>
          <ButtonLink to={`/runs?agent=${path}`}>
            <RunsIcon />
            {messages.layout.runs}
          </ButtonLink>
          <ButtonLink to="/agents">{words.all}</ButtonLink>
        </>
      }
    >
      {stale}
      <Graph agent={agent.agent} />
      {agent.tools && agent.tools.length > 0 && (
        <Panel flush title={words.tools}>
          <ul>
            {agent.tools.map((tool) => (
              <li key={tool.name} className={styles.tool}>
                <span className={styles.toolName}>
                  <code>
                    <Marked text={tool.name} />
                  </code>
                  {tool.needs_approval ? <Badge tone="waiting">{words.needsApproval}</Badge> : <Badge>{words.free}</Badge>}
                </span>
                <span className={styles.quiet}>
                  <Marked text={tool.description} />
                </span>
              </li>
            ))}
          </ul>
        </Panel>
      )}
    </Page>
  );
}

const LIT_BY = ["node_start", "checkpoint", "run_start", "run_resumed", "run_paused", "run_cancelled", "done", "error"] as const;

/** The places of a thread that are at work, or wait for a person. */
function useLit(threadId: string | null): ReadonlyMap<string, Lit> {
  const { data } = useQuery({
    queryKey: ["lit", threadId],
    enabled: threadId !== null,
    queryFn: async ({ signal }) => {
      const id = threadId ?? "";
      const [thread, state] = await Promise.all([
        assent.threads.get(id, { signal }),
        assent.threads.state(id, { subgraphs: true }, { signal }),
      ]);
      const asked = thread.approvals.flatMap((approval) => (approval.node ? [approval.node.replaceAll("|", ":")] : []));
      const places = asked.length > 0 ? asked : placesOf(state.tasks);
      const how: Lit | null = thread.status === "interrupted" ? "waiting" : thread.status === "busy" ? "active" : null;
      return how === null ? [] : places.map((place) => [place, how] as const);
    },
  });
  useLive("thread", threadId, LIT_BY, ["lit", threadId]);
  return useMemo(() => new Map(data ?? []), [data]);
}

type Form = "picture" | "list";

function Graph({ agent }: { agent: string }) {
  const [address, change] = useAddress();
  const lit = useLit(address.get("thread"));
  const given = useQuery({ queryKey: ["graph", agent], queryFn: ({ signal }) => assent.agents.graph(agent, { signal }), staleTime: Infinity });
  const [toggled, setToggled] = useState<ReadonlyMap<string, boolean>>(new Map());
  const [isWanted, setIsWanted] = useState(false);
  // What is lit is shown, unless somebody has folded it.
  const opened = useMemo(() => {
    const open = new Set([...lit.keys()].flatMap(around));
    for (const [group, isOpen] of toggled) {
      if (isOpen) open.add(group);
      else open.delete(group);
    }
    return open;
  }, [lit, toggled]);
  const graph = useMemo(() => (given.data ? drawn(given.data, opened) : null), [given.data, opened]);
  const asked = address.get("show");
  const form: Form = asked === "list" || asked === "picture" ? asked : isNarrow() ? "list" : "picture";
  const toggle = (group: string) => setToggled((before) => new Map(before).set(group, !opened.has(group)));
  return (
    <Panel
      flush
      title={words.graph}
      actions={
        <Segmented
          label={words.form}
          value={form}
          options={[
            { value: "picture", label: words.forms.picture },
            { value: "list", label: words.forms.list },
          ]}
          onChange={(value) => change({ show: value })}
        />
      }
    >
      {given.isPending && <Loading />}
      {given.isError && <ErrorState error={given.error} retry={() => void given.refetch()} />}
      {graph && lit.size > 0 && (
        <div className={styles.notice}>
          <Notice tone={[...lit.values()].includes("waiting") ? "waiting" : "neutral"}>
            {[...lit].map(([place, how]) => `${place.replaceAll(":", " › ")}: ${words.lit[how]}`).join(" · ")}
          </Notice>
        </div>
      )}
      {graph && form === "list" && <Steps graph={graph} opened={opened} lit={lit} onToggle={toggle} />}
      {graph && form === "picture" && graph.nodes.length > LARGE && !isWanted && (
        <Empty icon={<GraphIcon />} title={words.large(graph.nodes.length)} actions={<Button onClick={() => setIsWanted(true)}>{words.draw}</Button>}>
          {words.largeHint}
        </Empty>
      )}
      {graph && form === "picture" && (graph.nodes.length <= LARGE || isWanted) && (
        <Suspense fallback={<Loading />}>
          <GraphCanvas graph={graph} opened={opened} lit={lit} onToggle={toggle} />
        </Suspense>
      )}
    </Panel>
  );
}

interface StepsProps {
  graph: Drawn;
  opened: ReadonlySet<string>;
  lit: ReadonlyMap<string, Lit>;
  onToggle: (group: string) => void;
}

/** The graph as a list: each node with where it leads. */
function Steps({ graph, opened, lit, onToggle }: StepsProps) {
  const shown = new Map([...lit].map(([place, how]) => [shownAs(place, opened), how]));
  return (
    <ol aria-label={words.steps}>
      {graph.nodes.map((node) => {
        const how = shown.get(node.id);
        const leads = leadsTo(graph, node.id);
        return (
          <li key={node.id} className={styles.step}>
            <span className={styles.toolName}>
              <strong>
                <Marked text={[...around(node.id).map(nameOf), nameOf(node.id)].join(" › ")} />
              </strong>
              {node.kind === "approval" && <Badge tone="waiting">{words.kinds.approval}</Badge>}
              {how && <Badge tone={how} dot>{words.lit[how]}</Badge>}
              {node.kind === "subgraph" && (
                <Button small onClick={() => onToggle(node.id)}>
                  {words.open(node.name)}
                </Button>
              )}
            </span>
            {leads !== null && <span className={styles.quiet}>{leads}</span>}
            {node.tools.length > 0 && <span className={styles.quiet}>{words.runsTools(node.tools)}</span>}
          </li>
        );
      })}
      {graph.groups.map((group) => (
        <li key={group} className={styles.step}>
          <Button small onClick={() => onToggle(group)}>
            {words.fold(nameOf(group))}
          </Button>
        </li>
      ))}
    </ol>
  );
}
