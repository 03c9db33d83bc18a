import { InvalidRequest, type Schedule, sleep } from "@assent/client";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId, useState } from "react";
import { assent } from "../../assent.ts";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Button } from "../../parts/Button.tsx";
import { Dialog } from "../../parts/Dialog.tsx";
import { SelectField, TextArea, TextField } from "../../parts/Field.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { Segmented } from "../../parts/Segmented.tsx";
import { Notice } from "../../parts/states.tsx";
import { zone } from "../../parts/times.ts";
import { cronOf, type Rhythm, rhythmOf } from "./cron.ts";
import { NextTimes } from "./NextTimes.tsx";
import styles from "./Schedules.module.css";
import { textOf, whenOf } from "./words.ts";

const words = messages.schedules;
const WEEK = [1, 2, 3, 4, 5, 6, 0];

type Every = Rhythm["every"] | "cron";

/** What is chosen, of each rhythm: what one of them does not need is kept for the others. */
interface Choice {
  every: Every;
  time: string;
  minute: string;
  days: readonly number[];
  date: string;
  cron: string;
}

function choiceOf(cron: string): Choice {
  const rhythm = rhythmOf(cron);
  const start: Choice = { every: "cron", time: "09:00", minute: "0", days: [1], date: "1", cron };
  if (rhythm === null) return start;
  if (rhythm.every === "hour") return { ...start, every: "hour", minute: String(rhythm.minute) };
  const two = (number: number) => String(number).padStart(2, "0");
  const timed = { ...start, every: rhythm.every, time: `${two(rhythm.hour)}:${two(rhythm.minute)}` };
  if (rhythm.every === "week") return { ...timed, days: rhythm.days };
  return rhythm.every === "month" ? { ...timed, date: String(rhythm.day) } : timed;
}

/** The expression of what is chosen; null as long as something of it is missing. */
function expressionOf({ every, time, minute, days, date, cron }: Choice): string | null {
  if (every === "cron") return cron.trim() || null;
  if (every === "hour") return cronOf({ every, minute: Number(minute) });
  const [, hours, minutes] = /^(\d\d):(\d\d)/.exec(time) ?? [];
  if (hours === undefined || minutes === undefined) return null;
  const at = { hour: Number(hours), minute: Number(minutes) };
  if (every === "week") return days.length > 0 ? cronOf({ every, days: WEEK.filter((day) => days.includes(day)), ...at }) : null;
  if (every === "month") return cronOf({ every, day: date === "last" ? "last" : Number(date), ...at });
  return cronOf({ every, ...at });
}

/** The sentence of a refusal, if it is about the field of this name. */
function saidOf(field: string, ...errors: unknown[]): string | null {
  const about = errors.find((error) => error instanceof InvalidRequest && error.detail.includes(`field '${field}'`));
  return about === undefined ? null : sentenceOf(about);
}

/** Makes a schedule, or changes one, and shows the next times of what is chosen. */
export function ScheduleForm({ schedule, onClose }: { schedule: Schedule | null; onClose: () => void }) {
  const queries = useQueryClient();
  const announce = useAnnounce();
  const form = useId();
  const agents = useQuery({ queryKey: ["agents"], queryFn: () => assent.agents.list() });
  const isText = schedule === null || textOf(schedule) !== null;
  const [choice, setChoice] = useState(() => choiceOf(schedule?.cron ?? "0 9 * * MON-FRI"));
  const [timezone, setTimezone] = useState(schedule?.timezone ?? zone);
  const [message, setMessage] = useState((schedule && textOf(schedule)) ?? "");
  const [agent, setAgent] = useState(schedule?.agent ?? "");
  const [thread, setThread] = useState(schedule?.thread_id ?? "");
  const [onBusy, setOnBusy] = useState<string>(schedule?.on_busy ?? "enqueue");
  const [ifMissed, setIfMissed] = useState<string>(schedule?.if_missed ?? "once");
  const [missing, setMissing] = useState(false);
  const cron = expressionOf(choice);

  const save = useMutation({
    mutationFn: async (expression: string) => {
      const fields = {
        cron: expression,
        timezone: timezone.trim(),
        ...(isText && { message: message.trim() }),
        ...(agent !== "" && { agent }),
        ...(thread.trim() !== "" && { thread_id: thread.trim() }),
        on_busy: chosen(onBusy, words.busy),
        if_missed: chosen(ifMissed, words.missed),
      };
      if (schedule === null) return assent.schedules.create({ ...fields, message: message.trim() });
      return assent.schedules.change(schedule.schedule_id, fields);
    },
    onSuccess: () => {
      void queries.invalidateQueries({ queryKey: ["schedules"] });
      announce(words.saved);
      onClose();
    },
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    const isWhole = cron !== null && (!isText || message.trim() !== "");
    setMissing(!isWhole);
    if (isWhole) save.mutate(cron);
  };
  const set = (change: Partial<Choice>) => {
    setChoice({ ...choice, ...change });
    // What was said of the one before is not of this one.
    save.reset();
  };
  const names = agents.data?.map((each) => each.agent) ?? [];
  const preview = usePreview(cron, timezone.trim());
  const ofCron = saidOf("cron", save.error, preview.error);
  const ofZone = saidOf("timezone", save.error, preview.error);
  const ofThread = saidOf("thread_id", save.error);
  const isOwnError = save.isError && !ofZone && !ofThread && !(ofCron && choice.every === "cron");
  const title = schedule === null ? words.add : words.edit;
  return (
    <Dialog
      open
      onOpenChange={(open) => {
        if (!open) onClose();
      }}
      title={title}
      actions={
        <>
          <Button onClick={onClose}>{messages.actions.cancel}</Button>
          <Button type="submit" form={form} look="primary" busy={save.isPending}>
            {schedule === null ? words.create : messages.actions.save}
          </Button>
        </>
      }
    >
      <form id={form} className={styles.form} onSubmit={send} noValidate>
        {isOwnError && (
          <Notice tone="bad" urgent>
            {sentenceOf(save.error)}
          </Notice>
        )}
        {isText ? (
          <TextArea
            label={words.message}
            hint={words.messageHint}
            value={message}
            rows={3}
            required
            error={missing && message.trim() === "" ? words.messageMissing : null}
            onChange={(event) => setMessage(event.target.value)}
          />
        ) : (
          <Notice>{words.inputHint}</Notice>
        )}
        {names.length > 1 && (
          <SelectField
            label={words.agent}
            value={agent || (names[0] ?? "")}
            options={names.map((name) => ({ value: name, label: name }))}
            onChange={(event) => setAgent(event.target.value)}
          />
        )}
        <RhythmFields choice={choice} set={set} missing={missing && cron === null} error={ofCron} />
        <TextField
          label={words.timezone}
          value={timezone}
          list={`${form}-zones`}
          autoComplete="off"
          spellCheck={false}
          error={ofZone}
          onChange={(event) => {
            setTimezone(event.target.value);
            save.reset();
          }}
        />
        <datalist id={`${form}-zones`}>
          {["UTC", ...Intl.supportedValuesOf("timeZone")].map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        <Preview preview={preview} cron={cron} timezone={timezone.trim()} isSaid={ofZone !== null || choice.every === "cron"} />
        <details className={styles.more} open={ofThread !== null || undefined}>
          <summary>{words.more}</summary>
          <div className={styles.form}>
            <TextField
              label={words.thread}
              hint={words.threadHint}
              value={thread}
              code
              autoComplete="off"
              error={ofThread}
              onChange={(event) => setThread(event.target.value)}
            />
            <SelectField
              label={words.onBusy}
              value={onBusy}
              options={Object.entries(words.busy).map(([value, label]) => ({ value, label }))}
              onChange={(event) => setOnBusy(event.target.value)}
            />
            <SelectField
              label={words.ifMissed}
              value={ifMissed}
              options={Object.entries(words.missed).map(([value, label]) => ({ value, label }))}
              onChange={(event) => setIfMissed(event.target.value)}
            />
          </div>
        </details>
      </form>
    </Dialog>
  );
}

/** The value, as one of those that have words. */
function chosen<Words extends object>(value: string, of: Words): keyof Words | undefined {
  const isOne = (name: string): name is keyof Words & string => name in of;
  return isOne(value) ? value : undefined;
}

// ── when ─────────────────────────────────────────────────────────────────────────────────────────

const RHYTHMS: Every[] = ["hour", "day", "weekday", "week", "month", "cron"];

interface RhythmProps {
  choice: Choice;
  set: (change: Partial<Choice>) => void;
  missing: boolean;
  /** Why the server does not take the expression. */
  error: string | null;
}

function RhythmFields({ choice, set, missing, error }: RhythmProps) {
  const { every } = choice;
  const choose = (next: Every) => {
    // The expression begins with what was chosen so far.
    const cron = expressionOf(choice);
    set(next === "cron" && cron !== null ? { every: next, cron } : { every: next });
  };
  return (
    <fieldset className={styles.form}>
      <legend className="sr-only">{words.when}</legend>
      <Segmented
        label={words.when}
        value={every}
        options={RHYTHMS.map((value) => ({ value, label: words.rhythms[value] }))}
        onChange={choose}
      />
      {every === "week" && (
        <div className={styles.days} role="group" aria-label={words.onDays}>
          {WEEK.map((day) => (
            <button
              key={day}
              type="button"
              className={styles.day}
              aria-pressed={choice.days.includes(day)}
              aria-label={words.days[day]}
              onClick={() =>
                set({ days: choice.days.includes(day) ? choice.days.filter((each) => each !== day) : [...choice.days, day] })
              }
            >
              {words.days[day]?.slice(0, 2)}
            </button>
          ))}
        </div>
      )}
      {every === "month" && (
        <SelectField
          label={words.date}
          value={choice.date}
          options={[
            ...Array.from({ length: 31 }, (_, place) => ({ value: String(place + 1), label: String(place + 1) })),
            { value: "last", label: words.lastDate },
          ]}
          onChange={(event) => set({ date: event.target.value })}
        />
      )}
      {every === "hour" && (
        <SelectField
          label={words.minute}
          value={choice.minute}
          options={Array.from({ length: 12 }, (_, place) => String(5 * place)).map((value) => ({ value, label: `:${value.padStart(2, "0")}` }))}
          onChange={(event) => set({ minute: event.target.value })}
        />
      )}
      {every === "cron" ? (
        <TextField
          label={words.cron}
          hint={words.cronHint}
          value={choice.cron}
          code
          spellCheck={false}
          autoComplete="off"
          error={missing ? words.cronMissing : error}
          onChange={(event) => set({ cron: event.target.value })}
        />
      ) : (
        every !== "hour" && (
          <TextField
            label={words.time}
            type="time"
            value={choice.time}
            error={missing ? words.timeMissing : null}
            onChange={(event) => set({ time: event.target.value })}
          />
        )
      )}
    </fieldset>
  );
}

/** The next times of what is chosen, which the server counts. */
function usePreview(cron: string | null, timezone: string) {
  return useQuery({
    queryKey: ["schedule-preview", cron, timezone],
    queryFn: async ({ signal }) => {
      // Of what is typed, only what stays for a moment is asked for.
      await sleep(250, signal);
      signal.throwIfAborted();
      return assent.schedules.preview({ cron: cron ?? "", timezone }, { signal });
    },
    enabled: cron !== null && timezone !== "",
    staleTime: 30_000,
  });
}

interface PreviewProps {
  preview: ReturnType<typeof usePreview>;
  cron: string | null;
  timezone: string;
  /** What is wrong stands at its field. */
  isSaid: boolean;
}

/** What is chosen, in a sentence, and its next times; or why there are none. */
function Preview({ preview, cron, timezone, isSaid }: PreviewProps) {
  if (cron === null || (preview.isError && isSaid)) return null;
  return (
    <section className={styles.preview} aria-label={words.nextTimes} aria-live="polite">
      {preview.isError ? (
        <p className={styles.error}>{sentenceOf(preview.error)}</p>
      ) : (
        <>
          <p className={styles.sentence}>{whenOf(cron, timezone)}</p>
          {preview.data ? <NextTimes times={preview.data} timezone={timezone} /> : <p className={styles.quiet}>{messages.states.loading} …</p>}
        </>
      )}
    </section>
  );
}
