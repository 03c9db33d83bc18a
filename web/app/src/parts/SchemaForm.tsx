/** A form for a value that a JSON Schema describes, made of the page's own fields. It changes
 * nothing that nobody touched. */

import Form, { type IChangeEvent } from "@rjsf/core";
import {
  type ArrayFieldItemTemplateProps,
  type ArrayFieldTemplateProps,
  type BaseInputTemplateProps,
  enumOptionsIndexForValue,
  type FieldTemplateProps,
  type MultiSchemaFieldTemplateProps,
  type ObjectFieldTemplateProps,
  type RJSFSchema,
  toErrorSchema,
  type UiSchema,
  type UnsupportedFieldProps,
  type WidgetProps,
} from "@rjsf/utils";
import { type ReactNode, useMemo } from "react";
import { messages } from "../messages/en.ts";
import { Button, IconButton } from "./Button.tsx";
import { CheckField, SelectField, TextArea, TextField } from "./Field.tsx";
import { CrossIcon, PlusIcon } from "./icons.tsx";
import { asksFor } from "./json-schema.ts";
import { Marked } from "./Marked.tsx";
import validator from "./schema-validator.ts";
import styles from "./SchemaForm.module.css";

const words = messages.form;

export interface SchemaFormProps {
  schema: Record<string, unknown>;
  value: unknown;
  /** What the schema gives by itself is filled in: for a new value, not for one that is changed. */
  withDefaults?: boolean;
  /** What is wrong, by the path of its field: ".lines.0.cents". */
  errors?: { path: string; message: string }[];
  onChange: (value: unknown) => void;
}

export default function SchemaForm({ schema, value, withDefaults, errors = [], onChange }: SchemaFormProps) {
  const asked = useMemo(() => asksFor(schema), [schema]);
  const extraErrors = useMemo(
    () =>
      toErrorSchema(errors.map(({ path, message }) => ({ property: path, message, stack: message }))),
    [errors],
  );
  return (
    <Form
      tagName="div"
      className={styles.form}
      idPrefix="form"
      schema={asked}
      uiSchema={UI}
      formData={value}
      validator={validator}
      templates={TEMPLATES}
      widgets={WIDGETS}
      extraErrors={extraErrors}
      noValidate
      noHtml5Validate
      showErrorList={false}
      experimental_defaultFormStateBehavior={withDefaults ? FILLED : UNTOUCHED}
      onChange={({ formData }: IChangeEvent) => onChange(formData)}
    >
      {/* Whatever it stands in sends it. */}
      <></>
    </Form>
  );
}

const UI: UiSchema = { "ui:submitButtonOptions": { norender: true } };
const FILLED = { emptyObjectFields: "populateAllDefaults" } as const;
const UNTOUCHED = { emptyObjectFields: "skipDefaults", arrayMinItems: { populate: "never" } } as const;

function errorOf(rawErrors: string[] | undefined): string | null {
  return rawErrors === undefined || rawErrors.length === 0 ? null : rawErrors.join(" ");
}

function hintOf(schema: RJSFSchema): ReactNode {
  return schema.description === undefined ? undefined : <Marked text={schema.description} />;
}

/** "amount *": what must be there. */
function labelOf({ label, required }: { label: string; required?: boolean | undefined }): string {
  return required ? `${label} *` : label;
}

function Input({ label, hideLabel, schema, value, type, required, rawErrors, options, disabled, onChange }: BaseInputTemplateProps) {
  const isNumber = schema.type === "number" || schema.type === "integer";
  const kind = type === "date" || schema.format === "date" ? "date" : "text";
  return (
    <TextField
      label={labelOf({ label, required })}
      hideLabel={hideLabel ?? false}
      hint={hintOf(schema)}
      error={errorOf(rawErrors)}
      code={isNumber}
      type={kind}
      inputMode={schema.type === "integer" ? "numeric" : isNumber ? "decimal" : undefined}
      autoComplete="off"
      disabled={disabled ?? false}
      value={value ?? ""}
      onChange={({ target }) => onChange(target.value === "" ? options.emptyValue : target.value)}
    />
  );
}

/** A text: one line, or more if it has more or is told to. */
function TextWidget(props: WidgetProps) {
  const { label, hideLabel, schema, value, required, rawErrors, options, onChange } = props;
  const isLong = typeof value === "string" && (value.includes("\n") || value.length > LONG);
  const mayBeLong = (schema.maxLength ?? 0) > LONG * 5;
  if (!isLong && !mayBeLong) return <Input {...props} onChangeOverride={undefined} />;
  return (
    <TextArea
      label={labelOf({ label, required })}
      hideLabel={hideLabel ?? false}
      hint={hintOf(schema)}
      error={errorOf(rawErrors)}
      rows={3}
      value={value ?? ""}
      onChange={({ target }) => onChange(target.value === "" ? options.emptyValue : target.value)}
    />
  );
}

const LONG = 60;

function SelectWidget({ label, hideLabel, schema, value, required, rawErrors, options, multiple, onChange }: WidgetProps) {
  const choices = options.enumOptions ?? [];
  const chosen = enumOptionsIndexForValue(value, choices, multiple);
  const isUnset = chosen === undefined || (typeof chosen === "string" && chosen === "");
  const offered = choices.map((choice, place) => ({ value: String(place), label: String(choice.label) }));
  const unset = { value: "", label: words.unset };
  return (
    <SelectField
      label={labelOf({ label, required })}
      hideLabel={hideLabel ?? false}
      hint={hintOf(schema)}
      error={errorOf(rawErrors)}
      options={isUnset || !required ? [unset, ...offered] : offered}
      value={isUnset || Array.isArray(chosen) ? "" : chosen}
      onChange={({ target }) => onChange(target.value === "" ? undefined : choices[Number(target.value)]?.value)}
    />
  );
}

/** Yes or no; or neither, where it may be left out. */
function CheckboxWidget(props: WidgetProps) {
  const { label, schema, value, required, onChange } = props;
  const mayBeUnset = !required && schema.default === undefined;
  if (mayBeUnset) return <SelectWidget {...props} hideLabel={false} />;
  return (
    <div>
      <CheckField label={label} checked={value === true} onChange={({ target }) => onChange(target.checked)} />
      {schema.description && <div className={styles.hint}>{hintOf(schema)}</div>}
    </div>
  );
}

function Field({ children, hidden }: FieldTemplateProps) {
  return hidden ? null : children;
}

function ObjectFields({ title, properties, fieldPathId, description }: ObjectFieldTemplateProps) {
  const fields = properties.map(({ name, content }) => <div key={name}>{content}</div>);
  // The whole needs no frame: it stands in one.
  if (fieldPathId.path.length === 0) return <div className={styles.fields}>{fields}</div>;
  return (
    <fieldset className={styles.nest}>
      <legend className={styles.legend}>{title}</legend>
      {typeof description === "string" && description !== "" && (
        <div className={styles.hint}>
          <Marked text={description} />
        </div>
      )}
      {fields}
    </fieldset>
  );
}

function List({ title, items, canAdd, onAddClick, schema, required, rawErrors }: ArrayFieldTemplateProps) {
  const error = errorOf(rawErrors);
  return (
    <fieldset className={styles.nest}>
      <legend className={styles.legend}>{labelOf({ label: title, required })}</legend>
      {schema.description && <div className={styles.hint}>{hintOf(schema)}</div>}
      {items}
      {error && (
        <div className={styles.error} role="alert">
          {error}
        </div>
      )}
      {canAdd && (
        <Button small className={styles.add} onClick={onAddClick}>
          <PlusIcon />
          {words.add}
        </Button>
      )}
    </fieldset>
  );
}

function Item({ children, buttonsProps, index }: ArrayFieldItemTemplateProps) {
  return (
    <div className={styles.item}>
      <div className={styles.itemBody}>{children}</div>
      {buttonsProps.hasRemove && (
        <IconButton small label={`${words.remove} (${index + 1})`} onClick={buttonsProps.onRemoveItem}>
          <CrossIcon />
        </IconButton>
      )}
    </div>
  );
}

function Choice({ selector, optionSchemaField }: MultiSchemaFieldTemplateProps) {
  return (
    <div className={styles.fields}>
      {selector}
      {optionSchemaField}
    </div>
  );
}

/** A field that the form cannot ask for: it says so, and that there is another way. */
function Unsupported({ schema }: UnsupportedFieldProps) {
  return <p className={styles.hint}>{words.unsupported(schema.title ?? "")}</p>;
}

const TEMPLATES = {
  BaseInputTemplate: Input,
  FieldTemplate: Field,
  ObjectFieldTemplate: ObjectFields,
  ArrayFieldTemplate: List,
  ArrayFieldItemTemplate: Item,
  MultiSchemaFieldTemplate: Choice,
  UnsupportedFieldTemplate: Unsupported,
};

const WIDGETS = { TextWidget, SelectWidget, CheckboxWidget };
