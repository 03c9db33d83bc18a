import type { AuditRecord } from "@assent/client";
import { useRef, useState } from "react";
import { Link } from "wouter";
import { assent } from "../../assent.ts";
import { Page } from "../../layout/Page.tsx";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { wordOf } from "../../messages/word-of.ts";
import { Badge, type Tone } from "../../parts/Badge.tsx";
import { Button } from "../../parts/Button.tsx";
import { Copy } from "../../parts/Copy.tsx";
import { Menu } from "../../parts/Menu.tsx";
import { SelectField, TextField } from "../../parts/Field.tsx";
import { ChevronIcon, DownloadIcon, ShieldIcon } from "../../parts/icons.tsx";
import { Json } from "../../parts/Json.tsx";
import { Listed, usePages } from "../../parts/Listed.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts, Panel } from "../../parts/Panel.tsx";
import { sentenceOf } from "../../parts/problems.ts";
import { save } from "../../parts/save.ts";
import { Empty, NotForYou, Notice } from "../../parts/states.tsx";
import { Time } from "../../parts/Time.tsx";
import { fullTime, number, zone } from "../../parts/times.ts";
import styles from "./Audit.module.css";
import { Chain } from "./Chain.tsx";
import { fileOf, type Format, textOf } from "./download.ts";
import { ACTIONS, type Filters, type Name, NAMES, queryOf, useFilters } from "./filters.ts";

const words = messages.audit;

const TONES: Partial<Record<AuditRecord["action"], Tone>> = {
  asked: "waiting",
  decided: "good",
  granted: "active",
  edited: "active",
  state_written: "active",
  refused: "bad",
  revoked: "bad",
  expired: "bad",
  erased: "bad",
  auth_failed: "bad",
  key_revoked: "bad",
};

/** Who did what, and when, in a chain that shows if somebody has changed it. */
export default function AuditPage() {
  const me = useMe();
  if (!me.rights.includes("audit")) {
    return (
      <Page title={messages.layout.audit}>
        <NotForYou>{words.forbidden}</NotForYou>
      </Page>
    );
  }
  return <Audit />;
}

function Audit() {
  const [filters, change] = useFilters();
  const query = queryOf(filters);
  // Whatever happens to an approval is a row, and told by its feed.
  const records = usePages(["approvals", "audit", query], (cursor) =>
    assent.audit.list({ ...query, sort: "newest", limit: 50, cursor }),
  );
  const isFiltered = NAMES.some((name) => filters[name] !== "");
  const clear = () => change(Object.fromEntries(NAMES.map((name) => [name, ""])));
  return (
    <Page title={messages.layout.audit} sub={words.sub} actions={<Download filters={filters} />}>
      <Chain />
      <FilterFields filters={filters} change={change} onClear={isFiltered ? clear : undefined} />
      <Listed
        pages={records}
        empty={
          isFiltered ? (
            <Empty icon={<ShieldIcon />} title={words.noneFit} actions={<Button onClick={clear}>{words.clear}</Button>}>
              {words.noneFitHint}
            </Empty>
          ) : (
            <Empty icon={<ShieldIcon />} title={words.empty}>
              {words.emptyHint}
            </Empty>
          )
        }
      >
        {(items) => (
          <Panel flush>
            <ul aria-label={words.rows}>
              {items.map((record) => (
                <Row key={record.number} record={record} />
              ))}
            </ul>
          </Panel>
        )}
      </Listed>
      <p className={styles.quiet}>{messages.time.zone(zone)}</p>
    </Page>
  );
}

// ── what is shown ────────────────────────────────────────────────────────────────────────────────

interface FilterProps {
  filters: Filters;
  change: (change: Partial<Filters>) => void;
  onClear: (() => void) | undefined;
}

function FilterFields({ filters, change, onClear }: FilterProps) {
  const texts: Name[] = ["actor", "thread", "approval"];
  return (
    <div className={styles.filters} role="search" aria-label={words.filters}>
      <SelectField
        label={words.action}
        value={filters.action}
        options={[{ value: "", label: words.anyAction }, ...ACTIONS.map((value) => ({ value, label: words.actions[value] }))]}
        onChange={(event) => change({ action: event.target.value })}
      />
      {texts.map((name) => (
        <Typed key={name} label={words.by[name]} value={filters[name]} onCommit={(value) => change({ [name]: value })} />
      ))}
      <TextField label={words.by.since} type="date" value={filters.since} onChange={(event) => change({ since: event.target.value })} />
      <TextField label={words.by.until} type="date" value={filters.until} onChange={(event) => change({ until: event.target.value })} />
      {onClear && (
        <Button look="quiet" className={styles.clear} onClick={onClear}>
          {words.clear}
        </Button>
      )}
    </div>
  );
}

/** A text that counts once it is written: with Enter, or when the keyboard goes on. */
function Typed({ label, value, onCommit }: { label: string; value: string; onCommit: (value: string) => void }) {
  const [text, setText] = useState(value);
  const [shown, setShown] = useState(value);
  if (shown !== value) {
    // The address has changed under it, as by the way back.
    setShown(value);
    setText(value);
  }
  const commit = () => {
    if (text.trim() !== value) onCommit(text.trim());
  };
  return (
    <TextField
      label={label}
      value={text}
      autoComplete="off"
      spellCheck={false}
      onChange={(event) => setText(event.target.value)}
      onBlur={commit}
      onKeyDown={(event) => {
        if (event.key === "Enter") commit();
      }}
    />
  );
}

function Download({ filters }: { filters: Filters }) {
  const [count, setCount] = useState<number | null>(null);
  const [error, setError] = useState<string | null>(null);
  const stop = useRef<AbortController | null>(null);
  const load = async (format: Format) => {
    const controller = new AbortController();
    stop.current = controller;
    setError(null);
    setCount(0);
    try {
      const records: AuditRecord[] = [];
      const all = assent.audit.list({ ...queryOf(filters), sort: "oldest", limit: 1000 }, { signal: controller.signal });
      for await (const record of all) {
        records.push(record);
        if (records.length % 1000 === 0) setCount(records.length);
      }
      save(fileOf(textOf(records, format), format), `${words.fileName}.${format}`);
    } catch (problem) {
      if (!controller.signal.aborted) setError(sentenceOf(problem));
    } finally {
      setCount(null);
    }
  };
  if (count !== null) {
    return (
      <Button onClick={() => stop.current?.abort()}>
        {words.stop(number(count))}
      </Button>
    );
  }
  return (
    <>
      {error && <Notice tone="bad" urgent>{error}</Notice>}
      <Menu
        label={words.download}
        items={[
          { label: words.jsonl, onSelect: () => void load("jsonl") },
          { label: words.csv, onSelect: () => void load("csv") },
        ]}
        trigger={
          <Button>
            <DownloadIcon />
            {words.download}
          </Button>
        }
      />
    </>
  );
}

// ── one row ──────────────────────────────────────────────────────────────────────────────────────

function Row({ record }: { record: AuditRecord }) {
  const [open, setOpen] = useState(false);
  const id = `audit-${record.number}`;
  return (
    <li className={styles.row}>
      <button type="button" className={styles.open} aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
        <ChevronIcon />
        <span className={styles.number}>{number(record.number)}</span>
        <span className={styles.at}>
          <Time at={record.at} />
        </span>
        <span className={styles.action}>
          <Badge tone={TONES[record.action] ?? "neutral"}>{wordOf(words.actions, record.action)}</Badge>
        </span>
        <span className={styles.who}>
          {record.actor === "" ? <span className={styles.quiet}>{words.nobody}</span> : <Marked text={record.actor} />}
          <span className={styles.quiet}>{wordOf(words.ways, record.authentication)}</span>
        </span>
        <span className={styles.about}>{aboutOf(record)}</span>
      </button>
      <div id={id} hidden={!open} className={styles.details}>
        {open && <Details record={record} />}
      </div>
    </li>
  );
}

/** What the row is about, in short. */
function aboutOf({ detail, thread_id }: AuditRecord) {
  const { tool, decision } = detail;
  const parts = [decision, tool].filter((each) => typeof each === "string");
  return <Marked text={parts.length > 0 ? parts.join(" · ") : thread_id} />;
}

function Details({ record }: { record: AuditRecord }) {
  const { approval_id: approval, thread_id: thread, run_id: run } = record;
  return (
    <Facts
      of={[
        [words.at, fullTime(record.at)],
        [words.approval, approval && <Link href={`/approvals/${approval}`}>{approval}</Link>],
        [words.thread, thread && <Link href={`/chat/${thread}`}>{thread}</Link>],
        [words.run, run && <Link href={`/runs/${run}`}>{run}</Link>],
        [words.tenant, record.tenant],
        [words.detail, <Json value={record.detail} depth={2} />],
        [words.digest, record.digest && <Sum text={record.digest} label={words.copyDigest} />],
        [words.policy, record.policy && <Sum text={record.policy} label={words.copyPolicy} />],
        [words.key, <code>{record.key}</code>],
        [words.mac, <Sum text={record.mac} label={words.copyMac} />],
      ]}
    />
  );
}

function Sum({ text, label }: { text: string; label: string }) {
  return (
    <span className={styles.sum}>
      <code>{text}</code>
      <Copy text={text} label={label} />
    </span>
  );
}
