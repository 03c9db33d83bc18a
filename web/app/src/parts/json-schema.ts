/** JSON Schemas as programs write them, made into what a person is asked for. */

import { isObject, type JsonObject } from "@assent/client";
import type { RJSFSchema } from "@rjsf/utils";
import { messages } from "../messages/en.ts";

const isNull = (schema: unknown) => isObject(schema) && schema["type"] === "null";

/** What says something about a field, whatever its type. */
const SAYINGS = ["title", "description", "default"];

/** Names the ways to write a value, where there are several: "value, as a text". */
function titled(schema: JsonObject, field: string): JsonObject {
  const place = ["anyOf", "oneOf"].find((name) => Array.isArray(schema[name]));
  const options = place === undefined ? undefined : schema[place];
  if (place === undefined || !Array.isArray(options)) return schema;
  const types: Record<string, string> = messages.form.types;
  const named = options.map((option: unknown) => {
    if (!isObject(option) || typeof option["title"] === "string") return option;
    const type = option["type"];
    const word = typeof type === "string" ? types[type] : undefined;
    return word === undefined ? option : { ...option, title: messages.form.as(field, word) };
  });
  return { ...schema, [place]: named };
}

/** "One of these, or null" is one field that may be left out, and not a choice. */
function withoutNull(schema: JsonObject): JsonObject {
  const place = ["anyOf", "oneOf"].find((name) => Array.isArray(schema[name]));
  const options = place === undefined ? undefined : schema[place];
  if (place === undefined || !Array.isArray(options)) return schema;
  const left = options.filter((option) => !isNull(option));
  const { [place]: _, ...around }: Record<string, unknown> = schema;
  if (around["default"] === null) delete around["default"];
  const [only] = left;
  if (left.length === 1 && isObject(only)) {
    const said = Object.entries(around).filter(([name]) => SAYINGS.includes(name));
    return { ...only, ...Object.fromEntries(said) };
  }
  return { ...around, [place]: left };
}

function withoutNullType(schema: JsonObject): JsonObject {
  const { type } = schema;
  if (!Array.isArray(type)) return schema;
  const left = type.filter((each) => each !== "null");
  return { ...schema, type: left.length === 1 ? left[0] : left };
}

/** Does it to every schema below, too. */
function deep(value: unknown): unknown {
  if (!isObject(value)) return value;
  const schema = withoutNullType(withoutNull(value));
  const changed: Record<string, unknown> = { ...schema };
  for (const name of ["properties", "$defs", "definitions"]) {
    const inner = schema[name];
    if (!isObject(inner)) continue;
    changed[name] = Object.fromEntries(
      Object.entries(inner).map(([field, each]) => {
        const known = deep(each);
        // Fields have the names that the table of arguments shows them under.
        return [field, name === "properties" && isObject(known) ? { ...titled(known, field), title: field } : known];
      }),
    );
  }
  for (const name of ["items", "additionalProperties"]) {
    if (isObject(schema[name])) changed[name] = deep(schema[name]);
  }
  for (const name of ["anyOf", "oneOf", "allOf"]) {
    const options = schema[name];
    if (Array.isArray(options)) changed[name] = options.map(deep);
  }
  return changed;
}

/** The schema of a form: what may be null is left out instead, and each field has its own name. */
export function asksFor(schema: JsonObject): RJSFSchema {
  const asked = deep(schema);
  const { title: _, description: __, ...whole } = isObject(asked) ? asked : {};
  return whole;
}
