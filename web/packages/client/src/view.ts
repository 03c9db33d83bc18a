/** What the events of a thread come to: the shapes that `fold` makes. */

import type {
  ApprovalKind,
  ApprovalStatus,
  Decision,
  EventOf,
  RunStatus,
  Schemas,
  Usage,
} from "./api.ts";

/** A thread as its events tell it. What a batch of events did not change keeps its identity. */
export interface View {
  /** The number of the last event. */
  readonly seq: number;
  readonly thread_id: string;
  /** All that was said and done, in order. */
  readonly messages: readonly Message[];
  /** By id, in the order in which they were asked. */
  readonly approvals: Readonly<Record<string, ApprovalState>>;
  /** Those that wait for people, in order. */
  readonly pending: readonly ApprovalState[];
  /** By id, in order. */
  readonly runs: Readonly<Record<string, RunState>>;
  /** The run that is at work, null if none is. */
  readonly active: RunState | null;
  /** Nodes, models, tools and retrievers in the order in which they began, by attempt. */
  readonly spans: readonly Span[];
  readonly checkpoints: readonly EventOf<"checkpoint">[];
  /** What nodes wrote to their stream, in order. */
  readonly customs: readonly EventOf<"custom">[];
  /** The last word on each budget, by its scope and name. */
  readonly budgets: Readonly<Record<string, BudgetState>>;
  /** The number of the first event that is left, if earlier ones were removed. What was heard before
   * them stays, as it was last heard of. */
  readonly gap: number | null;
}

export type Message = PersonMessage | AgentMessage | ToolMessage | ApprovalMessage | SystemMessage;

interface Said {
  /** Unique in the view. */
  readonly id: string;
  readonly run_id: string;
  readonly at: string;
  /** The number of its first event. */
  readonly seq: number;
}

/** What a person said, or the input that the graph was given. */
export interface PersonMessage extends Said {
  readonly role: "person";
  readonly text: string;
  readonly input: unknown;
}

interface InGraph {
  readonly node: string;
  /** The enclosing subgraph nodes, outermost first, each with its task. */
  readonly ns: readonly string[];
  readonly task_id: string;
}

/** What a model wrote. Its id is that of the model's message. */
export interface AgentMessage extends Said, InGraph {
  readonly role: "agent";
  readonly parts: readonly Part[];
  /** `stopped`: its run ended before it was complete. */
  readonly status: "writing" | "complete" | "stopped";
  readonly model: string;
  readonly finish_reason: string;
  readonly usage: Usage | null;
  readonly cost: number | null;
}

/** A tool call that no model wrote. */
export interface ToolMessage extends Said, InGraph {
  readonly role: "tool";
  readonly call: CallPart;
}

/** A question that is about no call that is shown. */
export interface ApprovalMessage extends Said {
  readonly role: "approval";
  readonly approval: ApprovalState;
}

/** News of a run, of budgets or of an operator. */
export interface SystemMessage extends Said {
  readonly role: "system";
  readonly event: EventOf<
    "error" | "run_cancelled" | "run_recovered" | "budget_warning" | "budget_exceeded" | "broadcast"
  >;
}

export type Part = TextPart | ReasoningPart | MediaPart | CallPart;

export interface TextPart {
  readonly type: "text";
  readonly id: string;
  readonly text: string;
  /** `refusal`: the model says that it will not. `transcript`: the words of audio. */
  readonly kind: string;
  readonly is_open: boolean;
}

export interface ReasoningPart {
  readonly type: "reasoning";
  readonly id: string;
  readonly text: string;
  readonly index: number;
  readonly is_open: boolean;
}

export interface MediaPart {
  readonly type: "media";
  readonly id: string;
  readonly media: string;
  readonly mime_type: string;
  readonly url: string;
  readonly file_id: string;
  readonly size: number;
}

/**
 * `writing`: the model writes the arguments. `ready`: they are complete. `waiting`: a person is
 * asked. `running`: the tool is at work. `done`, `failed`: it has returned or raised. `denied`: a
 * person, or nobody in time, has not let it run. `unknown`: it was cut off, and may have happened.
 * `stopped`: its run ended before it.
 */
export type CallStatus =
  | "writing"
  | "ready"
  | "waiting"
  | "running"
  | "done"
  | "failed"
  | "denied"
  | "unknown"
  | "stopped";

export interface CallPart {
  readonly type: "call";
  /** The id of the tool call. */
  readonly id: string;
  readonly tool: string;
  readonly index: number;
  /** The JSON of the arguments as far as the model has written it. */
  readonly args_text: string;
  /** The complete arguments: what runs, also after an edit; undefined while they are written. */
  readonly args: unknown;
  readonly status: CallStatus;
  readonly output: unknown;
  readonly error: Schemas["ErrorInfo"] | null;
  /** What the tool sent last while it runs. */
  readonly progress: unknown;
  readonly documents: readonly Schemas["SourceDocument"][];
  readonly approval: ApprovalState | null;
  readonly started_at: string | null;
  readonly ended_at: string | null;
}

/** An approval as the events tell it. It can be given to `approvals.decide` as it was shown. */
export interface ApprovalState {
  readonly approval_id: string;
  readonly run_id: string;
  readonly kind: ApprovalKind;
  readonly tool: string;
  readonly tool_call_id: string;
  readonly agent: string;
  readonly node: string;
  /** What is asked now; `digest` is its digest. */
  readonly args: unknown;
  readonly digest: string;
  /** What was asked first, if somebody has edited it. */
  readonly first_args: unknown;
  readonly edited_by: string | null;
  readonly schema: unknown;
  readonly allowed: readonly string[];
  readonly requested_by: readonly string[];
  readonly requested_at: string;
  /** What the tool shows of the call; null once somebody has edited it: `approvals.get` has it anew. */
  readonly preview: unknown;
  readonly expires_at: string | null;
  readonly interrupt_id: string | null;
  readonly status: ApprovalStatus;
  /** Votes that count, in order. */
  readonly votes: readonly VoteState[];
  readonly quorum: number;
  readonly delegations: readonly EventOf<"approval_delegated">[];
  readonly comments: readonly EventOf<"approval_commented">[];
  /** The roles and names that were asked as well. */
  readonly escalated_to: readonly string[];
  readonly decision: Decision["type"] | null;
  readonly decided_by: string | null;
  readonly decided_at: string | null;
  /** The reason of a rejection, or the answer to a question. */
  readonly message: unknown;
  /** The standing grant that decided. */
  readonly grant: string;
  /** Why it is void. */
  readonly reason: string;
}

export interface VoteState {
  readonly by: string;
  readonly decision: string;
  readonly message: unknown;
  readonly grant: string;
  readonly at: string;
}

export interface RunState {
  readonly run_id: string;
  readonly agent: string;
  readonly kind: "input" | "resume";
  readonly status: RunStatus;
  readonly attempt: number;
  readonly started_at: string;
  readonly ended_at: string | null;
  readonly message: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The approvals that it has paused for. */
  readonly approvals: readonly string[];
  /** The nodes that wait. */
  readonly next: readonly string[];
  /** The run that it goes on from, and the one that goes on from it. */
  readonly paused_run: string;
  readonly next_run: string;
  readonly usage: Usage | null;
  /** What its models did cost, null if none has a price. */
  readonly cost: number | null;
  readonly llm_calls: number;
  readonly steps: number | null;
  readonly error: { readonly code: string; readonly message: string; readonly node: string } | null;
  readonly reason: string;
  readonly rolled_back: boolean;
}

/** A piece of work, with its beginning and its end. */
export interface Span extends InGraph {
  /** Unique in the view. */
  readonly id: string;
  readonly kind: "node" | "model" | "tool" | "retriever";
  readonly name: string;
  readonly run_id: string;
  readonly seq: number;
  readonly attempt: number;
  readonly step: number | null;
  readonly started_at: string;
  readonly ended_at: string | null;
  /** `paused`: it waits for a person. `cut_off`: it was tried again. `stopped`: its run ended. */
  readonly status: "running" | "done" | "failed" | "paused" | "cut_off" | "stopped" | "unknown";
  readonly error: Schemas["ErrorInfo"] | null;
  /** The message, the tool call or the call of a retriever that it is about. */
  readonly about: string;
  readonly usage: Usage | null;
  readonly cost: number | null;
  /** From 0 to 1, of a node that says so. */
  readonly progress: number | null;
  readonly progress_message: string;
}

export interface BudgetState {
  readonly scope: string;
  readonly budget: string;
  readonly used: number;
  readonly limit: number;
  readonly is_exceeded: boolean;
  readonly at: string;
}
