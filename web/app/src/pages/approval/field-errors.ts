/** Finds the fields that a refusal of the server is about, in its sentence. */

export interface FieldError {
  /** As the form knows it: ".lines.0.cents". */
  path: string;
  message: string;
}

/** "The tool 'pay' does not take these arguments: lines.0.cents: Input should be …; amount: …." */
const ARGUMENT = /^([\w-]+(?:\.[\w-]+)*): (.+)$/;
/** "'nights' is a required property (at $.trip)." */
const IN_ANSWER = /^(.*) \(at \$([\w.[\]-]*)\)\.?$/;
const REQUIRED = /^'([^']+)' is a required property$/;

function inAnswer(part: string): FieldError | null {
  const [, message = "", place = ""] = IN_ANSWER.exec(part) ?? [];
  if (message === "") return null;
  const path = place.replace(/\[(\d+)\]/g, ".$1");
  const missing = REQUIRED.exec(message)?.[1];
  return { path: missing === undefined ? path : `${path}.${missing}`, message };
}

/** The errors that name a field; none for a sentence about the whole. */
export function fieldErrors(sentence: string | null): FieldError[] {
  const about = sentence?.split(/(?:arguments|answer): /).slice(1).join(": ") ?? "";
  const found: FieldError[] = [];
  for (const part of about.split("; ")) {
    const answer = inAnswer(part);
    const [, path, message] = ARGUMENT.exec(part) ?? [];
    if (answer !== null) found.push(answer);
    else if (path && message) found.push({ path: `.${path}`, message: message.replace(/\.$/, "") });
  }
  return found;
}
