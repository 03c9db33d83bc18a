import { type ComponentType, lazy, type ReactNode, type SVGProps, Suspense, useState } from "react";
import { Link, useLocation } from "wouter";
import { useLink, useWaiting } from "../live.tsx";
import { messages } from "../messages/en.ts";
import { IconButton } from "../parts/Button.tsx";
import { Menu, type MenuItem } from "../parts/Menu.tsx";
import {
  BellIcon,
  ChatIcon,
  CheckIcon,
  ClockIcon,
  GraphIcon,
  InboxIcon,
  KeyIcon,
  MoonIcon,
  MoreIcon,
  PersonIcon,
  RunsIcon,
  ShieldIcon,
  SunIcon,
} from "../parts/icons.tsx";
import { LostLink } from "../parts/states.tsx";
import { chooseTheme, type Theme, useTheme } from "../theme.ts";
import styles from "./Layout.module.css";
import { type Me, useMe } from "./SessionGate.tsx";

const AccountDialog = lazy(() => import("../pages/account/AccountDialog.tsx"));

interface Place {
  to: string;
  word: string;
  Icon: ComponentType<SVGProps<SVGSVGElement>>;
  /** The right without which there is nothing to see there. */
  right?: Me["rights"][number];
}

const words = messages.layout;
const FIRST: Place[] = [
  { to: "/chat", word: words.chat, Icon: ChatIcon },
  { to: "/inbox", word: words.inbox, Icon: InboxIcon },
  { to: "/runs", word: words.runs, Icon: RunsIcon },
];
const SECOND: Place[] = [
  { to: "/agents", word: words.agents, Icon: GraphIcon },
  { to: "/schedules", word: words.schedules, Icon: ClockIcon },
  { to: "/grants", word: words.grants, Icon: KeyIcon },
  { to: "/audit", word: words.audit, Icon: ShieldIcon, right: "audit" },
  { to: "/notifications", word: words.notifications, Icon: BellIcon, right: "watch" },
];

const THEMES: Theme[] = ["system", "light", "dark"];

/** Whether `to`, or a place below it, is shown. */
function useIsHere(): (to: string) => boolean {
  const [location] = useLocation();
  return (to) => {
    if (to === "/inbox" && location.startsWith("/approvals/")) return true;
    if (to === "/runs" && location.startsWith("/threads/")) return true;
    return location === to || location.startsWith(`${to}/`);
  };
}

function usePlaces(places: Place[]): Place[] {
  const me = useMe();
  return places.filter((place) => place.right === undefined || me.rights.includes(place.right));
}

function Count() {
  const waiting = useWaiting();
  if (waiting === 0) return null;
  return (
    <span className={styles.count}>
      <span aria-hidden="true">{waiting > 99 ? "99+" : waiting}</span>
      <span className="sr-only">{words.waiting(waiting)}</span>
    </span>
  );
}

function PlaceLink({ place, here, tab }: { place: Place; here: boolean; tab?: boolean }) {
  const { to, word, Icon } = place;
  return (
    <Link href={to} className={tab ? styles.tab : styles.link} aria-current={here ? "page" : undefined}>
      <Icon />
      <span className={tab ? undefined : styles.word}>{word}</span>
      {to === "/inbox" && <Count />}
    </Link>
  );
}

function useThemeItems(): MenuItem[] {
  const theme = useTheme();
  return THEMES.map((each) => ({
    label: words.themes[each],
    icon: each === theme ? <CheckIcon /> : each === "dark" ? <MoonIcon /> : <SunIcon />,
    onSelect: () => chooseTheme(each),
  }));
}

function useAccountItems(onAccount: () => void): MenuItem[] {
  const themes = useThemeItems();
  return [{ label: words.accountDialog, icon: <PersonIcon />, onSelect: onAccount }, ...themes];
}

function Account({ onAccount }: { onAccount: () => void }) {
  const me = useMe();
  const items = useAccountItems(onAccount);
  return (
    <div className={styles.account}>
      <span className={styles.who} title={me.name}>
        {me.authentication === "local" ? words.local : me.name}
      </span>
      <Menu
        label={words.account}
        items={items}
        trigger={
          <IconButton small label={words.account}>
            <MoreIcon />
          </IconButton>
        }
      />
    </div>
  );
}

function Offline() {
  return useLink() === "lost" ? <LostLink>{messages.states.offline}</LostLink> : null;
}

function PhoneTabs({ onAccount }: { onAccount: () => void }) {
  const isHere = useIsHere();
  const others = usePlaces(SECOND);
  const account = useAccountItems(onAccount);
  const [, go] = useLocation();
  const items: MenuItem[] = others.map(({ to, word, Icon }) => ({
    label: word,
    icon: <Icon />,
    onSelect: () => go(to),
  }));
  return (
    <nav className={styles.bottom} aria-label={words.navigation}>
      {FIRST.map((place) => (
        <PlaceLink key={place.to} place={place} here={isHere(place.to)} tab />
      ))}
      <Menu
        label={words.more}
        items={[...items, ...account]}
        trigger={
          <button type="button" className={styles.tab}>
            <MoreIcon />
            <span>{words.more}</span>
          </button>
        }
      />
    </nav>
  );
}

/** What stands around every page: the ways to the others, who is here, and whether the server is. */
export function Layout({ children }: { children: ReactNode }) {
  const isHere = useIsHere();
  const first = usePlaces(FIRST);
  const second = usePlaces(SECOND);
  const [account, setAccount] = useState<"never" | "closed" | "open">("never");
  const showAccount = () => setAccount("open");
  return (
    <div className={styles.frame}>
      <a className={styles.skip} href="#main">
        {words.skip}
      </a>
      <nav className={styles.side} aria-label={words.navigation}>
        <Link href="/chat" className={styles.brand}>
          <span className={styles.seal}>
            <CheckIcon />
          </span>
          {messages.name}
        </Link>
        <div className={styles.links}>
          {first.map((place) => (
            <PlaceLink key={place.to} place={place} here={isHere(place.to)} />
          ))}
          <div className={styles.gap} />
          {second.map((place) => (
            <PlaceLink key={place.to} place={place} here={isHere(place.to)} />
          ))}
        </div>
        <Account onAccount={showAccount} />
      </nav>
      <main className={styles.main} id="main" tabIndex={-1}>
        <Offline />
        <div className={styles.scroll}>{children}</div>
      </main>
      <PhoneTabs onAccount={showAccount} />
      {account !== "never" && (
        <Suspense>
          <AccountDialog open={account === "open"} onOpenChange={(open) => setAccount(open ? "open" : "closed")} />
        </Suspense>
      )}
    </div>
  );
}
