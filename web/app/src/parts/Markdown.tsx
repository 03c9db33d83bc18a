/** Markdown of agents and people, without raw HTML, foreign images or links that run something. */

import type { ComponentProps } from "react";
import { gfmFromMarkdown } from "mdast-util-gfm";
import { gfm } from "micromark-extension-gfm";
import { memo, useEffect, useMemo, useRef } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import { messages } from "../messages/en.ts";
import { type Block, type Blocks, blocksOf, codeIn } from "./blocks.ts";
import styles from "./Markdown.module.css";
import { Marked } from "./Marked.tsx";

const ADDRESSES = /^(https?:\/\/|mailto:)/i;

interface Parser {
  data(): { settings?: unknown; micromarkExtensions?: unknown[]; fromMarkdownExtensions?: unknown[] };
}

/** Reads GitHub's Markdown as remark-gfm does, without its larger half, which would write it. */
function readGfm(this: Parser) {
  const data = this.data();
  (data.micromarkExtensions ??= []).push(gfm());
  (data.fromMarkdownExtensions ??= []).push(gfmFromMarkdown());
}

const PLUGINS = [readGfm];

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

// ── pieces ──

/** Puts what certain elements of a piece hold in their place: the list or the table that the pieces
 * are of is around it. What else there is stays. */
function unwrap(names: readonly string[], wanted: (branch: Branch) => boolean) {
  return () => (tree: Branch) => {
    tree.children = tree.children?.flatMap((branch) => {
      if (!names.includes(branch.tagName ?? "")) return branch.value?.trim() === "" ? [] : [branch];
      return (branch.children ?? []).filter((each) => each.type === "element" && wanted(each));
    });
  };
}

const PLUGINS_OF = {
  text: [markUnseen],
  items: [markUnseen, unwrap(["ul", "ol"], () => true)],
  head: [markUnseen, unwrap(["table"], () => true)],
  rows: [markUnseen, unwrap(["table"], (each) => each.tagName === "tbody")],
};

/** What is parsed alone. Drawn anew only when its text has changed. */
const Piece = memo(function Piece({ of, text }: { of: keyof typeof PLUGINS_OF; text: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} rehypePlugins={PLUGINS_OF[of]} components={COMPONENTS} skipHtml={false}>
      {text}
    </ReactMarkdown>
  );
});

const Code = memo(function Code({ text }: { text: string }) {
  return PLAIN.test(text) ? text : <Marked text={text} />;
});

const BlockView = memo(function BlockView({ block }: { block: Block }) {
  switch (block.kind) {
    case "text":
      return <Piece of="text" text={block.text} />;
    case "list": {
      const items = block.pieces.map((text, place) => <Piece key={place} of="items" text={text} />);
      return block.start === null ? <ul>{items}</ul> : <ol start={block.start}>{items}</ol>;
    }
    case "table":
      return (
        <Table>
          {block.pieces.map((text, place) =>
            place === 0 ? <Piece key={place} of="head" text={text} /> : <Piece key={place} of="rows" text={block.head + text} />,
          )}
        </Table>
      );
    case "code":
      return (
        <Preformatted>
          <code>
            {block.pieces.map((_, place) => (
              <Code key={place} text={codeIn(block, place)} />
            ))}
          </code>
        </Preformatted>
      );
  }
});

/** Markdown, block by block: while it grows, only its end is parsed. */
export function Markdown({ text }: { text: string }) {
  const before = useRef<Blocks | undefined>(undefined);
  const found = useMemo(() => blocksOf(text, before.current), [text]);
  useEffect(() => {
    before.current = found;
  }, [found]);
  return (
    <div className={styles.markdown}>
      {found.blocks.map((block, place) => (
        <div key={place} className={styles.block}>
          <BlockView block={block} />
        </div>
      ))}
    </div>
  );
}
