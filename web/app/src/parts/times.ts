/**
 * Times and amounts as people read them. The zone is the browser's, everywhere; "now" is the
 * server's, as its answers say, since what is over is decided there.
 */

const LOCALE = "en";
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The name of the zone in which the page shows times, as "Europe/Berlin". */
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

let ahead = 0;

/** Learns how far the server's clock is ahead of the browser's, from the `Date` of an answer. */
export function learnServerTime(header: string | null, now: number = Date.now()): void {
  const said = header === null ? Number.NaN : Date.parse(header);
  // The header has whole seconds, so half of one is the likeliest remainder.
  if (!Number.isNaN(said)) ahead = Math.abs(said - now) < 2 * SECOND ? 0 : said + SECOND / 2 - now;
}

/** The server's time in milliseconds. */
export function serverNow(): number {
  return Date.now() + ahead;
}

const full = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "long", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short" });
const dayAndYear = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clockSeconds = new Intl.DateTimeFormat(LOCALE, { timeStyle: "medium", hourCycle: "h23" });
const clockMillis = new Intl.DateTimeFormat(LOCALE, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});
const relative = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto", style: "short" });

export function fullTime(at: string): string {
  return full.format(new Date(at));
}

export function clockTime(at: string): string {
  return clockSeconds.format(new Date(at));
}

/** "14:03:07.250". */
export function preciseTime(at: string): string {
  return clockMillis.format(new Date(at));
}

/** "in 5 min.", "2 hr. ago", and beyond a week the date. */
export function relativeTime(at: string, now: number = serverNow()): string {
  const then = Date.parse(at);
  const away = then - now;
  const distance = Math.abs(away);
  if (distance < 10 * SECOND) return "now";
  if (distance < MINUTE) return relative.format(Math.trunc(away / SECOND), "second");
  if (distance < HOUR) return relative.format(Math.trunc(away / MINUTE), "minute");
  if (distance < DAY) return relative.format(Math.trunc(away / HOUR), "hour");
  if (distance < 7 * DAY) return relative.format(Math.trunc(away / DAY), "day");
  const sameYear = new Date(then).getFullYear() === new Date(now).getFullYear();
  return sameYear ? `${day.format(then)}, ${clock.format(then)}` : dayAndYear.format(then);
}

/** "1.2 s", "3 min 20 s", "2 d 4 h": two units at most. */
export function duration(milliseconds: number): string {
  if (milliseconds < SECOND) return `${Math.max(0, Math.round(milliseconds))} ms`;
  if (milliseconds < 10 * SECOND) return `${(milliseconds / SECOND).toFixed(1)} s`;
  if (milliseconds < MINUTE) return `${Math.round(milliseconds / SECOND)} s`;
  const steps: [number, string, number, string][] = [
    [DAY, "d", HOUR, "h"],
    [HOUR, "h", MINUTE, "min"],
    [MINUTE, "min", SECOND, "s"],
  ];
  for (const [large, largeName, small, smallName] of steps) {
    if (milliseconds < large) continue;
    const wholes = Math.floor(milliseconds / large);
    const rest = Math.floor((milliseconds % large) / small);
    return rest === 0 ? `${wholes} ${largeName}` : `${wholes} ${largeName} ${rest} ${smallName}`;
  }
  return `${Math.round(milliseconds / SECOND)} s`;
}

const grouped = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 6 });
export function number(value: number): string {
  return grouped.format(value);
}

/** "812 B", "12.4 kB", "3.1 MB". */
export function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  if (count < 1_000_000) return `${(count / 1000).toFixed(1)} kB`;
  return `${(count / 1_000_000).toFixed(1)} MB`;
}

/** A cost in US dollars, with as many digits as tell something. */
export function dollars(amount: number): string {
  const digits = amount !== 0 && Math.abs(amount) < 0.01 ? 4 : 2;
  return new Intl.NumberFormat(LOCALE, {
    style: "currency",
    currency: "USD",
    minimumFractionDigits: digits,
  }).format(amount);
}
