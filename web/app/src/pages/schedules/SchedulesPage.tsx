import type { Schedule } from "@assent/client";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useLocation } from "wouter";
import { assent } from "../../assent.ts";
import { Page } from "../../layout/Page.tsx";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { wordOf } from "../../messages/word-of.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Badge } from "../../parts/Badge.tsx";
import { Button, IconButton } from "../../parts/Button.tsx";
import { Confirm } from "../../parts/Dialog.tsx";
import { Menu, type MenuItem } from "../../parts/Menu.tsx";
import { ChevronIcon, ClockIcon, CrossIcon, EditIcon, MoreIcon, PlusIcon, RetryIcon } from "../../parts/icons.tsx";
import { Json } from "../../parts/Json.tsx";
import { Listed, usePages } from "../../parts/Listed.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts, Panel } from "../../parts/Panel.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Empty, Loading, Notice } from "../../parts/states.tsx";
import { RunStatus } from "../../parts/statuses.tsx";
import { Switch } from "../../parts/Switch.tsx";
import { Time } from "../../parts/Time.tsx";
import { serverNow } from "../../parts/times.ts";
import { NextTimes } from "./NextTimes.tsx";
import { ScheduleForm } from "./ScheduleForm.tsx";
import styles from "./Schedules.module.css";
import { textOf, whenOf } from "./words.ts";

const words = messages.schedules;

/** How often the list is read anew, in milliseconds, if no run is due before that. */
const QUIET = 60_000;
const SOONEST = 2_000;

/** The milliseconds until a schedule's next run has begun: no feed tells of it. */
function untilNext(schedules: readonly Schedule[]): number {
  const due = schedules.flatMap(({ next_at }) => (next_at === null ? [] : Date.parse(next_at) - serverNow()));
  return Math.min(QUIET, Math.max(SOONEST, Math.min(...due) + SOONEST));
}

type Doing = { what: "run" | "delete"; schedule: Schedule } | null;

/** What runs by itself, and when. */
export default function SchedulesPage() {
  const me = useMe();
  const [form, setForm] = useState<{ schedule: Schedule | null } | null>(null);
  const [doing, setDoing] = useState<Doing>(null);
  const schedules = usePages(["schedules"], (cursor) => assent.schedules.list({ limit: 30, cursor }), {
    every: untilNext,
  });
  const mayRun = me.rights.includes("run");
  const add = mayRun && (
    <Button look="primary" onClick={() => setForm({ schedule: null })}>
      <PlusIcon />
      {words.add}
    </Button>
  );
  return (
    <Page title={messages.layout.schedules} sub={words.sub} actions={add}>
      <Listed
        pages={schedules}
        empty={
          <Empty icon={<ClockIcon />} title={words.empty}>
            {words.emptyHint}
          </Empty>
        }
      >
        {(items) => (
          <Panel flush>
            <ul>
              {items.map((schedule) => (
                <Row
                  key={schedule.schedule_id}
                  schedule={schedule}
                  onEdit={() => setForm({ schedule })}
                  onRun={() => setDoing({ what: "run", schedule })}
                  onDelete={() => setDoing({ what: "delete", schedule })}
                />
              ))}
            </ul>
          </Panel>
        )}
      </Listed>
      {form && <ScheduleForm schedule={form.schedule} onClose={() => setForm(null)} />}
      <Ask doing={doing} onClose={() => setDoing(null)} />
    </Page>
  );
}

// ── one schedule ─────────────────────────────────────────────────────────────────────────────────

interface RowProps {
  schedule: Schedule;
  onEdit: () => void;
  onRun: () => void;
  onDelete: () => void;
}

function Row({ schedule, onEdit, onRun, onDelete }: RowProps) {
  const me = useMe();
  const [open, setOpen] = useState(false);
  const id = `schedule-${schedule.schedule_id}`;
  const mayRun = me.rights.includes("run");
  const items: MenuItem[] = [
    ...(mayRun ? [{ label: words.runNow, icon: <RetryIcon />, onSelect: onRun }] : []),
    ...(mayRun ? [{ label: words.edit, icon: <EditIcon />, onSelect: onEdit }] : []),
    ...(me.rights.includes("stop") ? [{ label: words.remove, icon: <CrossIcon />, bad: true, onSelect: onDelete }] : []),
  ];
  const text = textOf(schedule);
  return (
    <li className={styles.row}>
      <div className={styles.line}>
        <button type="button" className={styles.open} aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
          <ChevronIcon />
          <span className={styles.what}>
            <span className={styles.text}>{text === null ? words.input : <Marked text={text} />}</span>
            <span className={styles.when}>{whenOf(schedule.cron, schedule.timezone)}</span>
          </span>
        </button>
        <div className={styles.state}>
          <Next schedule={schedule} />
          <LastRun schedule={schedule} />
        </div>
        <OnOff schedule={schedule} disabled={!mayRun} />
        {items.length > 0 && (
          <Menu
            label={words.actions}
            items={items}
            trigger={
              <IconButton label={words.actionsOf(text ?? schedule.cron)}>
                <MoreIcon />
              </IconButton>
            }
          />
        )}
      </div>
      {schedule.last_error && (
        <Notice tone="waiting">
          {words.noRun} <Marked text={schedule.last_error} />
        </Notice>
      )}
      <div id={id} hidden={!open} className={styles.details}>
        {open && <Details schedule={schedule} />}
      </div>
    </li>
  );
}

function Next({ schedule }: { schedule: Schedule }) {
  if (!schedule.enabled) return <Badge>{words.off}</Badge>;
  if (schedule.next_at === null) return <Badge>{words.over}</Badge>;
  return (
    <span>
      {words.next} <Time at={schedule.next_at} />
    </span>
  );
}

function LastRun({ schedule }: { schedule: Schedule }) {
  const { last_run_id: id, last_at: at } = schedule;
  const run = useQuery({
    queryKey: ["runs", id],
    queryFn: ({ signal }) => assent.runs.get(id ?? "", { signal }),
    enabled: id !== null,
    // A run that is not over changes by itself.
    refetchInterval: ({ state }) => (state.data && state.data.ended_at === null ? 3_000 : false),
  });
  if (id === null) return <span className={styles.quiet}>{words.neverRan}</span>;
  return (
    <span className={styles.last}>
      <Link href={`/runs/${id}`}>
        {words.last} {at && <Time at={at} />}
      </Link>
      {run.data && <RunStatus status={run.data.status} />}
    </span>
  );
}

function OnOff({ schedule, disabled }: { schedule: Schedule; disabled: boolean }) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  const change = useMutation({
    mutationFn: (enabled: boolean) => assent.schedules.change(schedule.schedule_id, { enabled }),
    onSuccess: ({ enabled }) => {
      announce(enabled ? words.isOn : words.isOff);
      return queries.invalidateQueries({ queryKey: ["schedules"] });
    },
  });
  return (
    <span className={styles.onOff}>
      <Switch
        label={words.onOff(textOf(schedule) ?? schedule.cron)}
        on={change.isPending ? change.variables : schedule.enabled}
        busy={change.isPending}
        disabled={disabled}
        onChange={(on) => change.mutate(on)}
      />
      {change.isError && (
        <span className={styles.error} role="alert">
          {sentenceOf(change.error)}
        </span>
      )}
    </span>
  );
}

function Details({ schedule }: { schedule: Schedule }) {
  const whole = useQuery({
    queryKey: ["schedules", schedule.schedule_id, schedule.next_at, schedule.cron, schedule.timezone],
    queryFn: ({ signal }) => assent.schedules.get(schedule.schedule_id, { signal }),
  });
  const text = textOf(schedule);
  const hasBudget = Object.values(schedule.budget).some((limit) => limit !== null);
  return (
    <div className={styles.columns}>
      <section>
        <h2 className={styles.heading}>{words.nextTimes}</h2>
        {!schedule.enabled && <p className={styles.quiet}>{words.isOffHint}</p>}
        {whole.isPending && <Loading lines={3} />}
        {whole.isError && <Notice tone="bad">{sentenceOf(whole.error)}</Notice>}
        {whole.data && schedule.enabled && <NextTimes times={whole.data.next_times} timezone={schedule.timezone} />}
      </section>
      <Facts
        of={[
          [words.says, text !== null && <Marked text={text} lines />],
          [words.input, text === null && <Json value={schedule.input ?? schedule.message} depth={1} />],
          [words.agent, <code>{schedule.agent}</code>],
          [words.cron, <code>{schedule.cron}</code>],
          [words.thread, schedule.thread_id ? <code>{schedule.thread_id}</code> : words.newThread],
          [words.onBusy, schedule.thread_id !== null && wordOf(words.busy, schedule.on_busy)],
          [words.ifMissed, wordOf(words.missed, schedule.if_missed)],
          [words.endsAt, schedule.ends_at && <Time at={schedule.ends_at} />],
          [words.budget, hasBudget && <Json value={schedule.budget} depth={1} />],
          [words.owner, <Marked text={schedule.owner} />],
          [words.changedBy, schedule.requested_by.length > 1 && <Marked text={schedule.requested_by.join(", ")} />],
        ]}
      />
    </div>
  );
}

// ── what is asked before it is done ──────────────────────────────────────────────────────────────

function Ask({ doing, onClose }: { doing: Doing; onClose: () => void }) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  const [, go] = useLocation();
  const act = useMutation({
    mutationFn: async ({ what, schedule }: NonNullable<Doing>) => {
      if (what === "run") return (await assent.schedules.runNow(schedule.schedule_id)).run_id;
      await assent.schedules.delete(schedule.schedule_id);
      return null;
    },
    onSuccess: (runId) => {
      void queries.invalidateQueries({ queryKey: ["schedules"] });
      announce(runId === null ? words.removed : words.started);
      onClose();
      if (runId !== null) go(`/runs/${runId}`);
    },
  });
  const what = doing?.what ?? "run";
  return (
    <Confirm
      open={doing !== null}
      onOpenChange={(open) => {
        if (!open) onClose();
        act.reset();
      }}
      title={words.ask[what].title}
      verb={words.ask[what].verb}
      look={what === "run" ? "primary" : "dangerStrong"}
      busy={act.isPending}
      onConfirm={() => doing && act.mutate(doing)}
    >
      <div className={styles.asked}>
        {doing && (
          <p>
            <strong>
              <Marked text={textOf(doing.schedule) ?? doing.schedule.cron} lines />
            </strong>
          </p>
        )}
        <p>{words.ask[what].hint}</p>
        {act.isError && (
          <Notice tone="bad" urgent>
            {sentenceOf(act.error)}
          </Notice>
        )}
      </div>
    </Confirm>
  );
}
