/**
 * The errors of the client, each told by `instanceof`.
 *
 *     AssentError
 *     ├─ Unreachable            no answer, or the connection broke
 *     └─ Problem                what the server refused, as RFC 9457 has it
 *        ├─ Unauthorized (401)  ├─ Forbidden (403)   ├─ NotFound (404)   ├─ Gone (410)
 *        ├─ Conflict (409)
 *        │  ├─ AlreadyDecided   ├─ Changed           ├─ NothingPending
 *        │  └─ ThreadBusy       └─ ThreadPaused
 *        ├─ InvalidRequest (400, 405, 413, 415, 421, 422)
 *        ├─ TooManyRequests (429)
 *        ├─ Unavailable (503)   the storage is away, or the server stops
 *        └─ ServerFailed        any other failure, or what answered is no Assent
 */

import type { ApprovalForYou, Decision, JsonObject } from "./api.ts";

/** Any error of this client. */
export class AssentError extends Error {
  override name = "AssentError";
}

/** The server does not answer, or the connection to it broke. */
export class Unreachable extends AssentError {
  override name = "Unreachable";
}

/** The members of a problem document. */
export interface ProblemDocument {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly [member: string]: unknown;
}

/** What the server refused: `detail` is a sentence, and `members` is the whole document. */
export class Problem extends AssentError {
  override name = "Problem";
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly members: ProblemDocument;
  /** The milliseconds after which the server says that it may be asked again. */
  readonly retryAfter: number | undefined;

  constructor(document: ProblemDocument, retryAfter?: number) {
    super(document.detail);
    this.type = document.type;
    this.title = document.title;
    this.status = document.status;
    this.detail = document.detail;
    this.members = document;
    this.retryAfter = retryAfter;
  }
}

/** The server does not know who asks. */
export class Unauthorized extends Problem {
  override name = "Unauthorized";
}

/** You are known and may not do this. */
export class Forbidden extends Problem {
  override name = "Forbidden";
}

/** There is no such thing, or it is not yours to see. */
export class NotFound extends Problem {
  override name = "NotFound";
}

/** The change was made from a state that is no longer the current one. */
export class Conflict extends Problem {
  override name = "Conflict";
}

/** A run is active on the thread. */
export class ThreadBusy extends Conflict {
  override name = "ThreadBusy";
}

/** The thread waits for decisions. */
export class ThreadPaused extends Conflict {
  override name = "ThreadPaused";
}

/** The thread waits for no decision. */
export class NothingPending extends Conflict {
  override name = "NothingPending";
}

/** The approval is no longer pending. `by` and `decision` are null if nobody decided in time, or
 * need decide any more; `outcome` is its status. */
export class AlreadyDecided extends Conflict {
  override name = "AlreadyDecided";
  readonly by: string | null;
  readonly decision: Decision | null;
  readonly at: string | null;
  readonly outcome: string;

  constructor(document: ProblemDocument, retryAfter?: number) {
    super(document, retryAfter);
    this.by = textOf(document["decided_by"]);
    this.decision = decisionOf(document["decision"]);
    this.at = textOf(document["decided_at"]);
    this.outcome = textOf(document["outcome"]) ?? "";
  }
}

/** Something else is asked than was shown, and nothing was decided. `approval` is what is asked
 * now, null if it could not be read. */
export class Changed extends Conflict {
  override name = "Changed";
  readonly approval: ApprovalForYou | null;

  constructor(document: ProblemDocument, approval: ApprovalForYou | null) {
    super(document);
    this.approval = approval;
  }
}

/** It was there, and was removed for good. */
export class Gone extends Problem {
  override name = "Gone";
  /** Of events: the lowest number that is left, or the next one to be given. */
  readonly first: number | null;

  constructor(document: ProblemDocument, retryAfter?: number) {
    super(document, retryAfter);
    const first = document["first"];
    this.first = typeof first === "number" ? first : null;
  }
}

/** The request makes no sense to the server; nothing was changed. */
export class InvalidRequest extends Problem {
  override name = "InvalidRequest";
}

/** Too much was asked for; nothing was changed. */
export class TooManyRequests extends Problem {
  override name = "TooManyRequests";
}

/** The storage cannot take the change now, or the server stops. */
export class Unavailable extends Problem {
  override name = "Unavailable";
}

/** The server failed at the request, or what answered is no Assent. */
export class ServerFailed extends Problem {
  override name = "ServerFailed";
}

const BY_STATUS: Readonly<Record<number, typeof Problem>> = {
  400: InvalidRequest,
  401: Unauthorized,
  403: Forbidden,
  404: NotFound,
  405: InvalidRequest,
  409: Conflict,
  410: Gone,
  413: InvalidRequest,
  415: InvalidRequest,
  421: InvalidRequest,
  422: InvalidRequest,
  429: TooManyRequests,
  503: Unavailable,
};

/** By the last part of a problem's `type`. */
const BY_NAME: Readonly<Record<string, typeof Problem>> = {
  "already-decided": AlreadyDecided,
  "thread-busy": ThreadBusy,
  "thread-paused": ThreadPaused,
  "nothing-pending": NothingPending,
};

const SHOWN_CHARACTERS = 200;
const LONGEST_WAIT = 86_400_000;

/** Statuses of a proxy whose server is about to be there again. */
const PASSING: ReadonlySet<number> = new Set([502, 503, 504]);

/** The error that an answer is. */
export function problemOf(status: number, headers: Headers, body: string): Problem {
  const document = documentOf(body);
  const retryAfter = waitOf(headers.get("retry-after"));
  if (document === null) {
    const shown = body.slice(0, SHOWN_CHARACTERS).trim();
    const said = shown ? `: ${shown}` : ".";
    const kind = status === 401 ? Unauthorized : ServerFailed;
    const detail = `The server answered ${status}, as Assent does not${said}`;
    return new kind({ type: "about:blank", title: "", status, detail }, retryAfter);
  }
  const name = document.type.split(":").at(-1) ?? "";
  const kind = BY_NAME[name] ?? BY_STATUS[status] ?? (status >= 500 ? ServerFailed : Problem);
  return new kind(document, retryAfter);
}

/** True if the same request may succeed a little later. */
export function mayPass(error: unknown): boolean {
  if (error instanceof Problem) {
    return PASSING.has(error.status) || error.retryAfter !== undefined;
  }
  return error instanceof Unreachable;
}

/** The milliseconds for which the server asks to be left alone. */
export function askedPause(error: unknown): number {
  return error instanceof Problem ? (error.retryAfter ?? 0) : 0;
}

/** True for an object of JSON. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function documentOf(body: string): ProblemDocument | null {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return null;
  }
  if (!isObject(value)) return null;
  const { detail, title, type, status } = value;
  if (typeof detail !== "string") return null;
  return {
    ...value,
    detail,
    title: typeof title === "string" ? title : "",
    type: typeof type === "string" ? type : "about:blank",
    status: typeof status === "number" ? status : 0,
  };
}

function waitOf(seconds: string | null): number | undefined {
  if (seconds === null || !/^\d+$/.test(seconds)) return undefined;
  return Math.min(Number(seconds) * 1000, LONGEST_WAIT);
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function decisionOf(value: unknown): Decision | null {
  if (!isObject(value)) return null;
  switch (value["type"]) {
    case "approve":
      return { type: "approve" };
    case "edit":
      return { type: "edit", args: isObject(value["args"]) ? value["args"] : {} };
    case "reject":
      return { type: "reject", message: textOf(value["message"]) ?? "" };
    case "respond":
      return { type: "respond", message: value["message"] };
    default:
      return null;
  }
}
