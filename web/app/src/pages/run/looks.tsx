/** How the rows of a timeline look, and what they are called. */

import type { ReactNode } from "react";
import { messages } from "../../messages/en.ts";
import type { Tone } from "../../parts/Badge.tsx";
import { GraphIcon, PersonIcon, RunsIcon, SearchIcon, SparkIcon, ToolIcon, WarningIcon } from "../../parts/icons.tsx";
import { toneOfApproval, toneOfRun } from "../../parts/statuses.tsx";
import type { Row } from "./waterfall.ts";

const words = messages.run;

export interface Look {
  icon: ReactNode;
  tone: Tone;
  /** How it stands, in a word. */
  word: string;
}

const SPAN_ICONS = { node: <GraphIcon />, model: <SparkIcon />, tool: <ToolIcon />, retriever: <SearchIcon /> };

const SPAN_TONES: Record<string, Tone> = {
  running: "active",
  done: "good",
  failed: "bad",
  paused: "waiting",
  cut_off: "bad",
  stopped: "neutral",
  unknown: "bad",
};

export function lookOf(row: Row): Look {
  switch (row.kind) {
    case "span": {
      const { kind, status } = row.span;
      return { icon: SPAN_ICONS[kind], tone: SPAN_TONES[status] ?? "neutral", word: words.spans[status] };
    }
    case "run": {
      const { status } = row.run;
      if (status === "interrupted" && row.isOver) {
        return { icon: <RunsIcon />, tone: "neutral", word: messages.status.paused };
      }
      return { icon: <RunsIcon />, tone: toneOfRun(status), word: messages.status.runs[status] };
    }
    case "wait": {
      const { status } = row.approval;
      return { icon: <PersonIcon />, tone: toneOfApproval(status), word: messages.status.approvals[status] };
    }
    case "crash":
      return { icon: <WarningIcon />, tone: "bad", word: words.crashed };
  }
}

/** What a row is about. */
export function titleOf(row: Row): string {
  switch (row.kind) {
    case "span":
      return row.span.kind === "model" ? row.span.name || words.model : row.span.name;
    case "run":
      return row.run.kind === "resume" ? words.wentOn : words.begun;
    case "wait":
      return words.waitedFor(row.approval.tool || row.approval.node || words.answer);
    case "crash":
      return words.crash;
  }
}
