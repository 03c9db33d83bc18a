/** The inbox: what waits for a decision, one after the other, and what was decided. */

import type { Approval, ApprovalForYou } from "@assent/client";
import { useQuery } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { Link, useLocation } from "wouter";
import { assent } from "../../assent.ts";
import { useTitle } from "../../layout/Page.tsx";
import { useMe } from "../../layout/SessionGate.tsx";
import { messages } from "../../messages/en.ts";
import { useAnnounce } from "../../parts/Announcer.tsx";
import { Button, IconButton } from "../../parts/Button.tsx";
import { CheckIcon, InboxIcon, KeyboardIcon } from "../../parts/icons.tsx";
import { Marked } from "../../parts/Marked.tsx";
import { Empty, ErrorState, Loading, Notice, Stale } from "../../parts/states.tsx";
import { number } from "../../parts/times.ts";
import { ApprovalCard, type CardHandle } from "../approval/ApprovalCard.tsx";
import { decidedSentence } from "../approval/deciding.ts";
import { changeDraft, draftOf } from "../approval/desk.ts";
import { nameOf, titleOf } from "../approval/question.ts";
import { Bulk, isForBulk } from "./Bulk.tsx";
import { Filters } from "./Filters.tsx";
import { Help } from "./Help.tsx";
import styles from "./InboxPage.module.css";
import { type Keys, useKeys, useShortcutsWanted } from "./keys.ts";
import { filtersIn, MOST, useListed, useWanted, type Wanted } from "./list.ts";
import { Row } from "./Row.tsx";

const words = messages.inbox;

/** From here on the card stands beside the list; below, it has a page of its own. */
const WIDE = "(min-width: 62rem)";

function useIsWide(): boolean {
  const [isWide, setIsWide] = useState(() => matchMedia(WIDE).matches);
  useEffect(() => {
    const query = matchMedia(WIDE);
    const onChange = () => setIsWide(query.matches);
    query.addEventListener("change", onChange);
    return () => query.removeEventListener("change", onChange);
  }, []);
  return isWide;
}

/** The approval of this id: as it is listed, else as the server has it, else as it was last seen. */
function useSelected(id: string, rows: ApprovalForYou[]) {
  const listed = rows.find((row) => row.approval_id === id);
  const one = useQuery({
    queryKey: ["approvals", "one", id],
    queryFn: () => assent.approvals.get(id),
    enabled: id !== "" && listed === undefined,
  });
  const last = useRef<ApprovalForYou | undefined>(undefined);
  const found = listed ?? one.data;
  if (found !== undefined) last.current = found;
  const held = last.current?.approval_id === id ? last.current : undefined;
  return { selected: found ?? held, error: held === undefined ? one.error : null };
}

export default function InboxPage() {
  const [wanted, want] = useWanted();
  const { listed, rows } = useListed(wanted);
  const isWide = useIsWide();
  const me = useMe();
  const announce = useAnnounce();
  const [, go] = useLocation();
  const [isHelpOpen, setIsHelpOpen] = useState(false);
  const [keysWanted, wantKeys] = useShortcutsWanted();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [last, setLast] = useState<Approval | null>(null);
  const card = useRef<CardHandle>(null);
  const search = useRef<HTMLInputElement>(null);
  const list = useRef<ListHandle>(null);
  const pane = useRef<HTMLDivElement>(null);
  const title = useRef<HTMLHeadingElement>(null);
  /** What was decided here, and may be listed until the list is read anew. */
  const over = useRef(new Set<string>());
  useTitle(words.title);

  const id = isWide ? wanted.id : "";
  const { selected, error } = useSelected(id, rows);
  // Where the selected one stands, or stood: the next one is counted from there.
  const place = useRef(0);
  const at = rows.findIndex((row) => row.approval_id === id);
  if (at >= 0) place.current = at;

  const select = useCallback(
    (approvalId: string) => {
      if (isWide) want({ id: approvalId });
      else go(`/approvals/${encodeURIComponent(approvalId)}`);
    },
    [isWide, want, go],
  );

  const move = (step: 1 | -1) => {
    const from = at >= 0 ? at + step : step > 0 ? place.current : place.current - 1;
    const next = rows[Math.min(Math.max(from, 0), rows.length - 1)];
    if (next === undefined) return;
    want({ id: next.approval_id });
    list.current?.focus(next.approval_id);
  };

  const choose = useCallback((approvalId: string, isChosen: boolean) => {
    setChosen((before) => {
      const after = new Set(before);
      if (isChosen) after.add(approvalId);
      else after.delete(approvalId);
      return after;
    });
  }, []);

  const onlySelected = (work: (handle: CardHandle) => void) => (event: KeyboardEvent) => {
    if (card.current === null) return;
    event.preventDefault();
    work(card.current);
  };
  const keys: Keys = {
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: (event) => {
      event.preventDefault();
      move(1);
    },
    ArrowUp: (event) => {
      event.preventDefault();
      move(-1);
    },
    Enter: (event) => {
      // A button that has the focus is pressed by it; only a row leads to the card.
      const target = event.target instanceof HTMLElement ? event.target : null;
      const isRow = target?.closest("[data-rows]") !== null && target?.tagName === "BUTTON";
      if (target !== document.body && !isRow) return;
      if (!isWide) return;
      event.preventDefault();
      card.current?.focus();
    },
    a: onlySelected((handle) => handle.arm()),
    r: onlySelected((handle) => handle.reject()),
    e: onlySelected((handle) => handle.edit()),
    x: () => {
      const row = rows[at];
      if (row !== undefined && isForBulk(row)) choose(row.approval_id, !chosen.has(row.approval_id));
    },
    "/": (event) => {
      event.preventDefault();
      search.current?.focus();
    },
    "?": () => setIsHelpOpen(true),
    Escape: () => {
      if (selected !== undefined && draftOf(id).open !== null && !draftOf(id).busy) changeDraft(id, { open: null });
    },
  };
  for (let digit = 1; digit <= 9; digit += 1) keys[String(digit)] = onlySelected((handle) => handle.choose(digit - 1));
  const { quiet, isResting } = useKeys(keys, keysWanted && isWide);

  // What stands under the keys is other than a moment ago.
  const order = rows.map((row) => row.approval_id).join(" ");
  useEffect(() => quiet(), [order, quiet]);

  // Something is selected as long as there is something.
  const isLeft = (row: ApprovalForYou) => wanted.view === "decided" || !over.current.has(row.approval_id);
  const first = rows.find(isLeft)?.approval_id;
  useEffect(() => {
    if (isWide && wanted.id === "" && first !== undefined) want({ id: first });
  }, [isWide, wanted.id, first, want]);

  useEffect(() => {
    pane.current?.scrollTo({ top: 0 });
  }, [id]);

  const shown = useRef<{ id: string; rows: ApprovalForYou[] } | null>(null);
  // The page has no layout while the next one is on its way, and moves nobody any more.
  useLayoutEffect(() => {
    shown.current = { id, rows };
    return () => {
      shown.current = null;
    };
  }, [id, rows]);
  const onDecided = useCallback(
    (approval: Approval) => {
      if (approval.status === "pending") return;
      over.current.add(approval.approval_id);
      setLast(approval);
      // Whoever has gone on meanwhile stays where they are.
      if (shown.current?.id !== approval.approval_id) return;
      const others = shown.current.rows.filter((row) => !over.current.has(row.approval_id));
      const next = others[Math.min(place.current, others.length - 1)];
      quiet();
      const said = decidedSentence(approval, me.name);
      announce(`${said}. ${next === undefined ? words.nothingNext : words.next(titleOf(next))}`);
      want({ id: next?.approval_id ?? "" });
      if (next === undefined) title.current?.focus();
      else list.current?.focus(next.approval_id);
    },
    [quiet, me.name, announce, want],
  );

  const forBulk = wanted.view === "decided" ? [] : rows.filter(isForBulk);
  const chosenRows = forBulk.filter((row) => chosen.has(row.approval_id));
  return (
    <div className={styles.inbox}>
      <section className={styles.side} aria-label={words.list}>
        <div className={styles.sideHead}>
          <div className={styles.titleRow}>
            <h1 ref={title} tabIndex={-1} className={styles.title}>
              {words.title}
            </h1>
            {isWide && (
              <IconButton small label={words.shortcuts} onClick={() => setIsHelpOpen(true)}>
                <KeyboardIcon />
              </IconButton>
            )}
          </div>
          <Filters
            wanted={wanted}
            searchRef={search}
            onChange={(change) => {
              quiet();
              want({ id: "", ...change });
            }}
          />
          <Bulk
            chosen={chosenRows}
            all={forBulk}
            onChoose={(approvals) => setChosen(new Set(approvals.map((approval) => approval.approval_id)))}
          />
          {listed.error !== null && listed.data !== undefined && (
            <Stale error={listed.error} retry={() => void listed.refetch()} />
          )}
        </div>
        {listed.data === undefined ? (
          listed.error !== null ? (
            <ErrorState error={listed.error} retry={() => void listed.refetch()} />
          ) : (
            <Loading />
          )
        ) : rows.length === 0 ? (
          <Nothing wanted={wanted} onChange={want} />
        ) : (
          <Rows
            handle={list}
            rows={rows}
            selected={id}
            chosen={chosen}
            withChecks={wanted.view !== "decided"}
            onSelect={select}
            onChoose={choose}
            end={
              listed.data.isCut && (
                <p className={styles.hint}>
                  {wanted.q === "" ? words.tooMany(number(MOST)) : words.searchedIn(number(MOST))}
                </p>
              )
            }
          />
        )}
      </section>
      {isWide && (
        <section ref={pane} className={styles.pane} aria-label={messages.approval.card}>
          {isResting && <Notice urgent>{words.resting}</Notice>}
          {last !== null && last.approval_id !== id && <LastOne approval={last} me={me.name} />}
          {selected !== undefined ? (
            <ApprovalCard key={selected.approval_id} approval={selected} handle={card} onDecided={onDecided} />
          ) : error !== null ? (
            <ErrorState error={error} />
          ) : (
            rows.length > 0 && (
              <div className={styles.none}>
                <InboxIcon />
                <p>{words.none}</p>
              </div>
            )
          )}
        </section>
      )}
      <Help open={isHelpOpen} onOpenChange={setIsHelpOpen} wanted={keysWanted} onWanted={wantKeys} />
    </div>
  );
}

/** What the reader has decided last, since it is gone from the list. */
function LastOne({ approval, me }: { approval: Approval; me: string }) {
  return (
    <div className={styles.last}>
      <CheckIcon />
      <span>
        {words.last} <Marked text={decidedSentence(approval, me)} />:{" "}
        <Link href={`/approvals/${encodeURIComponent(approval.approval_id)}`}>
          <Marked text={nameOf(approval)} />
        </Link>
      </span>
    </div>
  );
}

function Nothing({ wanted, onChange }: { wanted: Wanted; onChange: (change: Partial<Wanted>) => void }) {
  const { view, q } = wanted;
  if (q !== "" || filtersIn(wanted) > 0) {
    const clear = () => onChange({ q: "", agent: "", tool: "", risk: "", status: "" });
    return <Empty title={words.empty.filtered} actions={<Button onClick={clear}>{words.clear}</Button>} />;
  }
  const hints = { mine: words.empty.mineHint, waiting: words.empty.waitingHint, decided: words.empty.decidedHint };
  const all = view === "mine" && <Button onClick={() => onChange({ view: "waiting" })}>{words.empty.all}</Button>;
  return (
    <Empty icon={<CheckIcon />} title={words.empty[view]} actions={all}>
      {hints[view]}
    </Empty>
  );
}

interface ListHandle {
  focus: (approvalId: string) => void;
}

interface RowsProps {
  handle: RefObject<ListHandle | null>;
  rows: ApprovalForYou[];
  selected: string;
  chosen: ReadonlySet<string>;
  withChecks: boolean;
  onSelect: (approvalId: string) => void;
  onChoose: (approvalId: string, isChosen: boolean) => void;
  end: ReactNode;
}

/** Pixels: what a row is taken to be high before it is measured. */
const ROW = 84;

function Rows({ handle, rows, selected, chosen, withChecks, onSelect, onChoose, end }: RowsProps) {
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW,
    getItemKey: (place) => rows[place]?.approval_id ?? place,
    overscan: 8,
  });
  const at = rows.findIndex((row) => row.approval_id === selected);
  // One row can always be reached by Tab, selected or not.
  const reachable = at >= 0 ? selected : rows[0]?.approval_id;
  const asked = useRef<string | null>(null);

  useEffect(() => {
    if (at >= 0) virtual.scrollToIndex(at, { align: "auto" });
    // Only another selection moves the list; what arrives does not.
    // eslint-disable-next-line
  }, [selected]);

  useEffect(() => {
    handle.current = {
      focus: (approvalId) => {
        asked.current = approvalId;
      },
    };
  }, [handle]);

  // A row that is to have the focus may not be drawn yet.
  useEffect(() => {
    if (asked.current === null || asked.current !== selected) return;
    const row = scroll.current?.querySelector<HTMLElement>(`[data-row="${CSS.escape(selected)}"] button`);
    if (row === null || row === undefined) return;
    row.focus({ preventScroll: true });
    asked.current = null;
  });

  return (
    <div ref={scroll} className={styles.scroll}>
      <ul className={styles.rows} data-rows style={{ height: virtual.getTotalSize() }}>
        {virtual.getVirtualItems().map((item) => {
          const row = rows[item.index];
          if (row === undefined) return null;
          const rowId = row.approval_id;
          return (
            <li
              key={rowId}
              ref={virtual.measureElement}
              data-index={item.index}
              data-row={rowId}
              aria-setsize={rows.length}
              aria-posinset={item.index + 1}
              className={styles.rowPlace}
              style={{ transform: `translateY(${item.start}px)` }}
            >
              <Row
                approval={row}
                isSelected={rowId === selected}
                isReachable={rowId === reachable}
                isChosen={withChecks && isForBulk(row) ? chosen.has(rowId) : null}
                onSelect={onSelect}
                onChoose={onChoose}
              />
            </li>
          );
        })}
      </ul>
      {end}
    </div>
  );
}
