/** A chat with an agent, made of assistant-ui's own parts: `?thread=` names the thread. */

import {
  AssistantRuntimeProvider,
  AuiIf,
  ComposerPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
} from "@assistant-ui/react";
import { Assent } from "@assent/client";
import { AssentApproval, useAssentRuntime } from "@assent/assistant-ui";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

const page = new URL(window.location.href);

// The page is served by the server itself, beside its API. Elsewhere: `url: "https://…"`.
const assent = new Assent({ url: "/", credentials: "same-origin" });

function Chat() {
  const [problem, setProblem] = useState("");
  const runtime = useAssentRuntime({
    assent,
    thread: page.searchParams.get("thread") ?? undefined,
    agent: page.searchParams.get("agent") ?? undefined,
    share: true,
    onThread: (thread) => {
      page.searchParams.set("thread", thread);
      window.history.replaceState(null, "", page);
    },
    onError: (error) => setProblem(error instanceof Error ? error.message : String(error)),
  });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <main>
        <ThreadPrimitive.Root className="chat">
          <h1>Assent</h1>
          <ThreadPrimitive.Viewport className="messages" role="log" aria-label="Conversation">
            <ThreadPrimitive.Messages
              components={{ UserMessage: Said, AssistantMessage: Said, SystemMessage: Said }}
            />
          </ThreadPrimitive.Viewport>
          {problem ? <p role="alert">{problem}</p> : null}
          <ComposerPrimitive.Root className="composer">
            <ComposerPrimitive.Input aria-label="Message" placeholder="Say something" />
            <AuiIf condition={(state) => !state.thread.isRunning}>
              <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
            </AuiIf>
            <AuiIf condition={(state) => state.thread.isRunning}>
              <ComposerPrimitive.Cancel>Stop</ComposerPrimitive.Cancel>
            </AuiIf>
          </ComposerPrimitive.Root>
        </ThreadPrimitive.Root>
      </main>
    </AssistantRuntimeProvider>
  );
}

function Said() {
  return (
    <MessagePrimitive.Root className="message">
      <MessagePrimitive.Parts components={{ Text, tools: { Override: AssentApproval } }} />
    </MessagePrimitive.Root>
  );
}

function Text({ text }: { text: string }) {
  return <p>{text}</p>;
}

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Chat />
    </StrictMode>,
  );
}
