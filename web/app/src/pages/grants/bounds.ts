/** What the arguments of a tool may be, as it is chosen in the form. */

import { isObject, type Json } from "@assent/client";
import { messages } from "../../messages/en.ts";
import type { Bound } from "./words.ts";

const words = messages.grants;

export interface Argument {
  name: string;
  type: "number" | "integer" | "text" | "boolean" | "other";
  isRequired: boolean;
  /** All values that it may have, if they are listed. */
  choices: readonly Json[] | null;
}

/** `none`: the call must be without it. */
export type Kind = "range" | "among" | "any" | "none";

export interface Draft {
  kind: Kind;
  min: string;
  max: string;
  /** One a line. */
  values: string;
  /** Of the argument's choices those that are picked, by their JSON. */
  picked: readonly string[];
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

/** The values of which a schema takes one; of a choice between some and null, those. */
function choicesOf(schema: unknown, whole: unknown): readonly Json[] | null {
  if (!isObject(schema)) return null;
  const { anyOf, $ref: ref } = schema;
  if (typeof ref === "string" && isObject(whole) && isObject(whole["$defs"])) {
    return choicesOf(whole["$defs"][ref.replace("#/$defs/", "")], null);
  }
  if (Array.isArray(schema["enum"])) return schema["enum"].filter((each) => each !== null);
  if (!Array.isArray(anyOf)) return null;
  const others = anyOf.filter((each) => !(isObject(each) && each["type"] === "null"));
  return others.length === 1 ? choicesOf(others[0], whole) : null;
}

/** The arguments that a tool takes, from the JSON Schema of them. */
export function argumentsOf(schema: unknown): Argument[] {
  if (!isObject(schema) || !isObject(schema["properties"])) return [];
  const required: readonly unknown[] = Array.isArray(schema["required"]) ? schema["required"] : [];
  return Object.entries(schema["properties"]).map(([name, each]) => ({
    name,
    type: typeOf(each),
    choices: choicesOf(each, schema),
    isRequired: required.includes(name),
  }));
}

/** What can be chosen for an argument. */
export function kindsOf({ type, isRequired, choices }: Argument): Kind[] {
  const isNumber = choices === null && (type === "number" || type === "integer");
  return [...(isNumber ? (["range"] as const) : []), "among", "any", ...(isRequired ? [] : (["none"] as const))];
}

/** What stands there first: never "anything". */
export function draftOf(argument: Argument): Draft {
  const kind = argument.isRequired ? (kindsOf(argument)[0] ?? "among") : "none";
  return { kind, min: "", max: "", values: "", picked: [] };
}

type Read = { bound: Bound | null; error: string | null };

/** The bound that is chosen, null for none; or what is wrong with it. */
export function boundOf(argument: Argument, { kind, min, max, values, picked }: Draft): Read {
  switch (kind) {
    case "none":
      return { bound: null, error: null };
    case "any":
      return { bound: { any: true }, error: null };
    case "range":
      return rangeOf(argument, min.trim(), max.trim());
    case "among":
      return argument.choices === null ? amongOf(argument, values) : pickedOf(argument.choices, picked);
  }
}

function rangeOf({ type }: Argument, min: string, max: string): Read {
  const isRight = (text: string) => text === "" || (type === "integer" ? /^-?\d+$/ : /^-?\d+(\.\d+)?$/).test(text);
  if (!isRight(min) || !isRight(max)) return { bound: null, error: type === "integer" ? words.wholeNumber : words.aNumber };
  if (min === "" && max === "") return { bound: null, error: words.oneLimit };
  if (min !== "" && max !== "" && Number(min) > Number(max)) return { bound: null, error: words.turned };
  return { bound: { ...(min !== "" && { min: Number(min) }), ...(max !== "" && { max: Number(max) }), any: false }, error: null };
}

function pickedOf(choices: readonly Json[], picked: readonly string[]): Read {
  const among = choices.filter((each) => picked.includes(JSON.stringify(each)));
  if (among.length === 0) return { bound: null, error: words.oneChoice };
  return { bound: { among, any: false }, error: null };
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
