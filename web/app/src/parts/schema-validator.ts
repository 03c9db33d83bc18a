/**
 * A validator for the form that interprets JSON Schema, where the usual one compiles it to code,
 * which the page's Content-Security-Policy forbids. The server stays the judge of what is sent.
 */

import { type Schema, Validator } from "@cfworker/json-schema";
import {
  type RJSFSchema,
  type RJSFValidationError,
  toErrorSchema,
  type ValidatorType,
} from "@rjsf/utils";

/** What says only that something below it is wrong, which that says better itself. */
const FRAMES = new Set(["properties", "items", "$ref", "allOf", "additionalProperties"]);

/** "#/a/b/0" as the path that the form knows, ".a.b.0". */
function pathOf(pointer: string): string {
  const steps = pointer.replace(/^#/, "").split("/").slice(1);
  return steps.map((step) => `.${step.replaceAll("~1", "/").replaceAll("~0", "~")}`).join("");
}

function errorsOf(schema: RJSFSchema, data: unknown): RJSFValidationError[] {
  // The two describe the same documents; the form's type is merely wider.
  const { errors } = new Validator(schema as Schema, "2020-12", false).validate(data ?? null);
  const telling = errors.filter(({ keyword }) => !FRAMES.has(keyword));
  return telling.map(({ keyword, instanceLocation, error }) => ({
    name: keyword,
    property: pathOf(instanceLocation),
    message: error,
    stack: error,
  }));
}

const validator: ValidatorType = {
  validateFormData(data, schema) {
    const errors = errorsOf(schema, data);
    return { errors, errorSchema: toErrorSchema(errors) };
  },
  isValid(schema, data, root) {
    // Branches of a choice refer to definitions of the whole.
    const whole: RJSFSchema = { ...schema };
    for (const place of ["$defs", "definitions"]) whole[place] ??= root[place];
    return errorsOf(whole, data).length === 0;
  },
  rawValidation: (schema, data) => ({ errors: errorsOf(schema, data) as never[] }),
};

export default validator;
