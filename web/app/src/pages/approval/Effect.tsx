/** What a call would change, as its tool's policy shows it: tables where it is one, else JSON. */

import { type ReactNode, useState } from "react";
import { messages } from "../../messages/en.ts";
import { Button } from "../../parts/Button.tsx";
import { Json } from "../../parts/Json.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Facts } from "../../parts/Panel.tsx";
import { Notice } from "../../parts/states.tsx";
import { number } from "../../parts/times.ts";
import styles from "./ApprovalCard.module.css";
import { objectOf } from "./question.ts";

const words = messages.approval;

type Row = Record<string, unknown>;

/** Rows of a table that are shown before one asks for more. */
const ROWS = 10;
const COLUMNS = 16;

/** The rows, if the value is a list of objects. */
function rowsOf(value: unknown): Row[] | null {
  if (!Array.isArray(value) || value.length === 0) return null;
  const rows = value.map(objectOf).filter((row) => row !== null);
  const columns = new Set(rows.flatMap((row) => Object.keys(row)));
  return rows.length === value.length && columns.size <= COLUMNS ? rows : null;
}

function Cell({ value }: { value: unknown }) {
  if (typeof value === "string") return <Marked text={value} />;
  if (typeof value === "number") return <span className={styles.figure}>{String(value)}</span>;
  if (value === undefined) return <span className={styles.quiet}>–</span>;
  return <Json value={value} depth={0} />;
}

/** What the row has under this name itself: nothing that every object has, such as a constructor. */
function fieldOf(row: Row, name: string): unknown {
  return Object.hasOwn(row, name) ? row[name] : undefined;
}

function Table({ name, rows, all }: { name: string; rows: Row[]; all: number | null }) {
  const [count, setCount] = useState(ROWS);
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const isFigures = (column: string) => rows.every((row) => typeof fieldOf(row, column) === "number");
  const left = rows.length - count;
  const caption = all === null ? name : `${name}: ${words.effectRows(number(rows.length), number(all))}`;
  return (
    <div className={styles.effectTable}>
      <p className={styles.caption}>
        <Marked text={caption} />
      </p>
      {/* It is wider than a phone, and scrolls by itself. */}
      <div className={styles.scroll} tabIndex={0} role="group" aria-label={caption}>
        <table className={styles.grid}>
          <thead>
            <tr>
              {columns.map((column) => (
                <th key={column} scope="col" className={isFigures(column) ? styles.right : undefined}>
                  <Marked text={column} />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, count).map((row, place) => (
              <tr key={place}>
                {columns.map((column) => (
                  <td key={column} className={isFigures(column) ? styles.right : undefined}>
                    <Cell value={fieldOf(row, column)} />
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {left > 0 && (
        <Button small look="quiet" onClick={() => setCount(rows.length)}>
          {words.effectMore(number(left))}
        </Button>
      )}
    </div>
  );
}

/** A thing before and after: what changes stands first and is lit. */
function Change({ before, after }: { before: Row; after: Row }) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const changes = (name: string) => JSON.stringify(fieldOf(before, name)) !== JSON.stringify(fieldOf(after, name));
  const sorted = [...names.filter(changes), ...names.filter((name) => !changes(name))];
  return (
    <div className={styles.scroll} tabIndex={0} role="group" aria-label={words.effect}>
      <table className={styles.grid}>
        <thead>
          <tr>
            <th scope="col">{words.effectField}</th>
            <th scope="col">{words.effectBefore}</th>
            <th scope="col">{words.effectAfter}</th>
          </tr>
        </thead>
        <tbody>
          {sorted.map((name) => (
            <tr key={name} className={changes(name) ? styles.isChanged : styles.isSame}>
              <th scope="row">
                <Marked text={name} />
              </th>
              <td>
                <Cell value={fieldOf(before, name)} />
              </td>
              <td>
                <Cell value={fieldOf(after, name)} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** How many there are in all, if a field beside a list of rows says so. */
function totalIn(fields: Row): number | null {
  for (const name of ["records", "rows", "total", "count", "found"]) {
    const count = fields[name];
    if (typeof count === "number") return count;
  }
  return null;
}

function Fields({ fields }: { fields: Row }) {
  const before = objectOf(fields["before"]);
  const after = objectOf(fields["after"]);
  const facts: [string, ReactNode][] = [];
  const tables: ReactNode[] = [];
  for (const [name, value] of Object.entries(fields)) {
    if (before !== null && after !== null && (name === "before" || name === "after")) continue;
    const rows = rowsOf(value);
    if (rows !== null) {
      tables.push(<Table key={name} name={name} rows={rows} all={totalIn(fields)} />);
    } else if (name === "sql" && typeof value === "string") {
      facts.push([name, <code key={name} className={styles.sql}><Marked text={value} lines /></code>]);
    } else {
      facts.push([name, <Json key={name} value={value} depth={2} />]);
    }
  }
  return (
    <>
      {facts.length > 0 && <Facts of={facts} />}
      {before !== null && after !== null && <Change before={before} after={after} />}
      {tables}
    </>
  );
}

const SENTENCES = new Set(["unavailable", "problem", "description"]);

/** The effect of a call, or why it is not known. */
export function Effect({ preview }: { preview: unknown }) {
  if (typeof preview === "string") {
    return (
      <p className={styles.words}>
        <Marked text={preview} lines />
      </p>
    );
  }
  const rows = rowsOf(preview);
  if (rows !== null) return <Table name={words.effect} rows={rows} all={null} />;
  const fields = objectOf(preview);
  if (fields === null) return <Json value={preview} />;
  const { unavailable, problem, description } = fields;
  // Those three are sentences; what else has such a name is shown as any other field.
  const others = Object.fromEntries(
    Object.entries(fields).filter(([name, value]) => !SENTENCES.has(name) || typeof value !== "string"),
  );
  return (
    <div className={styles.effect}>
      {typeof unavailable === "string" && (
        <Notice tone="waiting">
          <Marked text={unavailable} lines />
        </Notice>
      )}
      {typeof problem === "string" && (
        <Notice tone="waiting">
          {words.askedAgain} <Marked text={problem} lines />
        </Notice>
      )}
      {typeof description === "string" && (
        <p className={styles.words}>
          <Marked text={description} lines />
        </p>
      )}
      {Object.keys(others).length > 0 && <Fields fields={others} />}
    </div>
  );
}
