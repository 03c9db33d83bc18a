/** What an approval asks, in words and in values: what its card, its row and its title share. */

import { type Approval, isObject, type JsonObject } from "@assent/client";
import { messages } from "../../messages/en.ts";
import { number } from "../../parts/times.ts";

const words = messages.approval;

/** The object, or null if the value is none. */
export function objectOf(value: unknown): JsonObject | null {
  return isObject(value) ? value : null;
}

/** A sentence in three parts, of which the one in the middle is a name. */
export interface Sentence {
  before: string;
  name: string;
  after: string;
}

/** The name that a row begins with: the tool's, the node's, or what kind of question it is. */
export function nameOf(approval: Approval): string {
  if (approval.kind === "input") return words.kinds.input;
  if (approval.kind === "budget") return words.kinds.budget;
  return approval.tool || approval.node;
}

/** What is asked, in one sentence. */
export function sentenceFor(approval: Approval): Sentence {
  const agent = approval.agent || words.theAgent;
  const name = nameOf(approval);
  switch (approval.kind) {
    case "tool":
      return { before: words.wantsToCall(agent), name, after: "" };
    case "node":
      return { before: words.wantsToGoOn(agent), name, after: "" };
    case "unknown_outcome":
      return { before: "", name, after: words.didItHappen };
    case "budget":
      return { before: words.wantsMore(agent), name: budgetOf(approval), after: "?" };
    default:
      return { before: words.asks(agent), name: "", after: "" };
  }
}

/** What a budget counts, in words. */
export function unitOf(budget: string): string {
  const units: Record<string, string> = messages.budgets;
  return units[budget] ?? budget.replaceAll("_", " ");
}

function budgetOf(approval: Approval): string {
  const budget = objectOf(approval.args)?.["budget"];
  return typeof budget === "string" ? unitOf(budget) : words.kinds.budget;
}

const holders: Record<string, string> = words.budget.holders;

/** What must be known before it is decided, of the kinds whose arguments do not say it. */
export function situationOf(approval: Approval): string | null {
  if (approval.kind === "unknown_outcome") return words.cutOff(nameOf(approval));
  if (approval.kind !== "budget") return null;
  const scope = objectOf(approval.args)?.["scope"];
  const { used, limit, per } = objectOf(approval.preview) ?? {};
  if (typeof used !== "number" || typeof limit !== "number") return null;
  const holder = holders[typeof scope === "string" ? scope : ""] ?? words.theAgent;
  const within = typeof per === "string" ? per : null;
  return words.budget.used(holder, number(used), number(limit), budgetOf(approval), within);
}

/** The limit that an approval of a budget sets, as it is read. */
export function limitOf(approval: Approval): string {
  const limit = objectOf(approval.args)?.["limit"];
  return typeof limit === "number" ? number(limit) : "";
}

/** The sentence as one text. */
export function titleOf(approval: Approval): string {
  const { before, name, after } = sentenceFor(approval);
  return `${before} ${name}${after}`.trim();
}

/** The words of a question that a graph asked, null if they cannot be told from its value. */
export function promptOf(approval: Approval): string | null {
  if (approval.kind !== "input") return null;
  if (typeof approval.args === "string") return approval.args;
  const asked = objectOf(approval.args);
  for (const field of ["prompt", "question", "message", "text", "title"]) {
    const text = asked?.[field];
    if (typeof text === "string" && text.trim() !== "") return text;
  }
  return null;
}

/** The answers of which one is to be chosen, null if there are no such. */
export function choicesOf(approval: Approval): string[] | null {
  if (approval.kind !== "input") return null;
  const offered = objectOf(approval.schema)?.["enum"];
  if (!Array.isArray(offered) || offered.length === 0 || offered.length > MOST_CHOICES) return null;
  const texts = offered.filter((each) => typeof each === "string");
  return texts.length === offered.length ? texts : null;
}

const MOST_CHOICES = 12;

/** Fields of a question that are shown by themselves, or stand in its schema. */
const TOLD = ["prompt", "question", "choices", "schema", "response_schema"];

/** What is left of a question's value beside its words and its form. */
export function restOf(approval: Approval): unknown {
  const asked = objectOf(approval.args);
  if (asked === null || promptOf(approval) === null) {
    return promptOf(approval) === null ? approval.args : null;
  }
  const prompt = promptOf(approval);
  const rest = Object.entries(asked).filter(
    ([name, value]) => !TOLD.includes(name) && value !== prompt,
  );
  return rest.length === 0 ? null : Object.fromEntries(rest);
}

const GIST_LENGTH = 160;
const GIST_FIELDS = 6;

function shortValue(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.length > GIST_LENGTH ? `${text.slice(0, GIST_LENGTH)}…` : text;
}

/** One line of what is asked, for a list: not all of it. */
export function gistOf(approval: Approval): string {
  const prompt = promptOf(approval);
  if (prompt !== null) return shortValue(prompt);
  const args = objectOf(approval.args);
  if (args === null) return approval.args === null ? "" : shortValue(approval.args);
  const fields = Object.entries(args);
  const parts = fields.slice(0, GIST_FIELDS).map(([name, value]) => `${name}: ${shortValue(value)}`);
  const gist = parts.join(" · ");
  const isCut = fields.length > GIST_FIELDS || gist.length > 2 * GIST_LENGTH;
  return isCut ? `${gist.slice(0, 2 * GIST_LENGTH)} …` : gist;
}

/** Votes that count for what is asked now and say the same as most of them. */
export function agreeing(approval: Approval): number {
  const counts = new Map<string, number>();
  for (const vote of approval.votes) {
    if (vote.digest !== approval.digest) continue;
    const answer = vote.decision.type === "respond" ? vote.decision.message : null;
    const meaning = JSON.stringify([vote.decision.type === "edit" ? "approve" : vote.decision.type, answer]);
    counts.set(meaning, (counts.get(meaning) ?? 0) + 1);
  }
  return Math.max(0, ...counts.values());
}

/** True if a second look is taken before it is agreed to. */
export function isRisky(risk: string): boolean {
  return risk !== "low" && risk !== "medium";
}
