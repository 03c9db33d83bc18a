import type { Notification } from "@assent/client";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { useAddress } from "../../address.ts";
import { assent } from "../../assent.ts";
import { Page } from "../../layout/Page.tsx";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { wordOf } from "../../messages/word-of.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Badge, type Tone } from "../../parts/Badge.tsx";
import { Button } from "../../parts/Button.tsx";
import { BellIcon, ChevronIcon, RetryIcon } from "../../parts/icons.tsx";
import { Json } from "../../parts/Json.tsx";
import { Listed, usePages } from "../../parts/Listed.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts, Panel } from "../../parts/Panel.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Segmented } from "../../parts/Segmented.tsx";
import { Empty, ErrorState, Loading, NotForYou } from "../../parts/states.tsx";
import { Time } from "../../parts/Time.tsx";
import { fullTime } from "../../parts/times.ts";
import styles from "./Notifications.module.css";

const words = messages.notifications;

type Status = Notification["status"];
type Shown = Status | "all";
const SHOWN: Shown[] = ["all", "pending", "delivered", "dead"];
const TONES: Record<Status, Tone> = { pending: "waiting", delivered: "good", dead: "bad" };

/** How soon the list is read anew while something of it is about to be sent, and else: milliseconds. */
const BUSY = 4_000;
const QUIET = 30_000;

const EXAMPLE = `[notify.pager]
url = "https://example.com/hooks/assent"
secrets = ["env:PAGER_SECRET"]`;

/** What people were told of approvals, and what could not be told. */
export default function NotificationsPage() {
  const me = useMe();
  if (!me.rights.includes("watch")) {
    return (
      <Page title={messages.layout.notifications}>
        <NotForYou>{words.forbidden}</NotForYou>
      </Page>
    );
  }
  return <Notifications />;
}

function Notifications() {
  const [address, change] = useAddress();
  const shown = SHOWN.find((each) => each === address.get("status")) ?? "all";
  const status = shown === "all" ? undefined : shown;
  const notifications = usePages(
    ["approvals", "notifications", status],
    (cursor) => assent.notifications.list({ status, limit: 50, cursor }),
    { every: (items) => (items.some((each) => each.status === "pending") ? BUSY : QUIET) },
  );
  return (
    <Page title={messages.layout.notifications} sub={words.sub}>
      <div className={styles.shown}>
        <Segmented
          label={words.shown}
          value={shown}
          options={SHOWN.map((value) => ({ value, label: words.statuses[value] }))}
          onChange={(next) => change({ status: next === "all" ? null : next })}
        />
      </div>
      <Listed pages={notifications} empty={status === undefined ? <Nothing /> : <NoneOf status={status} />}>
        {(items) => (
          <Panel flush>
            <ul aria-label={messages.layout.notifications}>
              {items.map((each) => (
                <Row key={each.notification_id} notification={each} />
              ))}
            </ul>
          </Panel>
        )}
      </Listed>
    </Page>
  );
}

function Nothing() {
  return (
    <Empty icon={<BellIcon />} title={words.empty}>
      <div className={styles.setup}>
        <p>{words.emptyHint}</p>
        <pre className={styles.example} tabIndex={0} aria-label={words.example}>
          {EXAMPLE}
        </pre>
        <p>{words.emptyMore}</p>
      </div>
    </Empty>
  );
}

function NoneOf({ status }: { status: Status }) {
  return (
    <Empty icon={<BellIcon />} title={words.none[status]}>
      {words.noneHint[status]}
    </Empty>
  );
}

function Row({ notification }: { notification: Notification }) {
  const me = useMe();
  const [open, setOpen] = useState(false);
  const id = `notification-${notification.notification_id}`;
  const { status, attempts } = notification;
  return (
    <li className={styles.row}>
      <div className={styles.line}>
        <button type="button" className={styles.open} aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
          <ChevronIcon />
          <span className={styles.what}>
            <span>
              <strong>
                <Marked text={notification.endpoint} />
              </strong>{" "}
              {wordOf(words.events, notification.event)}
            </span>
            <span className={styles.quiet}>
              <Time at={notification.created_at} />
              {" · "}
              {words.tries(attempts)}
              {status === "pending" && notification.next_at && attempts > 0 && (
                <>
                  {" · "}
                  {words.nextTry} <Time at={notification.next_at} />
                </>
              )}
            </span>
          </span>
        </button>
        <Badge tone={TONES[status]} dot>
          {words.statuses[status]}
        </Badge>
        {me.rights.includes("admin") && status !== "pending" && <Resend notification={notification} />}
      </div>
      {notification.last_error && status !== "delivered" && (
        <p className={styles.failed}>
          <Marked text={notification.last_error} />
        </p>
      )}
      <div id={id} hidden={!open} className={styles.details}>
        {open && <Details notification={notification} />}
      </div>
    </li>
  );
}

function Resend({ notification }: { notification: Notification }) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  const resend = useMutation({
    mutationFn: () => assent.notifications.resend(notification.notification_id),
    onSuccess: () => {
      announce(words.sentAgain);
      return queries.invalidateQueries({ queryKey: ["approvals", "notifications"] });
    },
  });
  return (
    <span className={styles.resend}>
      <Button small busy={resend.isPending} onClick={() => resend.mutate()} aria-label={words.resendTo(notification.endpoint)}>
        {!resend.isPending && <RetryIcon />}
        {words.resend}
      </Button>
      {resend.isError && (
        <span className={styles.error} role="alert">
          {sentenceOf(resend.error)}
        </span>
      )}
    </span>
  );
}

function Details({ notification }: { notification: Notification }) {
  const { notification_id: id, approval_id: approval, thread_id: thread, run_id: run } = notification;
  const whole = useQuery({
    queryKey: ["notification", id],
    queryFn: ({ signal }) => assent.notifications.get(id, { signal }),
  });
  return (
    <Facts
      of={[
        [words.id, <code>{id}</code>],
        [words.approval, approval && <Link href={`/approvals/${approval}`}>{approval}</Link>],
        [words.thread, thread && <Link href={`/chat/${thread}`}>{thread}</Link>],
        [words.run, run && <Link href={`/runs/${run}`}>{run}</Link>],
        [words.created, fullTime(notification.created_at)],
        [words.delivered, notification.delivered_at && fullTime(notification.delivered_at)],
        [words.lastError, notification.last_error && <Marked text={notification.last_error} />],
        [words.data, <Data whole={whole} />],
      ]}
    />
  );
}

function Data({ whole }: { whole: { data?: { data: unknown } | undefined; error: unknown; isPending: boolean } }) {
  if (whole.data) return <Json value={whole.data.data} depth={1} />;
  return whole.isPending ? <Loading lines={2} /> : <ErrorState error={whole.error} />;
}
