/** All words of the page, in English: one section a page, and those that pages share before them. */

const plural = new Intl.PluralRules("en");

/** "1 event", "2 events". */
function counted(count: number, one: string, other: string): string {
  const digits = new Intl.NumberFormat("en").format(count);
  return `${digits} ${plural.select(count) === "one" ? one : other}`;
}

export const messages = {
  name: "Assent",
  actions: {
    close: "Close",
    back: "Go back",
    copy: "Copy",
    copied: "Copied",
    cancel: "Cancel",
    save: "Save",
    more: "More",
    loadMore: "Show more",
    signIn: "Sign in",
    signOut: "Sign out",
  },
  states: {
    loading: "Loading",
    failed: "This could not be read",
    retry: "Try again",
    unreachable: "The server cannot be reached. Look whether it runs and whether you are online.",
    unknown: "Something failed in this page. Reload it; if it comes again, look at the server's log.",
    offline: "The server cannot be reached. What you see may be old; this page tries again by itself.",
    stale: "What you see may be old:",
    notFound: "There is no such page",
    notFoundHint: "The address may be cut off, or what it named was removed.",
    crashed: "This page failed",
    crashedHint: "Nothing was decided or changed by that. Reload the page to go on.",
    reload: "Reload",
  },
  time: {
    over: "time is over",
    left: (duration: string) => `${duration} left`,
    zone: (zone: string) => `Times are those of ${zone}.`,
  },
  json: {
    items: (count: number) => counted(count, "item", "items"),
    fields: (count: number) => counted(count, "field", "fields"),
    more: (characters: string, size: string) => `${characters} characters more (${size})`,
    moreEntries: (count: string) => `${count} more`,
    less: "Fold",
  },
  diff: {
    unchanged: (lines: number) => `${counted(lines, "line", "lines")} as before`,
    added: "Added:",
    removed: "Removed:",
  },
  form: {
    add: "Add one",
    remove: "Remove",
    invalid: (error: string) => `This is no JSON: ${error}`,
  },
  markdown: {
    image: (alt: string) => (alt === "" ? "[image]" : `[image: ${alt}]`),
    table: "Table",
  },
  layout: {
    skip: "Skip to the page",
    navigation: "Pages",
    chat: "Chat",
    inbox: "Inbox",
    runs: "Runs",
    agents: "Agents",
    schedules: "Schedules",
    grants: "Grants",
    audit: "Audit",
    notifications: "Notifications",
    more: "More",
    waiting: (count: number) => `${counted(count, "question waits", "questions wait")} for you`,
    theme: "Theme",
    themes: { system: "As the system", light: "Light", dark: "Dark" },
    account: "Account",
    local: "Without sign-in",
    docs: "API",
  },
  session: {
    over: "You are signed out",
    overHint: "Sign in again to go on. What you wrote is kept.",
  },
  status: {
    runs: {
      pending: "Waits its turn",
      running: "Running",
      cancelling: "Being cancelled",
      paused: "Waits for a person",
      success: "Done",
      failed: "Failed",
      cancelled: "Cancelled",
    },
    approvals: {
      pending: "Waiting",
      approved: "Approved",
      edited: "Approved with changes",
      rejected: "Rejected",
      answered: "Answered",
      expired: "Expired",
      cancelled: "Dropped",
      superseded: "Replaced",
    },
    risks: { low: "Low risk", medium: "Medium risk", high: "High risk", critical: "Critical" },
  },
};
