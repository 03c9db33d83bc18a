import type { Agent, Approval, View } from "@assent/client";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { useLocation, useParams } from "wouter";
import { assent } from "../../assent.ts";
import { useTitle } from "../../layout/Page.tsx";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { IconButton } from "../../parts/Button.tsx";
import { Drawer } from "../../parts/Dialog.tsx";
import { MenuIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { ErrorState, Loading, LostLink, Stale } from "../../parts/states.tsx";
import { RunStatus } from "../../parts/statuses.tsx";
import { Composer } from "./Composer.tsx";
import { type Conversation, useConversation } from "./conversation.ts";
import { keepQueued } from "./drafts.ts";
import { newsBetween } from "./news.ts";
import { Queued } from "./Queued.tsx";
import type { Obstacle, Sent } from "./sending.ts";
import { Several } from "./Several.tsx";
import { NoThread, ThreadMenu, Threads } from "./Threads.tsx";
import { titleOf } from "./titles.ts";
import { Transcript } from "./Transcript.tsx";
import { Welcome } from "./Welcome.tsx";
import styles from "./ChatPage.module.css";

const words = messages.chat;

/** Conversations with agents: the list of them, and the one that is open. */
export default function ChatPage() {
  const { thread } = useParams<{ thread?: string }>();
  return (
    <div className={styles.page}>
      <aside className={styles.aside}>
        <Threads present={thread} />
      </aside>
      <Open key={thread ?? ""} thread={thread} />
    </div>
  );
}

function useAgents() {
  const found = useQuery({ queryKey: ["agents"], queryFn: () => assent.agents.list(), staleTime: 60_000 });
  return { ...found, agents: found.data ?? NO_AGENTS };
}

const NO_AGENTS: readonly Agent[] = [];

/** The questions that wait in the conversation. */
function useAsked(thread: string | undefined): readonly Approval[] {
  const { data } = useQuery({
    queryKey: ["approvals", "thread", thread],
    queryFn: () => assent.approvals.list({ thread_id: thread, status: "pending", limit: 100 }),
    enabled: thread !== undefined,
  });
  return data?.items ?? NO_APPROVALS;
}

const NO_APPROVALS: readonly Approval[] = [];

/** One conversation, or the beginning of a new one. */
function Open({ thread }: { thread: string | undefined }) {
  const conversation = useConversation(thread);
  const { view, state } = conversation;
  const { agents, isLoadingError, error: unread, refetch } = useAgents();
  const asked = useAsked(thread);
  const waiting = useMemo(() => asked.map((each) => each.approval_id), [asked]);
  const box = useRef<HTMLTextAreaElement>(null);
  const [, go] = useLocation();
  const queries = useQueryClient();
  useNews(conversation);
  useFreshness(view, thread);
  useSlash(box);

  const onSent = ({ run, draft }: Sent) => {
    if (run.status === "pending") keepQueued(run.run_id, draft.text);
    void queries.invalidateQueries({ queryKey: ["threads"] });
    void queries.invalidateQueries({ queryKey: ["runs", "queued"] });
    void queries.invalidateQueries({ queryKey: ["approvals"] });
    // Whoever has opened another page meanwhile has no box here any more, and stays there.
    if (thread === undefined && box.current !== null) go(`/chat/${encodeURIComponent(run.thread_id)}`);
  };

  if (state === "missing" || state === "deleted") {
    return (
      <Frame head={<Head thread={undefined} view={null} />}>
        <NoThread wasDeleted={state === "deleted"} />
      </Frame>
    );
  }
  if (state === "failed") {
    return (
      <Frame head={<Head thread={thread} view={null} />}>
        <ErrorState error={conversation.error} title={words.unread} retry={conversation.retry} />
      </Frame>
    );
  }

  const isEmpty = thread === undefined || (state === "live" && view.messages.length === 0 && waiting.length === 0);
  const isPaused = view.active === null && (view.pending.length > 0 || waiting.length > 0);
  const obstacle: Obstacle | null = isPaused ? "paused" : view.active === null ? null : "busy";
  const say = (text: string) => {
    const { current } = box;
    if (current === null) return;
    // As if it had been typed, so that it can be changed before it is sent.
    const setter = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value")?.set;
    setter?.call(current, text);
    current.dispatchEvent(new Event("input", { bubbles: true }));
    current.focus();
  };
  return (
    <Frame head={<Head thread={thread} view={view} />}>
      {conversation.link === "lost" && <LostLink>{words.lost}</LostLink>}
      {conversation.error !== null && (
        <div className={styles.notice}>
          <Stale error={conversation.error} />
        </div>
      )}
      {isEmpty ? (
        <Welcome agents={agents} onSuggest={say}>
          {isLoadingError && <ErrorState error={unread} title={words.welcome.unread} retry={() => void refetch()} />}
        </Welcome>
      ) : state === "reading" ? (
        <div className={styles.reading}>
          <Loading label={words.reading} />
        </div>
      ) : (
        <Transcript
          view={view}
          waiting={waiting}
          hasOlder={conversation.hasOlder}
          isReadingOlder={conversation.isReadingOlder}
          readOlder={conversation.readOlder}
        />
      )}
      <div className={styles.foot}>
        {thread !== undefined && <Several asked={asked} />}
        {thread !== undefined && <Queued thread={thread} view={view} />}
        <Composer
          thread={thread}
          agents={thread === undefined ? agents : NO_AGENTS}
          obstacle={obstacle}
          whyNoReject={whyNoReject(asked)}
          activeRun={view.active?.run_id ?? null}
          onSent={onSent}
          box={box}
        />
      </div>
    </Frame>
  );
}

/** Why a message cannot reject all that waits; null if it can. */
function whyNoReject(asked: readonly Approval[]): string | null {
  const refuses = asked.find((each) => !each.allowed.includes("reject"));
  return refuses === undefined ? null : words.composer.takesNoRejection;
}

function Frame({ head, children }: { head: ReactNode; children: ReactNode }) {
  return (
    <section className={styles.open}>
      {head}
      {children}
    </section>
  );
}

/** The title of the conversation, how it stands, and what can be done with it. */
function Head({ thread, view }: { thread: string | undefined; view: View | null }) {
  const [showsList, setShowsList] = useState(false);
  const found = useQuery({
    queryKey: ["threads", "one", thread],
    queryFn: () => assent.threads.get(thread ?? ""),
    enabled: thread !== undefined && view !== null && view.seq > 0,
  });
  const title = found.data === undefined ? words.new : titleOf(found.data);
  useTitle(thread === undefined ? messages.layout.chat : title);
  const status = view === null ? null : statusOf(view);
  return (
    <header className={styles.head}>
      <IconButton className={styles.listButton} label={words.threads.label} onClick={() => setShowsList(true)}>
        <MenuIcon />
      </IconButton>
      <h1 className={styles.title}>
        <Marked text={thread !== undefined && found.data === undefined ? words.conversation : title} />
      </h1>
      {status !== null && <RunStatus status={status} />}
      {found.data !== undefined && <ThreadMenu thread={found.data} />}
      <Drawer open={showsList} onOpenChange={setShowsList} title={words.threads.label}>
        <Threads present={thread} onChosen={() => setShowsList(false)} />
      </Drawer>
    </header>
  );
}

/** How the conversation stands, where that is worth a word. */
function statusOf(view: View): string | null {
  if (view.active !== null) return "running";
  if (view.pending.length > 0) return "interrupted";
  const last = Object.values(view.runs).at(-1);
  return last?.status === "error" ? "error" : null;
}

/** Reads the lists anew when a run begins or ends here, or somebody is asked or has decided. */
function useFreshness(view: View, thread: string | undefined): void {
  const queries = useQueryClient();
  const runs = Object.keys(view.runs).length;
  const active = view.active?.run_id;
  const pending = view.pending.map((each) => each.approval_id).join();
  useEffect(() => {
    if (thread === undefined || runs === 0) return;
    void queries.invalidateQueries({ queryKey: ["threads"] });
    void queries.invalidateQueries({ queryKey: ["runs"] });
    void queries.invalidateQueries({ queryKey: ["approvals"] });
  }, [queries, thread, runs, active, pending]);
}

/** Says what is finished to who listens: a message once, not each of its letters. */
function useNews({ view, state }: Conversation): void {
  const announce = useAnnounce();
  const before = useRef<View | null>(null);
  useEffect(() => {
    if (state !== "live") return;
    // What was there when the conversation was opened is no news.
    const news = before.current === null ? [] : newsBetween(before.current, view);
    before.current = view;
    if (news.length > 0) announce(news.join(" "));
  }, [announce, state, view]);
}

/** "/" leads to the box, from anywhere but where one writes. */
function useSlash(box: { current: HTMLTextAreaElement | null }): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.defaultPrevented;
      const { target } = event;
      const isWriting = target instanceof HTMLElement && target.closest("input, textarea, select, dialog");
      if (event.key !== "/" || !isPlain || isWriting) return;
      event.preventDefault();
      box.current?.focus();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [box]);
}
