import type { Thread } from "@assent/client";
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link, useLocation } from "wouter";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { Button, ButtonLink, IconButton } from "../../parts/Button.tsx";
import { cx } from "../../parts/cx.ts";
import { Confirm, Dialog } from "../../parts/Dialog.tsx";
import { Menu } from "../../parts/Menu.tsx";
import { TextField } from "../../parts/Field.tsx";
import { MoreIcon, PlusIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Empty, ErrorState, Loading, Notice, Stale } from "../../parts/states.tsx";
import { Time } from "../../parts/Time.tsx";
import { titleOf } from "./titles.ts";
import styles from "./Threads.module.css";

const words = messages.chat.threads;

const ON_A_PAGE = 40;
/** What other people and schedules do is seen after so many milliseconds at most. */
const LOOKS_AGAIN = 20_000;

/** Threads whose questions wait for who is here. */
function useWaitingThreads(): ReadonlySet<string> {
  const { data } = useQuery({
    queryKey: ["approvals", "waiting"],
    queryFn: () => assent.approvals.list({ status: "pending", mine: true, limit: 100 }),
  });
  return new Set(data?.items.map((each) => each.thread_id));
}

/** The words, once nobody has changed them for a moment. */
function useSettled(words: string): string {
  const [settled, setSettled] = useState(words);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(words), SETTLES);
    return () => clearTimeout(timer);
  }, [words]);
  return settled;
}

const SETTLES = 200;

export interface ThreadsProps {
  /** The conversation that is shown. */
  present: string | undefined;
  /** One was chosen. */
  onChosen?: () => void;
}

/** The conversations, newest first, and the way to a new one. */
export function Threads({ present, onChosen }: ThreadsProps) {
  const [wanted, setWanted] = useState("");
  const search = useSettled(wanted.trim());
  const waiting = useWaitingThreads();
  const found = useInfiniteQuery({
    queryKey: ["threads", "list", search],
    queryFn: ({ pageParam }) =>
      assent.threads.list({ limit: ON_A_PAGE, cursor: pageParam, ...(search === "" ? {} : { q: search }) }),
    placeholderData: keepPreviousData,
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next ?? undefined,
    refetchInterval: LOOKS_AGAIN,
  });
  const threads = found.data?.pages.flatMap((page) => page.items) ?? [];

  return (
    <nav className={styles.threads} aria-label={words.label}>
      <div className={styles.head}>
        <ButtonLink to="/chat" look="primary" wide onClick={onChosen}>
          <PlusIcon />
          {words.create}
        </ButtonLink>
        <TextField
          label={words.search}
          hideLabel
          type="search"
          placeholder={words.search}
          value={wanted}
          onChange={(event) => setWanted(event.target.value)}
        />
      </div>
      {found.data === undefined && found.isPending && <Loading />}
      {found.data === undefined && found.isError && (
        <ErrorState error={found.error} retry={() => void found.refetch()} />
      )}
      {found.data !== undefined && found.isError && (
        <Stale error={found.error} retry={() => void found.refetch()} />
      )}
      {found.isSuccess && threads.length === 0 && !found.hasNextPage && (
        <p className={styles.none}>{search === "" ? words.none : words.notFound}</p>
      )}
      <ul className={styles.list}>
        {threads.map((thread) => (
          <ThreadLine
            key={thread.thread_id}
            thread={thread}
            isHere={thread.thread_id === present}
            waits={waiting.has(thread.thread_id)}
            onChosen={onChosen}
          />
        ))}
      </ul>
      {found.hasNextPage && (
        <Button look="quiet" busy={found.isFetchingNextPage} onClick={() => void found.fetchNextPage()}>
          {search === "" ? messages.actions.loadMore : words.searchMore}
        </Button>
      )}
    </nav>
  );
}

interface ThreadLineProps {
  thread: Thread;
  isHere: boolean;
  waits: boolean;
  onChosen: (() => void) | undefined;
}

function ThreadLine({ thread, isHere, waits, onChosen }: ThreadLineProps) {
  const status = waits ? "yours" : thread.status;
  return (
    <li className={cx(styles.item, isHere && styles.here)}>
      <Link
        href={`/chat/${encodeURIComponent(thread.thread_id)}`}
        className={styles.link}
        aria-current={isHere ? "page" : undefined}
        onClick={onChosen}
      >
        <span className={styles.title}>
          <Marked text={titleOf(thread)} />
        </span>
        <span className={styles.facts}>
          {status !== "idle" && (
            <span className={cx(styles.status, styles[status])}>
              <span className={styles.dot} aria-hidden="true" />
              {words.statuses[status]}
            </span>
          )}
          <Time at={thread.updated_at} />
        </span>
      </Link>
      <ThreadMenu thread={thread} className={styles.more} />
    </li>
  );
}

/** What can be done with a conversation. */
export function ThreadMenu({ thread, className }: { thread: Thread; className?: string | undefined }) {
  const [asked, setAsked] = useState<"rename" | "delete" | null>(null);
  const [, go] = useLocation();
  const id = encodeURIComponent(thread.thread_id);
  return (
    <>
      <Menu
        label={words.menu}
        items={[
          { label: words.rename, onSelect: () => setAsked("rename") },
          { label: words.state, onSelect: () => go(`/threads/${id}/state`) },
          { label: words.remove, bad: true, onSelect: () => setAsked("delete") },
        ]}
        trigger={
          <IconButton small label={words.menuOf(titleOf(thread))} className={className}>
            <MoreIcon />
          </IconButton>
        }
      />
      {asked === "rename" && <Rename thread={thread} onOver={() => setAsked(null)} />}
      {asked === "delete" && <Delete thread={thread} onOver={() => setAsked(null)} />}
    </>
  );
}

function Rename({ thread, onOver }: { thread: Thread; onOver: () => void }) {
  const queries = useQueryClient();
  const [title, setTitle] = useState(titleOf(thread));
  const renaming = useMutation({
    mutationFn: () => assent.threads.rename(thread.thread_id, title.trim()),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: ["threads"] });
      onOver();
    },
  });
  const save = () => {
    if (title.trim() !== "") renaming.mutate();
  };
  return (
    <Dialog
      open
      onOpenChange={(open) => !open && onOver()}
      title={words.renameTitle}
      actions={
        <>
          <Button onClick={onOver}>{messages.actions.cancel}</Button>
          <Button look="primary" busy={renaming.isPending} disabled={title.trim() === ""} onClick={save}>
            {messages.actions.save}
          </Button>
        </>
      }
    >
      <TextField
        label={words.title}
        value={title}
        maxLength={200}
        error={renaming.error === null ? null : sentenceOf(renaming.error)}
        onChange={(event) => setTitle(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.nativeEvent.isComposing) save();
        }}
      />
    </Dialog>
  );
}

function Delete({ thread, onOver }: { thread: Thread; onOver: () => void }) {
  const queries = useQueryClient();
  const [location, go] = useLocation();
  const deleting = useMutation({
    mutationFn: () => assent.threads.delete(thread.thread_id),
    onSuccess: async () => {
      if (location === `/chat/${encodeURIComponent(thread.thread_id)}`) go("/chat");
      await queries.invalidateQueries({ queryKey: ["threads"] });
      onOver();
    },
  });
  return (
    <Confirm
      open
      onOpenChange={(open) => !open && onOver()}
      title={words.deleteTitle}
      verb={words.deleteVerb}
      busy={deleting.isPending}
      onConfirm={() => deleting.mutate()}
    >
      <p>
        <strong>
          <Marked text={titleOf(thread)} />
        </strong>
      </p>
      <p>{words.deleteHint}</p>
      {deleting.error !== null && (
        <Notice tone="bad" urgent>
          {sentenceOf(deleting.error)}
        </Notice>
      )}
    </Confirm>
  );
}

/** There is no such conversation, or not any more. */
export function NoThread({ wasDeleted }: { wasDeleted: boolean }) {
  return (
    <Empty
      title={wasDeleted ? words.deleted : words.missing}
      actions={
        <ButtonLink to="/chat" look="primary">
          {words.create}
        </ButtonLink>
      }
    >
      {wasDeleted ? words.deletedHint : words.missingHint}
    </Empty>
  );
}
