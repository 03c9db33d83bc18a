/** Markdown of agents and people, without raw HTML, foreign images or links that run something. */

import type { ComponentProps } from "react";
import { memo, useMemo } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { messages } from "../messages/en.ts";
import styles from "./Markdown.module.css";
import { Marked } from "./Marked.tsx";

const ADDRESSES = /^(https?:\/\/|mailto:)/i;
const PLUGINS = [remarkGfm];

/** Nothing but these can need a mark. */
const PLAIN = /^[\t\n\r\x20-\x7e]*$/;

interface Branch {
  type: string;
  value?: string;
  tagName?: string;
  properties?: Record<string, never>;
  children?: Branch[];
}

/** Puts texts in which something may be unseen into an element that `Marked` draws. */
function markUnseen() {
  const walk = (branch: Branch): Branch => {
    if (branch.type === "text" && !PLAIN.test(branch.value ?? "")) {
      return { type: "element", tagName: "mark", properties: {}, children: [branch] };
    }
    if (branch.children !== undefined) branch.children = branch.children.map(walk);
    return branch;
  };
  return (tree: Branch) => {
    walk(tree);
  };
}

const REHYPE_PLUGINS = [markUnseen];

function MarkedText({ children }: ComponentProps<"mark">) {
  return typeof children === "string" ? <Marked text={children} /> : children;
}

/** A link of somebody else's words: where it leads is always in sight. */
function Anchor({ href, children }: ComponentProps<"a">) {
  if (href === undefined || !ADDRESSES.test(href)) return <span>{children}</span>;
  const worded = typeof children === "string" && children === href;
  return (
    <>
      <a href={href} target="_blank" rel="noreferrer noopener nofollow">
        {children}
      </a>
      {!worded && <span className={styles.address}> ({href})</span>}
    </>
  );
}

/** An image is not loaded: what it shows, and a link to it if it has an address. */
function Picture({ src, alt }: ComponentProps<"img">) {
  const words = messages.markdown.image(alt ?? "");
  return typeof src === "string" ? <Anchor href={src}>{words}</Anchor> : <span>{words}</span>;
}

/** A preformatted block or a table may be wider than the page: it scrolls, by keyboard too. */
function Preformatted({ children }: ComponentProps<"pre">) {
  return <pre tabIndex={0}>{children}</pre>;
}

function Table({ children }: ComponentProps<"table">) {
  return (
    <div className={styles.table} tabIndex={0} role="group" aria-label={messages.markdown.table}>
      <table>{children}</table>
    </div>
  );
}

const COMPONENTS: Components = { mark: MarkedText, a: Anchor, img: Picture, pre: Preformatted, table: Table };

const Block = memo(function Block({ text }: { text: string }) {
  return (
    <div className={styles.block}>
      <ReactMarkdown remarkPlugins={PLUGINS} rehypePlugins={REHYPE_PLUGINS} components={COMPONENTS} skipHtml={false}>
        {text}
      </ReactMarkdown>
    </div>
  );
});

const FENCE = /^ {0,3}(```+|~~~+)/;
const CONTINUES = /^(\s|[-*+]\s|\d+[.)]\s|>|\|)/;

/**
 * The blocks of a text: where a blank line is followed by what begins anew, outside of fenced
 * code. A block that is whole never changes while the text grows, so it is drawn once.
 */
export function blocksOf(text: string): string[] {
  const blocks: string[] = [];
  let block: string[] = [];
  let fence: string | null = null;
  for (const line of text.split("\n")) {
    const marker = FENCE.exec(line)?.[1] ?? null;
    const begins = fence === null && block.at(-1)?.trim() === "" && line.trim() !== "";
    if (begins && !CONTINUES.test(line)) {
      blocks.push(block.join("\n"));
      block = [];
    }
    if (fence === null) fence = marker;
    else if (marker?.startsWith(fence) === true) fence = null;
    block.push(line);
  }
  blocks.push(block.join("\n"));
  return blocks;
}

/** Markdown, drawn block by block. */
export function Markdown({ text }: { text: string }) {
  const blocks = useMemo(() => blocksOf(text), [text]);
  return (
    <div className={styles.markdown}>
      {blocks.map((block, place) => (
        <Block key={place} text={block} />
      ))}
    </div>
  );
}
