/** The client of a server. */

import type {
  Agent,
  ApiKey,
  ApprovalForYou,
  AuditHead,
  AuditRecord,
  AuditVerification,
  Connection,
  Decision,
  EditPreview,
  EventPage,
  EventType,
  Grant,
  JsonObject,
  Me,
  Notification,
  Outcome,
  OutcomeOfOne,
  Query,
  Run,
  RunMessage,
  RunOptions,
  RunResult,
  Schedule,
  Schemas,
  ShownApproval,
  State,
  Thread,
  UpcomingSchedule,
} from "./api.ts";
import {
  follow,
  Place,
  type Followed,
  type Following,
  type FollowOptions,
  type Heard,
} from "./follow.ts";
import { Listing, type Page } from "./pages.ts";
import { AssentError, Changed, Conflict, isObject, Problem } from "./problems.ts";
import { shared } from "./shared.ts";
import {
  newKey,
  pathOf,
  surroundings,
  Wire,
  type Call,
  type KeyedOptions,
  type Options,
  type Surroundings,
} from "./wire.ts";

export interface Settings extends Partial<Surroundings> {
  /** The address of the server; in a page it may be relative, such as `..`. */
  readonly url: string;
  /** The secret of a key. In a page, leave it out and sign in: it is kept in a cookie then. */
  readonly key?: string | undefined;
  /** Whether cookies go with a request. */
  readonly credentials?: RequestCredentials | undefined;
  /** The longest wait for an answer, in milliseconds. */
  readonly timeout?: number | undefined;
}

type Cursor = { readonly cursor?: string | null | undefined };

/** A server's API. Each method throws an `AssentError`: what the server refuses is a `Problem`. */
export class Assent {
  /** The address of the server. */
  readonly url: string;
  readonly agents: Agents;
  readonly approvals: Approvals;
  readonly audit: Audit;
  readonly connections: Connections;
  readonly feeds: Feeds;
  readonly files: Files;
  readonly grants: Grants;
  readonly keys: Keys;
  readonly notifications: Notifications;
  readonly runs: Runs;
  readonly schedules: Schedules;
  readonly threads: Threads;
  readonly #wire: Wire;

  constructor(settings: Settings) {
    const { url, key, credentials, timeout = 60_000, ...around } = settings;
    const wire = new Wire(url, surroundings(around), { key, credentials, timeout });
    this.#wire = wire;
    this.url = wire.base;
    this.agents = new Agents(wire);
    this.approvals = new Approvals(wire);
    this.audit = new Audit(wire);
    this.connections = new Connections(wire);
    this.feeds = new Feeds(wire);
    this.files = new Files(wire);
    this.grants = new Grants(wire);
    this.keys = new Keys(wire);
    this.notifications = new Notifications(wire);
    this.runs = new Runs(wire);
    this.schedules = new Schedules(wire);
    this.threads = new Threads(wire);
  }

  /** Who asks, and what they may do. */
  me(options: Options = {}): Promise<Me> {
    return this.#wire.json({ method: "GET", path: "/me", ...options });
  }

  /** The names of the identity providers at which people sign in: `/session/login?issuer=` leads
   * to each. */
  async issuers(options: Options = {}): Promise<readonly string[]> {
    const call: Call = { method: "GET", path: "/session/issuers", ...options };
    return (await this.#wire.json<Schemas["IssuersView"]>(call)).issuers;
  }

  /** Exchange a key for the cookie of a session, and return who that is. */
  signIn(key: string, options: Options = {}): Promise<Schemas["SignedInView"]> {
    return this.#wire.json({ method: "POST", path: "/session", body: { key }, ...options });
  }

  /** End the session. Returns the page of the identity provider on which to sign out there too,
   * null if there is none. */
  signOut(options: Options = {}): Promise<string | null> {
    const call: Call = { method: "DELETE", path: "/session", ...options };
    return this.#wire.answer(call, async (response) => {
      const text = await response.text();
      const body: unknown = text ? JSON.parse(text) : null;
      return isObject(body) && typeof body["end_session"] === "string" ? body["end_session"] : null;
    });
  }

  /** The state and the version of the server's process. */
  health(options: Options = {}): Promise<Schemas["Health"]> {
    return this.#wire.json({ method: "GET", path: "/health", ...options });
  }

  /** The server's time, in milliseconds since 1970, as far as its answers have told. */
  serverNow(): number {
    return this.#wire.serverNow();
  }

  /**
   * Events past `after`, and then live, over any number of connections. A run's end with it; others
   * have no end. Ends when the `signal` is aborted, and throws what the server refuses for good: a
   * 401, 403 or 404. While the server is away it is tried again, for as long as it takes.
   */
  follow(wanted: Followed & FollowOptions): Following {
    const place = () => placeOf(wanted);
    const batches = () =>
      wanted.share && !this.#wire.hasKey && !("run" in wanted)
        ? shared(this.#wire, place(), wanted)
        : follow(this.#wire, place(), wanted);
    return {
      batches,
      async *[Symbol.asyncIterator](): AsyncGenerator<Heard, void, undefined> {
        for await (const batch of batches()) yield* batch;
      },
    };
  }
}

function placeOf(wanted: Followed & FollowOptions): Place {
  if ("thread" in wanted) return new Place(`${pathOf("threads", wanted.thread)}/events`, wanted);
  if ("run" in wanted) return new Place(`${pathOf("runs", wanted.run)}/stream`, wanted, true);
  if ("approvals" in wanted) return new Place("/approvals/stream", wanted);
  return new Place(feedPath(wanted.feed), wanted);
}

function feedPath(feed: { agent: string } | { user: string }): string {
  return "agent" in feed
    ? `${pathOf("agents", feed.agent)}/events`
    : `${pathOf("users", feed.user)}/events`;
}

/** Operations about one thing. */
class Group {
  protected readonly wire: Wire;

  constructor(wire: Wire) {
    this.wire = wire;
  }

  protected read<T>(path: string, options: Options, query?: object): Promise<T> {
    return this.wire.json({ method: "GET", path, query, signal: options.signal });
  }

  protected post<T>(path: string, body: unknown, options: Options): Promise<T> {
    return this.wire.json({ method: "POST", path, body, signal: options.signal });
  }

  protected keyed<T>(path: string, body: unknown, options: KeyedOptions): Promise<T> {
    const idempotencyKey = options.idempotencyKey ?? newKey();
    const { signal } = options;
    return this.wire.json({ method: "POST", path, body, signal, idempotencyKey, again: "keyed" });
  }

  protected patch<T>(path: string, body: unknown, options: Options): Promise<T> {
    return this.wire.json({ method: "PATCH", path, body, signal: options.signal });
  }

  protected remove(path: string, options: Options): Promise<void> {
    return this.wire.nothing({ method: "DELETE", path, signal: options.signal });
  }

  /** The list at the path, whose pages have their items under a name. */
  protected listing<T>(
    path: string,
    name: string,
    query: Cursor & object,
    options: Options,
  ): Listing<T> {
    const { cursor: first, ...wanted } = query;
    const pageAt = async (cursor: string | undefined): Promise<Page<T>> => {
      type Found = { readonly [name: string]: readonly T[] } & { readonly next: string | null };
      const found = await this.read<Found>(path, options, { ...wanted, cursor });
      return { items: found[name] ?? [], next: found.next };
    };
    return new Listing(pageAt, first);
  }
}

/** The agents that the server runs. */
class Agents extends Group {
  /** All agents. */
  async list(options: Options = {}): Promise<readonly Agent[]> {
    return (await this.read<Schemas["Agents"]>("/agents", options)).agents;
  }

  /** The graph of an agent, and its subgraphs: their nodes and edges. */
  graph(agent: string, options: Options = {}): Promise<Schemas["AgentGraphs"]> {
    return this.read(`${pathOf("agents", agent)}/graph`, options);
  }

  /** The JSON Schemas of an agent's input, output, state, config and context. */
  schemas(agent: string, options: Options = {}): Promise<Schemas["SchemasView"]> {
    return this.read(`${pathOf("assistants", agent)}/schemas`, options);
  }
}

/** Runs: what happens between a message or a decision and the next end or pause. */
class Runs extends Group {
  /**
   * Start a run with a message, on the thread `thread_id` or on a new one, and do not wait for it.
   * The graph's own `input` may take the place of the message, which is null then.
   */
  start(
    message: RunMessage | null,
    run: RunOptions = {},
    options: KeyedOptions = {},
  ): Promise<Run> {
    const body = message === null ? run : { ...run, message };
    return this.keyed("/agent/runs", body, options);
  }

  /** Start a run, and wait until it has ended or somebody is asked. */
  async invoke(
    message: RunMessage | null,
    run: RunOptions = {},
    options: KeyedOptions = {},
  ): Promise<RunResult> {
    const { run_id } = await this.start(message, run, options);
    return this.wait(run_id, options);
  }

  /** The run. */
  get(runId: string, options: Options = {}): Promise<Run> {
    return this.read(pathOf("runs", runId), options);
  }

  /** Runs, newest first. */
  list(query: Query<"/runs"> & Cursor = {}, options: Options = {}): Listing<Run> {
    return this.listing("/runs", "runs", query, options);
  }

  /** A page of its events, under the numbers of its thread. */
  events(runId: string, query: EventQuery = {}, options: Options = {}): Promise<EventPage> {
    return this.read(`${pathOf("runs", runId)}/events`, options, query);
  }

  /** The result of the run, once it has ended or somebody is asked. */
  async wait(runId: string, options: Options = {}): Promise<RunResult> {
    const path = `${pathOf("runs", runId)}/wait`;
    const call: Call = { method: "GET", path, query: { timeout: WAIT_SECONDS }, ...options };
    for (;;) {
      const ended = await this.wire.answer({ ...call, waits: WAIT_SECONDS * 1000 }, waited);
      if (ended !== null) return ended;
    }
  }

  /** Cancel the run; returns the runs of its thread that were asked to stop. */
  async cancel(
    runId: string,
    mode: Schemas["CancelMode"] = "interrupt",
    options: Options = {},
  ): Promise<readonly Run[]> {
    const path = `${pathOf("runs", runId)}/cancel`;
    return (await this.post<Schemas["CancelledRuns"]>(path, { mode }, options)).runs;
  }
}

/** One request waits so long for a run, so that a connection that is dead is noticed. */
const WAIT_SECONDS = 30;

/** The result in an answer, null if the run has not ended. */
async function waited(response: Response): Promise<RunResult | null> {
  const body: unknown = await response.json();
  return response.status === 202 || !isRunResult(body) ? null : body;
}

function isRunResult(value: unknown): value is RunResult {
  return isObject(value) && "output" in value && "run_id" in value;
}

/** Threads: conversations, their states and their events. */
class Threads extends Group {
  /** Make a thread. */
  create(
    thread: Partial<Schemas["ThreadRequest"]> = {},
    options: Options = {},
  ): Promise<Thread> {
    return this.post("/threads", thread, options);
  }

  /** The thread, with its state and what it waits for. */
  get(threadId: string, options: Options = {}): Promise<Thread> {
    return this.read(pathOf("threads", threadId), options);
  }

  /** Threads without their states, those that changed last first. */
  list(query: Query<"/threads"> & Cursor = {}, options: Options = {}): Listing<Thread> {
    return this.listing("/threads", "threads", query, options);
  }

  /** Threads with these ids, with nothing but their title and their status. */
  async summaries(
    threadIds: readonly string[],
    options: Options = {},
  ): Promise<readonly Pick<Thread, "thread_id" | "title" | "status">[]> {
    const select = ["thread_id", "title", "status"];
    const body = { ids: threadIds, select, limit: threadIds.length };
    return this.post("/threads/search", body, options);
  }

  /** Change these fields of its metadata; null takes one off. */
  change(threadId: string, metadata: JsonObject, options: Options = {}): Promise<Thread> {
    return this.patch(pathOf("threads", threadId), { metadata }, options);
  }

  /** Give it another title. */
  rename(threadId: string, title: string, options: Options = {}): Promise<Thread> {
    return this.patch(pathOf("threads", threadId), { title }, options);
  }

  /** Remove all of the thread but its audit rows. */
  delete(threadId: string, options: Options = {}): Promise<void> {
    return this.remove(pathOf("threads", threadId), options);
  }

  /** The state at the head of the thread, or at a checkpoint. */
  state(
    threadId: string,
    at: { checkpoint_id?: string; subgraphs?: boolean } = {},
    options: Options = {},
  ): Promise<State> {
    return this.read(`${pathOf("threads", threadId)}/state`, options, at);
  }

  /** What a run from the checkpoint without input, or a fork from it, would ask people anew. */
  asks(threadId: string, checkpointId: string, options: Options = {}): Promise<Schemas["StateAsks"]> {
    return this.read(`${pathOf("threads", threadId)}/state/${encodeURIComponent(checkpointId)}/asks`, options);
  }

  /** Write fields of the graph's input to the thread's state. */
  writeState(
    threadId: string,
    change: Schemas["StateChange"],
    options: KeyedOptions = {},
  ): Promise<Schemas["WrittenState"]> {
    return this.keyed(`${pathOf("threads", threadId)}/state`, change, options);
  }

  /** States of the thread, newest first: a page of them, or all that come. */
  history(
    threadId: string,
    query: { limit?: number; before?: string } = {},
    options: Options = {},
  ): Listing<State> {
    const { limit = 20, before } = query;
    const path = `${pathOf("threads", threadId)}/history`;
    const pageAt = async (cursor: string | undefined): Promise<Page<State>> => {
      const items = await this.read<State[]>(path, options, { limit, before: cursor });
      const last = items.length < limit ? undefined : items.at(-1);
      return { items, next: last?.checkpoint_id ?? null };
    };
    return new Listing(pageAt, before);
  }

  /** A new thread that starts with this one's state, at its head or at a checkpoint. */
  fork(
    threadId: string,
    fork: Partial<Schemas["ForkRequest"]> = {},
    options: KeyedOptions = {},
  ): Promise<Thread> {
    return this.keyed(`${pathOf("threads", threadId)}/fork`, fork, options);
  }

  /** Cancel all that runs or waits its turn there; those runs. */
  async cancel(
    threadId: string,
    mode: Schemas["CancelMode"] = "interrupt",
    options: Options = {},
  ): Promise<readonly Run[]> {
    const path = `${pathOf("threads", threadId)}/cancel`;
    return (await this.post<Schemas["CancelledRuns"]>(path, { mode }, options)).runs;
  }

  /** A page of its events past `after`, or back from `before`. */
  events(threadId: string, query: EventQuery = {}, options: Options = {}): Promise<EventPage> {
    return this.read(`${pathOf("threads", threadId)}/events`, options, query);
  }
}

/** Which events of a log: those past `after`, or the newest ones below `before`, or of all with
 * `end`. */
export interface EventQuery {
  readonly after?: number;
  readonly before?: number | "end";
  readonly types?: readonly EventType[];
  readonly limit?: number;
}

/** Approvals: what people are asked, and what they decide. */
class Approvals extends Group {
  /** The keys of decisions of which no answer has come yet. */
  readonly #keys = new Map<string, string>();

  /** Approvals, oldest first. */
  list(query: Query<"/approvals"> & Cursor = {}, options: Options = {}): Listing<ApprovalForYou> {
    return this.listing("/approvals", "approvals", query, options);
  }

  /** The approval, and what you may do about it. */
  get(approvalId: string, options: Options = {}): Promise<ApprovalForYou> {
    return this.read(pathOf("approvals", approvalId), options);
  }

  /** What an edit to these arguments would mean. */
  async preview(approvalId: string, args: JsonObject, options: Options = {}): Promise<EditPreview> {
    refuseRounded(args);
    return this.post(`${pathOf("approvals", approvalId)}/preview`, { args }, options);
  }

  /**
   * Decide about the approval exactly as it was shown. The same decision that is sent again, by
   * this client or by whoever calls it again after an error, is done once. Throws `AlreadyDecided`
   * if it is no longer pending, and `Changed` if something else is asked than was shown.
   */
  async decide(
    approval: ShownApproval,
    decision: Decision,
    options: KeyedOptions = {},
  ): Promise<Outcome> {
    const body = bound(approval, decision);
    const path = `${pathOf("approvals", approval.approval_id)}/decide`;
    return this.#deciding(path, body, options, approval.approval_id);
  }

  /** Decide several of a low risk, each as it was shown; what became of each, by its id. */
  async decideSeveral(
    decisions: readonly (readonly [ShownApproval, Decision])[],
    options: KeyedOptions = {},
  ): Promise<Readonly<Record<string, OutcomeOfOne>>> {
    const bodies = decisions.map(
      ([approval, decision]) => [approval.approval_id, bound(approval, decision)] as const,
    );
    const body = { decisions: Object.fromEntries(bodies) };
    const path = "/approvals/decide";
    return (await this.#deciding<Schemas["Outcomes"]>(path, body, options)).outcomes;
  }

  async #deciding<T>(
    path: string,
    body: object,
    options: KeyedOptions,
    approvalId?: string,
  ): Promise<T> {
    const same = `${path} ${JSON.stringify(body)}`;
    const idempotencyKey = options.idempotencyKey ?? this.#keys.get(same) ?? newKey();
    this.#keys.set(same, idempotencyKey);
    const { signal } = options;
    const call: Call = { method: "POST", path, body, signal, idempotencyKey, again: "deciding" };
    try {
      const outcome = await this.wire.json<T>(call);
      this.#keys.delete(same);
      return outcome;
    } catch (error) {
      if (error instanceof Problem && error.status < 500) this.#keys.delete(same);
      throw await this.#read(error, approvalId, options);
    }
  }

  /** The error, and with it what is asked now if that is not what was shown. */
  async #read(
    error: unknown,
    approvalId: string | undefined,
    options: Options,
  ): Promise<unknown> {
    const isOld = error instanceof Conflict && error.type.endsWith(":superseded");
    if (!isOld || approvalId === undefined) return error;
    const approval = await this.get(approvalId, options).catch(() => null);
    return new Changed(error.members, approval);
  }

  /** Withdraw your vote. */
  withdraw(approvalId: string, options: Options = {}): Promise<ApprovalForYou> {
    return this.post(`${pathOf("approvals", approvalId)}/withdraw`, undefined, options);
  }

  /** Delegate your voting right to a person or to a role. */
  delegate(
    approvalId: string,
    to: { readonly to: string } | { readonly role: string },
    options: Options = {},
  ): Promise<ApprovalForYou> {
    return this.post(`${pathOf("approvals", approvalId)}/delegate`, to, options);
  }

  /** Comment on it, which decides nothing. */
  comment(approvalId: string, text: string, options: Options = {}): Promise<ApprovalForYou> {
    return this.post(`${pathOf("approvals", approvalId)}/comment`, { text }, options);
  }

  /** A link by which somebody decides without a key. */
  link(
    approvalId: string,
    link: Schemas["LinkRequest"],
    options: Options = {},
  ): Promise<Schemas["LinkView"]> {
    return this.post(`${pathOf("approvals", approvalId)}/links`, link, options);
  }
}

/** The decision about exactly what was shown. */
function bound(approval: ShownApproval, decision: Decision): object {
  if (!isObject(approval) || typeof approval["digest"] !== "string") {
    throw new TypeError(
      "A decision is on an approval that was shown: get it with approvals.get(id), show it to " +
        "whoever decides, and give it here.",
    );
  }
  refuseRounded(decision);
  return { ...decision, digest: approval.digest };
}

/** Throws for a whole number that JavaScript may have rounded as it was read: another one than was
 * asked or written would be sent. */
function refuseRounded(value: unknown): void {
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new AssentError(
      `The number ${value} has more digits than JavaScript reads, so it may be another one than ` +
        "was meant. Nothing was sent. Decide with these in a terminal: assent approvals.",
    );
  }
  if (typeof value !== "object" || value === null) return;
  for (const each of Object.values(value)) refuseRounded(each);
}

/** Files that go with messages. */
class Files extends Group {
  /** Upload a file; a message names it by its `file_id`. */
  upload(
    bytes: Blob | ArrayBuffer | Uint8Array<ArrayBuffer>,
    name = "",
    options: Options = {},
  ): Promise<Schemas["FileView"]> {
    const query = { name: name || undefined };
    // A large one takes its time on a slow line.
    const waits = UPLOAD_SECONDS * 1000;
    const { signal } = options;
    return this.wire.json({ method: "POST", path: "/files", query, bytes, waits, signal });
  }

  /** Remove a file to which no thread refers. */
  delete(fileId: string, options: Options = {}): Promise<void> {
    return this.remove(pathOf("files", fileId), options);
  }
}

/** The longest that an upload may take. */
const UPLOAD_SECONDS = 600;

/** Grants: approvals in advance. */
class Grants extends Group {
  /** Approve in advance. */
  create(grant: Schemas["GrantRequest"], options: Options = {}): Promise<Grant> {
    return this.post("/grants", grant, options);
  }

  /** The grant. */
  get(grantId: string, options: Options = {}): Promise<Grant> {
    return this.read(pathOf("grants", grantId), options);
  }

  /** Grants, newest first. */
  list(query: Query<"/grants"> & Cursor = {}, options: Options = {}): Listing<Grant> {
    return this.listing("/grants", "grants", query, options);
  }

  /** Revoke it. */
  revoke(grantId: string, options: Options = {}): Promise<Grant> {
    const path = pathOf("grants", grantId);
    return this.wire.json({ method: "DELETE", path, signal: options.signal });
  }
}

/** What a schedule is made of; what has a default may be left out. */
export type NewSchedule = Pick<Schemas["ScheduleRequest"], "cron"> &
  Partial<Schemas["ScheduleRequest"]>;

/** Schedules: runs at set times. */
class Schedules extends Group {
  /** Make a schedule. */
  create(schedule: NewSchedule, options: Options = {}): Promise<UpcomingSchedule> {
    return this.post("/schedules", schedule, options);
  }

  /** The schedule, with its next times. */
  get(scheduleId: string, options: Options = {}): Promise<UpcomingSchedule> {
    return this.read(pathOf("schedules", scheduleId), options);
  }

  /** Schedules, newest first. */
  list(query: Query<"/schedules"> & Cursor = {}, options: Options = {}): Listing<Schedule> {
    return this.listing("/schedules", "schedules", query, options);
  }

  /** Change the fields that are given. */
  change(
    scheduleId: string,
    changes: Partial<Schemas["ScheduleChange"]>,
    options: Options = {},
  ): Promise<UpcomingSchedule> {
    return this.patch(pathOf("schedules", scheduleId), changes, options);
  }

  /** Remove it; its runs stay. */
  delete(scheduleId: string, options: Options = {}): Promise<void> {
    return this.remove(pathOf("schedules", scheduleId), options);
  }

  /** Run it now, in addition to its times. */
  runNow(scheduleId: string, options: KeyedOptions = {}): Promise<Run> {
    return this.keyed(`${pathOf("schedules", scheduleId)}/run`, {}, options);
  }

  /** When a schedule with this expression would run next. */
  async preview(
    query: { cron: string; timezone?: string; count?: number },
    options: Options = {},
  ): Promise<readonly string[]> {
    const path = "/schedules/preview";
    return (await this.read<Schemas["SchedulePreview"]>(path, options, query)).next_times;
  }
}

/** The audit chain: who did what, and when. */
class Audit extends Group {
  /** Records, oldest first. */
  list(query: Query<"/audit"> & Cursor = {}, options: Options = {}): Listing<AuditRecord> {
    return this.listing("/audit", "audit", query, options);
  }

  /** The last record's number and seal, null if there is none. */
  async head(options: Options = {}): Promise<AuditHead | null> {
    return (await this.read<Schemas["AuditHeadView"]>("/audit/head", options)).head;
  }

  /** Check all of it, and that it begins with what had this `head`. */
  verify(query: { head?: string } = {}, options: Options = {}): Promise<AuditVerification> {
    return this.read("/audit/verify", options, query);
  }
}

/** Notifications: what people were told of approvals. */
class Notifications extends Group {
  /** Notifications, newest first. */
  list(
    query: Query<"/notifications"> & Cursor = {},
    options: Options = {},
  ): Listing<Notification> {
    return this.listing("/notifications", "notifications", query, options);
  }

  /** The notification, with what was sent. */
  get(id: string, options: Options = {}): Promise<Schemas["NotificationWithData"]> {
    return this.read(pathOf("notifications", id), options);
  }

  /** Send it again. */
  resend(id: string, options: Options = {}): Promise<Notification> {
    return this.post(`${pathOf("notifications", id)}/resend`, undefined, options);
  }
}

/** Keys by which people and programs are known. */
class Keys extends Group {
  /** Make a key; its text is shown this once. */
  create(key: Schemas["KeyRequest"], options: Options = {}): Promise<Schemas["MadeKeyView"]> {
    return this.post("/keys", key, options);
  }

  /** Keys, newest first. */
  list(query: Query<"/keys"> & Cursor = {}, options: Options = {}): Listing<ApiKey> {
    return this.listing("/keys", "keys", query, options);
  }

  /** Revoke a key, and end its sessions. */
  revoke(keyId: string, options: Options = {}): Promise<ApiKey> {
    const path = pathOf("keys", keyId);
    return this.wire.json({ method: "DELETE", path, signal: options.signal });
  }
}

/** Streams that are open at the server. */
class Connections extends Group {
  /** Open streams, oldest first. */
  list(query: Query<"/connections"> & Cursor = {}, options: Options = {}): Listing<Connection> {
    return this.listing("/connections", "connections", query, options);
  }
}

/** Feeds: the events of all approvals, of an agent's runs, or of a person's. */
class Feeds extends Group {
  /** A page of the feed of all approvals. */
  approvals(query: EventQuery = {}, options: Options = {}): Promise<EventPage> {
    return this.read("/approvals/stream", options, query);
  }

  /** A page of an agent's feed. */
  agent(agent: string, query: EventQuery = {}, options: Options = {}): Promise<EventPage> {
    return this.read(feedPath({ agent }), options, query);
  }

  /** A page of a person's feed. */
  user(user: string, query: EventQuery = {}, options: Options = {}): Promise<EventPage> {
    return this.read(feedPath({ user }), options, query);
  }
}
