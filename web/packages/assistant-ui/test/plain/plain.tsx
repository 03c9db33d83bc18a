/** A thread whose questions are answered by what assistant-ui itself has for that. */

import {
  AssistantRuntimeProvider,
  MessagePrimitive,
  ThreadPrimitive,
  type ToolCallMessagePartProps,
} from "@assistant-ui/react";
import { Assent } from "@assent/client";
import { useAssentRuntime } from "@assent/assistant-ui";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const assent = new Assent({ url: "/" });
const thread = new URL(window.location.href).searchParams.get("thread") ?? undefined;

function Plain() {
  const runtime = useAssentRuntime({ assent, thread });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Messages components={{ UserMessage: Said, AssistantMessage: Said }} />
    </AssistantRuntimeProvider>
  );
}

function Said() {
  return <MessagePrimitive.Parts components={{ tools: { Override: Call } }} />;
}

function Call({ toolName, approval, respondToApproval }: ToolCallMessagePartProps) {
  const [words, setWords] = useState("");
  const isAsked = approval !== undefined && approval.approved === undefined;
  return (
    <fieldset data-tool={toolName} data-approved={`${approval?.approved}`}>
      <legend>{approval?.prompt ?? toolName}</legend>
      {isAsked && !approval.resolution ? (
        <>
          <input aria-label="Words" value={words} onChange={(event) => setWords(event.target.value)} />
          <button
            type="button"
            onClick={() =>
              respondToApproval(
                approval.display === "text" ? { text: words } : { approved: true },
              )
            }
          >
            Yes
          </button>
          <button
            type="button"
            onClick={() => respondToApproval({ approved: false, reason: words })}
          >
            No
          </button>
        </>
      ) : null}
    </fieldset>
  );
}

const root = document.getElementById("root");
if (root) createRoot(root).render(<Plain />);
