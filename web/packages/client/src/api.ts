/** The shapes of what the server sends and takes, by the names that they are used under here. */

import type { components, paths } from "./api.gen.ts";

/** The schemas of the server's OpenAPI document. */
export type Schemas = components["schemas"];

/** Any JSON value. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** An event of a thread's log or of a feed; `type` tells which. */
export type Event = Schemas["Event"];
export type EventType = Event["type"];
/** The events of these types. */
export type EventOf<T extends EventType> = Extract<Event, { type: T }>;

/** An approval as everybody sees it. */
export type Approval = Schemas["ApprovalView"];
/** An approval, and what you may do about it. */
export type ApprovalForYou = Schemas["ApprovalForYou"];
export type ApprovalKind = Schemas["ApprovalKind"];
export type ApprovalStatus = Schemas["ApprovalStatus"];
export type Agent = Schemas["AgentView"];
export type AuditRecord = Schemas["AuditView"];
export type AuditHead = Schemas["Head"];
export type AuditVerification = Schemas["AuditVerification"];
export type Connection = Schemas["ConnectionView"];
export type EditPreview = Schemas["EditPreview"];
export type EventPage = Schemas["EventsPage"];
export type Grant = Schemas["GrantView"];
export type ApiKey = Schemas["KeyView"];
export type Me = Schemas["MeView"];
export type Notification = Schemas["NotificationView"];
export type Outcome = Schemas["OutcomeView"];
export type OutcomeOfOne = Schemas["OutcomeOfOne"];
export type Risk = Schemas["Risk"];
export type Run = Schemas["RunView"];
export type RunResult = Schemas["RunResultView"];
export type RunStatus = Schemas["RunStatus"];
export type Schedule = Schemas["ScheduleView"];
export type UpcomingSchedule = Schemas["UpcomingSchedule"];
export type State = Schemas["StateView"];
export type Thread = Schemas["ThreadView"];
export type ThreadStatus = Schemas["ThreadStatus"];
export type Usage = Schemas["Usage"];

/** A JSON object. */
export type JsonObject = { readonly [name: string]: unknown };

/** What a person says to an approval. */
export type Decision =
  | { readonly type: "approve" }
  | { readonly type: "edit"; readonly args: JsonObject }
  | { readonly type: "reject"; readonly message?: string }
  | { readonly type: "respond"; readonly message: unknown };

/** What identifies an approval and what was shown of it: any approval that came from the server. */
export interface ShownApproval {
  readonly approval_id: string;
  readonly digest: string;
}

/** The query parameters of a GET, as on the wire. */
export type Query<P extends keyof paths> = paths[P] extends {
  get: { parameters: { query?: infer Q } };
}
  ? Omit<NonNullable<Q>, "cursor">
  : never;

/** What a run takes beside its message; the fields of `POST /agent/runs`. */
export type RunOptions = Partial<Omit<Schemas["RunRequest"], "message">>;
/** A message: a text, or blocks of content. */
export type RunMessage = string | readonly JsonObject[];
