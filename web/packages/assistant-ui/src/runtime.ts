/** Assent's threads as a runtime of assistant-ui. */

import { type AppendMessage, type AssistantRuntime, useExternalStoreRuntime } from "@assistant-ui/react";
import {
  type Assent,
  EMPTY,
  fold,
  type ApprovalState,
  type Decision,
  type LinkState,
  type RunOptions,
  type View,
} from "@assent/client";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

import { toMessage } from "./messages.ts";

export interface AssentRuntimeOptions {
  readonly assent: Assent;
  /** The thread that is shown; undefined for a new one, which begins with the first message. */
  readonly thread?: string | undefined;
  /** The agent of a new thread. */
  readonly agent?: string | undefined;
  /** Called with the id of a thread that has begun. */
  readonly onThread?: ((thread: string) => void) | undefined;
  /** Called with what the server has refused. By default it is thrown, and so in the console. */
  readonly onError?: ((error: unknown) => void) | undefined;
  /** What each run is started with beside its message. */
  readonly run?: RunOptions | undefined;
  /** Share streams with the other tabs of the browser. */
  readonly share?: boolean | undefined;
}

/** A thread as it is now, and the state of the connection by which it is followed. */
export interface AssentThread {
  readonly view: View;
  readonly link: LinkState;
  readonly error: unknown;
}

/** What tool UIs of a runtime reach Assent by: `useAui`'s `thread.extras`. */
export class AssentExtras {
  readonly assent: Assent;
  readonly thread: AssentThread;

  constructor(assent: Assent, thread: AssentThread) {
    this.assent = assent;
    this.thread = thread;
  }
}

const NOTHING: AssentThread = { view: EMPTY, link: "connecting", error: null };

/** Follows the thread, as long as the component is there. */
export function useAssentThread(
  assent: Assent,
  thread: string | undefined,
  share = false,
): AssentThread {
  const [state, setState] = useState(NOTHING);
  useEffect(() => {
    setState(NOTHING);
    if (thread === undefined) return;
    const stop = new AbortController();
    const onLink = (link: LinkState) => setState((before) => ({ ...before, link }));
    const follow = async () => {
      const heard = assent.follow({ thread, signal: stop.signal, onLink, share });
      for await (const batch of heard.batches()) {
        if (stop.signal.aborted) return;
        setState((before) => ({ ...before, view: fold(before.view, batch) }));
      }
    };
    follow().catch((error: unknown) => {
      if (!stop.signal.aborted) setState((before) => ({ ...before, error }));
    });
    return () => stop.abort();
  }, [assent, thread, share]);
  return state;
}

/**
 * The runtime for `<AssistantRuntimeProvider runtime={…}>`: a thread of Assent, shown as it is
 * followed, with each question as the `approval` of its tool call.
 */
export function useAssentRuntime(options: AssentRuntimeOptions): AssistantRuntime {
  const { assent, agent, run, share, onThread, onError } = options;
  const [begun, setBegun] = useState<{ under: string | undefined; thread: string } | null>(null);
  // A thread that this runtime has begun is shown until another is asked for.
  const isBegun = begun !== null && begun.under === options.thread;
  const thread = isBegun ? begun.thread : options.thread;
  const state = useAssentThread(assent, thread, share);
  const { view, error } = state;
  const [isSending, setIsSending] = useState(false);

  // What is decided about is what is on the screen, not what came while somebody moved to click.
  const shown = useRef(view);
  useLayoutEffect(() => {
    shown.current = view;
  }, [view]);

  const told = useRef(onError);
  useLayoutEffect(() => {
    told.current = onError;
  }, [onError]);
  useEffect(() => {
    if (error !== null) told.current?.(error);
  }, [error]);

  const attempt = useCallback(async (action: () => Promise<unknown>) => {
    try {
      await action();
    } catch (failure) {
      if (told.current === undefined) throw failure;
      told.current(failure);
    }
  }, []);

  const send = async (message: AppendMessage) => {
    setIsSending(true);
    const thread_id = thread === undefined ? {} : { thread_id: thread };
    const of_agent = agent === undefined ? {} : { agent };
    try {
      const started = await assent.runs.start(wordsOf(message), {
        ...of_agent,
        ...run,
        ...thread_id,
      });
      if (thread === undefined) {
        setBegun({ under: options.thread, thread: started.thread_id });
        onThread?.(started.thread_id);
      }
    } finally {
      setIsSending(false);
    }
  };

  const respond = async (answer: Answer) => {
    const approval = shown.current.approvals[answer.approvalId];
    if (approval === undefined) return;
    await assent.approvals.decide(approval, decisionOf(approval, answer));
  };

  return useExternalStoreRuntime({
    messages: view.messages,
    convertMessage: toMessage,
    isRunning: isSending || view.active !== null,
    isLoading: thread !== undefined && view.seq === 0 && error === null,
    extras: new AssentExtras(assent, state),
    onNew: (message) => attempt(() => send(message)),
    onCancel: () => attempt(async () => thread !== undefined && assent.threads.cancel(thread)),
    onRespondToToolApproval: (answer) => attempt(() => respond(answer)),
  });
}

interface Answer {
  readonly approvalId: string;
  readonly approved: boolean;
  readonly text?: string;
  readonly reason?: string;
}

/** What a yes, a no or an answer in words decides. */
export function decisionOf(approval: ApprovalState, answer: Answer): Decision {
  if (!answer.approved) return { type: "reject", message: answer.reason ?? answer.text ?? "" };
  if (approval.kind === "input") return { type: "respond", message: answer.text ?? "" };
  return { type: "approve" };
}

function wordsOf(message: AppendMessage): string {
  const words = message.content.flatMap((part) => (part.type === "text" ? [part.text] : []));
  if (words.length < message.content.length || message.attachments?.length) {
    throw new TypeError("Only text can be sent to the agent from here.");
  }
  return words.join("\n");
}
