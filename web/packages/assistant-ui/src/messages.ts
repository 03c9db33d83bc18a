/** Messages of Assent's view as assistant-ui shows them. Pure: each is converted once. */

import type { ThreadMessageLike } from "@assistant-ui/react";
import type {
  AgentMessage,
  ApprovalMessage,
  ApprovalState,
  CallPart,
  Message,
  Part,
  SystemMessage,
} from "@assent/client";

type Like = ThreadMessageLike;
type LikePart = Exclude<Like["content"], string>[number];
type LikeCall = Extract<LikePart, { type: "tool-call" }>;
type LikeArgs = NonNullable<LikeCall["args"]>;
type LikeApproval = NonNullable<LikeCall["approval"]>;
type Resolution = NonNullable<LikeApproval["resolution"]>;

/** What a tool call's part carries beside what assistant-ui knows of calls. */
export interface AssentArtifact {
  readonly approval: ApprovalState | null;
  readonly call: CallPart | null;
}

/** The message as assistant-ui has it. */
export function toMessage(message: Message): Like {
  const common = { id: message.id, createdAt: new Date(message.at) };
  switch (message.role) {
    case "person":
      return { ...common, role: "user", content: message.text || jsonOf(message.input) };
    case "agent":
      return {
        ...common,
        role: "assistant",
        content: message.parts.flatMap(toPart),
        status: statusOf(message),
      };
    case "tool":
      return {
        ...common,
        role: "assistant",
        content: [toCall(message.call)],
        status: statusOfCalls([message.call]),
      };
    case "approval":
      return {
        ...common,
        role: "assistant",
        content: [toQuestion(message)],
        status:
          message.approval.status === "pending"
            ? { type: "requires-action", reason: "tool-calls" }
            : { type: "complete", reason: "stop" },
      };
    case "system":
      return { ...common, role: "system", content: [{ type: "text", text: sentenceOf(message) }] };
  }
}

function statusOf(message: AgentMessage): Like["status"] {
  if (message.status === "writing") return { type: "running" };
  if (message.status === "stopped") return { type: "incomplete", reason: "cancelled" };
  return statusOfCalls(message.parts.filter((part) => part.type === "call"));
}

function statusOfCalls(calls: readonly CallPart[]): Like["status"] {
  const isAsked = calls.some((call) => call.approval?.status === "pending");
  if (isAsked) return { type: "requires-action", reason: "tool-calls" };
  if (calls.some((call) => call.status === "running")) return { type: "running" };
  return { type: "complete", reason: "stop" };
}

function toPart(part: Part): LikePart[] {
  switch (part.type) {
    case "text":
      return [{ type: "text", text: part.text }];
    case "reasoning":
      return [{ type: "reasoning", text: part.text }];
    case "call":
      return [toCall(part)];
    case "media":
      // What an agent names is not loaded by itself: who shows it says how.
      return [{ type: "data", name: "assent-media", data: part }];
  }
}

function toCall(call: CallPart): LikePart {
  const artifact: AssentArtifact = { approval: call.approval, call };
  const isOver = call.status === "done" || call.status === "failed" || call.status === "denied";
  return {
    type: "tool-call",
    toolCallId: call.id,
    toolName: call.tool,
    argsText: call.args === undefined ? call.args_text : jsonOf(call.args),
    ...(isArgs(call.args) ? { args: call.args } : {}),
    artifact,
    isError: call.status === "failed",
    ...(isOver ? { result: call.error?.message ?? call.output ?? call.status } : {}),
    ...(call.approval ? { approval: approvalOf(call.approval) } : {}),
  };
}

function toQuestion({ approval }: ApprovalMessage): LikePart {
  const artifact: AssentArtifact = { approval, call: null };
  const isOver = approval.status !== "pending";
  return {
    type: "tool-call",
    toolCallId: approval.approval_id,
    toolName: approval.tool || approval.node || approval.kind,
    argsText: jsonOf(approval.args),
    ...(isArgs(approval.args) ? { args: approval.args } : {}),
    artifact,
    ...(isOver ? { result: approval.message ?? approval.status } : {}),
    approval: approvalOf(approval),
  };
}

const APPROVED: Readonly<Record<string, boolean>> = {
  approved: true,
  edited: true,
  responded: true,
  rejected: false,
};

const RESOLUTIONS: Readonly<Record<string, Resolution>> = {
  expired: "expired",
  cancelled: "cancelled",
  superseded: "cancelled",
};

/** The approval as assistant-ui's own buttons know it: a yes or no, or an answer in words. */
export function approvalOf(approval: ApprovalState): LikeApproval {
  const approved = APPROVED[approval.status];
  const resolution = RESOLUTIONS[approval.status];
  const isQuestion = approval.kind === "input";
  const reason = approval.reason || (approved === false ? textOf(approval.message) : "");
  return {
    id: approval.approval_id,
    ...(isQuestion ? { display: "text", prompt: promptOf(approval.args) } : {}),
    ...(approved === undefined ? {} : { approved }),
    ...(resolution === undefined ? {} : { resolution }),
    ...(reason ? { reason } : {}),
    ...(isQuestion && approved ? { text: textOf(approval.message) } : {}),
    ...(approval.grant ? { isAutomatic: true } : {}),
  };
}

/** The words of a question: a text, or what an object has as such. */
export function promptOf(args: unknown): string {
  if (typeof args === "string") return args;
  if (isArgs(args)) {
    const named = args["question"] ?? args["prompt"] ?? args["message"];
    if (typeof named === "string") return named;
  }
  return jsonOf(args);
}

function sentenceOf({ event }: SystemMessage): string {
  switch (event.type) {
    case "error":
      return event.message;
    case "run_cancelled":
      return event.reason || "The run was cancelled.";
    case "run_recovered":
      return "The server was started anew, and the run goes on.";
    case "broadcast":
      return event.message;
    case "budget_warning":
      return `${event.used} of ${event.limit} ${event.budget} are used.`;
    case "budget_exceeded":
      return `The budget of ${event.limit} ${event.budget} is used up.`;
  }
}

/** True for an object of JSON, as arguments are: all that comes over the wire is JSON. */
function isArgs(value: unknown): value is LikeArgs {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : jsonOf(value);
}

export function jsonOf(value: unknown): string {
  return JSON.stringify(value, null, 2) ?? "";
}
