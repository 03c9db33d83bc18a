import type { Agent } from "@assent/client";
import type { ReactNode } from "react";
import { messages } from "../../messages/en.ts";
import { Badge } from "../../parts/Badge.tsx";
import { Button } from "../../parts/Button.tsx";
import { ChatIcon, ShieldIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import styles from "./Welcome.module.css";

const words = messages.chat.welcome;

/** The agent that `assent serve` brings when it is given none: its first messages are known. */
const DEMO = "clerk";

export interface WelcomeProps {
  agents: readonly Agent[];
  onSuggest: (text: string) => void;
  /** What stands in place of the agents. */
  children: ReactNode;
}

/** What stands where nothing was said yet: what the agents can do, and where they ask first. */
export function Welcome({ agents, onSuggest, children }: WelcomeProps) {
  const isDemo = agents.length === 1 && agents[0]?.agent === DEMO;
  return (
    // It scrolls, so the keyboard must be able to reach it.
    <div className={styles.welcome} tabIndex={0} role="group" aria-label={words.title}>
      <div className={styles.inner}>
        <span className={styles.mark}>
          <ChatIcon />
        </span>
        <h2 className={styles.title}>{words.title}</h2>
        <p className={styles.lead}>{words.lead}</p>
        {isDemo && (
          <div className={styles.suggestions}>
            {words.suggestions.map((text) => (
              <Button key={text} className={styles.suggestion} onClick={() => onSuggest(text)}>
                {text}
              </Button>
            ))}
          </div>
        )}
        {children}
        {agents.map((agent) => (
          <Abilities key={agent.agent} agent={agent} isOnly={agents.length === 1} />
        ))}
      </div>
    </div>
  );
}

function Abilities({ agent, isOnly }: { agent: Agent; isOnly: boolean }) {
  const tools = agent.tools ?? [];
  const asking = tools.filter((tool) => tool.needs_approval);
  return (
    <section className={styles.agent} aria-label={words.canDo(agent.agent)}>
      <h3 className={styles.name}>
        <Marked text={agent.agent} />
        {isOnly ? null : <span className={styles.count}>{words.tools(tools.length, asking.length)}</span>}
      </h3>
      {agent.description !== null && (
        <p className={styles.description}>
          <Marked text={agent.description} lines />
        </p>
      )}
      {tools.length > 0 && (
        <ul className={styles.tools}>
          {tools.map((tool) => (
            <li key={tool.name} className={styles.tool}>
              <div className={styles.toolHead}>
                <code>
                  <Marked text={tool.name} />
                </code>
                {tool.needs_approval && (
                  <Badge tone="waiting">
                    <ShieldIcon width={12} height={12} />
                    {words.asks}
                  </Badge>
                )}
              </div>
              <p className={styles.description}>
                <Marked text={tool.description} />
              </p>
            </li>
          ))}
        </ul>
      )}
      {tools.length === 0 && (agent.nodes?.length ?? 0) > 0 && (
        <p className={styles.description}>{words.nodes(agent.nodes?.join(", ") ?? "")}</p>
      )}
    </section>
  );
}
