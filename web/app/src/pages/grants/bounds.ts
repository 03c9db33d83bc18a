/** What the arguments of a tool may be, as it is chosen in the form. */

import { isObject } from "@assent/client";
import { messages } from "../../messages/en.ts";
import type { Bound } from "./words.ts";

const words = messages.grants;

export interface Argument {
  name: string;
  type: "number" | "integer" | "text" | "boolean" | "other";
  isRequired: boolean;
}

/** `none`: the call must be without it. */
export type Kind = "range" | "among" | "any" | "none";

export interface Draft {
  kind: Kind;
  min: string;
  max: string;
  /** One a line. */
  values: string;
}

const TYPES: Record<string, Argument["type"]> = {
  number: "number",
  integer: "integer",
  string: "text",
  boolean: "boolean",
};

/** The type of a schema; of a choice between one and null, that one. */
function typeOf(schema: unknown): Argument["type"] {
  if (!isObject(schema)) return "other";
  const { type, anyOf } = schema;
  if (typeof type === "string") return TYPES[type] ?? "other";
  const others = Array.isArray(anyOf) ? anyOf.filter((each) => !(isObject(each) && each["type"] === "null")) : [];
  return others.length === 1 ? typeOf(others[0]) : "other";
}

/** The arguments that a tool takes, from the JSON Schema of them. */
export function argumentsOf(schema: unknown): Argument[] {
  if (!isObject(schema) || !isObject(schema["properties"])) return [];
  const required: readonly unknown[] = Array.isArray(schema["required"]) ? schema["required"] : [];
  return Object.entries(schema["properties"]).map(([name, each]) => ({
    name,
    type: typeOf(each),
    isRequired: required.includes(name),
  }));
}

/** What can be chosen for an argument. */
export function kindsOf({ type, isRequired }: Argument): Kind[] {
  const isNumber = type === "number" || type === "integer";
  return [...(isNumber ? (["range"] as const) : []), "among", "any", ...(isRequired ? [] : (["none"] as const))];
}

/** What stands there first: never "anything". */
export function draftOf(argument: Argument): Draft {
  const kind = argument.isRequired ? (kindsOf(argument)[0] ?? "among") : "none";
  return { kind, min: "", max: "", values: "" };
}

type Read = { bound: Bound | null; error: string | null };

/** The bound that is chosen, null for none; or what is wrong with it. */
export function boundOf(argument: Argument, { kind, min, max, values }: Draft): Read {
  switch (kind) {
    case "none":
      return { bound: null, error: null };
    case "any":
      return { bound: { any: true }, error: null };
    case "range":
      return rangeOf(argument, min.trim(), max.trim());
    case "among":
      return amongOf(argument, values);
  }
}

function rangeOf({ type }: Argument, min: string, max: string): Read {
  const isRight = (text: string) => text === "" || (type === "integer" ? /^-?\d+$/ : /^-?\d+(\.\d+)?$/).test(text);
  if (!isRight(min) || !isRight(max)) return { bound: null, error: type === "integer" ? words.wholeNumber : words.aNumber };
  if (min === "" && max === "") return { bound: null, error: words.oneLimit };
  if (min !== "" && max !== "" && Number(min) > Number(max)) return { bound: null, error: words.turned };
  return { bound: { ...(min !== "" && { min: Number(min) }), ...(max !== "" && { max: Number(max) }), any: false }, error: null };
}

function amongOf({ type }: Argument, values: string): Read {
  const lines = values.split("\n").filter((line) => line !== "");
  if (lines.length === 0) return { bound: null, error: words.oneValue };
  if (type === "text") return { bound: { among: lines, any: false }, error: null };
  const among: unknown[] = [];
  for (const line of lines) {
    try {
      among.push(JSON.parse(line));
    } catch {
      return { bound: null, error: words.noJson(line) };
    }
  }
  return { bound: { among, any: false }, error: null };
}
