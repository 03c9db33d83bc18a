/**
 * Cron expressions as people say them. What is not said here plainly is left to the expression and
 * its next times, which the server counts.
 */

const DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS = "1,2,3,4,5";
const WEEKEND = "0,6";

/** The most times of a day that are said one by one. */
const MOST_TIMES = 4;

/** What people choose from, without writing an expression. */
export type Rhythm =
  | { every: "hour"; minute: number }
  | { every: "day" | "weekday"; hour: number; minute: number }
  | { every: "week"; days: readonly number[]; hour: number; minute: number }
  | { every: "month"; day: number | "last"; hour: number; minute: number };

/** What the words of a language say; the catalogue of messages has them. */
export interface Phrases {
  everyMinutes: (step: number) => string;
  everyHour: (minute: number) => string;
  everyHours: (step: number) => string;
  everyDay: string;
  everyWeekday: string;
  weekend: string;
  onDays: (days: readonly number[]) => string;
  onNth: (nth: number, day: number) => string;
  onDates: (dates: readonly number[]) => string;
  lastDay: string;
  lastWeekday: string;
  inMonths: (months: readonly number[]) => string;
  at: (times: readonly string[]) => string;
}

/** The numbers that a field names, null if it names all or names them otherwise. */
function numbersOf(field: string, names: readonly string[], first: number, last: number): number[] | null {
  const found = new Set<number>();
  const numberOf = (text: string) => {
    const named = names.indexOf(text.toUpperCase());
    if (named >= 0) return named + first;
    return /^\d+$/.test(text) ? Number(text) : Number.NaN;
  };
  for (const part of field.split(",")) {
    const [from = "", to] = part.split("-");
    const low = numberOf(from);
    const high = to === undefined ? low : numberOf(to);
    const isRange = low >= first && high <= last && low <= high;
    if (!isRange) return null;
    for (let each = low; each <= high; each += 1) found.add(each);
  }
  return [...found].sort((one, other) => one - other);
}

/** Days of the week, with Sunday as 0. */
function daysOf(field: string): number[] | null {
  // 7 is Sunday too.
  const found = numbersOf(field, DAYS, 0, 7);
  return found && [...new Set(found.map((day) => day % 7))].sort((one, other) => one - other);
}

const two = (number: number) => String(number).padStart(2, "0");

/** "*" and a step: null for another field. */
function stepOf(field: string, of: number): number | null {
  const step = Number(/^\*\/(\d+)$/.exec(field)?.[1] ?? Number.NaN);
  // Only then are they as far apart over the end of the hour, or of the day.
  return Number.isInteger(step) && step > 0 && of % step === 0 ? step : null;
}

interface Fields {
  minute: string;
  hour: string;
  date: string;
  month: string;
  day: string;
}

function fieldsOf(expression: string): Fields | null {
  const [minute, hour, date, month, day, ...rest] = expression.trim().split(/\s+/);
  if (minute === undefined || hour === undefined || date === undefined || month === undefined) return null;
  // With six fields the first is seconds.
  return day === undefined || rest.length > 0 ? null : { minute, hour, date, month, day };
}

/** When the expression is due, in the words of `phrases`; null if it has no plain words. */
export function sentenceOfCron(expression: string, phrases: Phrases): string | null {
  const fields = fieldsOf(expression);
  if (fields === null) return null;
  const time = timeOf(fields, phrases);
  const days = daysSaid(fields, phrases);
  if (time === null || days === null) return null;
  const months = fields.month === "*" ? "" : monthsSaid(fields.month, phrases);
  if (months === null) return null;
  // "every 15 minutes" says that it is every day.
  const isAllDay = time.isAllDay && fields.date === "*" && fields.day === "*";
  const said = isAllDay ? [time.said, months] : time.isAllDay ? [time.said, days, months] : [days, months, time.said];
  return said.filter((part) => part !== "").join(", ").replace(/, (?=at )/, " ");
}

function timeOf({ minute, hour }: Fields, phrases: Phrases): { said: string; isAllDay: boolean } | null {
  const minutes = numbersOf(minute, [], 0, 59);
  const everyMinutes = minute === "*" ? 1 : stepOf(minute, 60);
  if (hour === "*") {
    if (everyMinutes !== null) return { said: phrases.everyMinutes(everyMinutes), isAllDay: true };
    const [only] = minutes ?? [];
    return minutes?.length === 1 && only !== undefined ? { said: phrases.everyHour(only), isAllDay: true } : null;
  }
  const everyHours = stepOf(hour, 24);
  if (everyHours !== null && minute === "0") return { said: phrases.everyHours(everyHours), isAllDay: true };
  const hours = numbersOf(hour, [], 0, 23);
  if (hours === null || minutes === null || hours.length * minutes.length > MOST_TIMES) return null;
  const times = hours.flatMap((each) => minutes.map((of) => `${two(each)}:${two(of)}`));
  return { said: phrases.at(times), isAllDay: false };
}

function daysSaid({ date, day }: Fields, phrases: Phrases): string | null {
  // With both, either is enough: no short sentence says that well.
  if (date !== "*" && day !== "*") return null;
  if (date.toUpperCase() === "L") return phrases.lastDay;
  if (date.toUpperCase() === "LW") return phrases.lastWeekday;
  if (date !== "*") {
    const dates = numbersOf(date, [], 1, 31);
    return dates && phrases.onDates(dates);
  }
  if (day === "*") return phrases.everyDay;
  const [, named = "", nth] = /^(\w+)#([1-5])$/.exec(day) ?? [];
  if (nth !== undefined) {
    const [only] = daysOf(named) ?? [];
    return only === undefined ? null : phrases.onNth(Number(nth), only);
  }
  const days = daysOf(day);
  if (days === null) return null;
  const key = days.join(",");
  if (days.length === 7) return phrases.everyDay;
  if (key === WEEKDAYS) return phrases.everyWeekday;
  return key === WEEKEND ? phrases.weekend : phrases.onDays(days);
}

function monthsSaid(field: string, phrases: Phrases): string | null {
  const months = numbersOf(field, MONTHS, 1, 12);
  return months && phrases.inMonths(months);
}

// ── what is chosen without an expression ─────────────────────────────────────────────────────────

/** The expression of a rhythm. */
export function cronOf(rhythm: Rhythm): string {
  if (rhythm.every === "hour") return `${rhythm.minute} * * * *`;
  const time = `${rhythm.minute} ${rhythm.hour}`;
  switch (rhythm.every) {
    case "day":
      return `${time} * * *`;
    case "weekday":
      return `${time} * * MON-FRI`;
    case "week":
      return `${time} * * ${rhythm.days.map((day) => DAYS[day]).join(",")}`;
    case "month":
      return `${time} ${rhythm.day === "last" ? "L" : rhythm.day} * *`;
  }
}

/** The rhythm of an expression, null if it is none of those that can be chosen. */
export function rhythmOf(expression: string): Rhythm | null {
  const fields = fieldsOf(expression);
  const minute = fields && only(numbersOf(fields.minute, [], 0, 59));
  if (fields === null || minute === null || fields.month !== "*") return null;
  const isEveryDay = fields.date === "*" && fields.day === "*";
  if (fields.hour === "*") return isEveryDay ? { every: "hour", minute } : null;
  const hour = only(numbersOf(fields.hour, [], 0, 23));
  if (hour === null) return null;
  if (isEveryDay) return { every: "day", hour, minute };
  if (fields.day === "*") {
    const day = fields.date.toUpperCase() === "L" ? "last" : only(numbersOf(fields.date, [], 1, 31));
    return day === null ? null : { every: "month", day, hour, minute };
  }
  const days = fields.date === "*" ? daysOf(fields.day) : null;
  if (days === null) return null;
  return days.join(",") === WEEKDAYS ? { every: "weekday", hour, minute } : { every: "week", days, hour, minute };
}

function only(numbers: number[] | null): number | null {
  const [first] = numbers ?? [];
  return numbers?.length === 1 && first !== undefined ? first : null;
}
