/** The audit chain as a file, row by row as the server has it. */

import type { AuditRecord } from "@assent/client";

export type Format = "jsonl" | "csv";

const COLUMNS = [
  ...(["number", "at", "action", "actor", "authentication", "thread_id", "approval_id", "run_id"] as const),
  ...(["digest", "policy", "detail", "key", "mac", "tenant"] as const),
] satisfies readonly (keyof AuditRecord)[];

/** A cell that no spreadsheet takes for a formula, whoever chose its text. */
function cell(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  const plain = /^[=+\-@\t\r]/.test(text) && typeof value === "string" ? `'${text}` : text;
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

export function textOf(records: readonly AuditRecord[], format: Format): string {
  if (format === "jsonl") return records.map((record) => `${JSON.stringify(record)}\n`).join("");
  const rows = records.map((record) => COLUMNS.map((name) => cell(record[name])).join(","));
  return [COLUMNS.join(","), ...rows].map((row) => `${row}\r\n`).join("");
}

const TYPES: Record<Format, string> = { jsonl: "application/jsonl", csv: "text/csv" };

/** The text as a file of this format. */
export function fileOf(text: string, format: Format): Blob {
  return new Blob([text], { type: TYPES[format] });
}
