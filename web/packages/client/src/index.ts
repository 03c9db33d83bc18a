export * from "./api.ts";
export { Assent, type EventQuery, type NewSchedule, type Settings } from "./client.ts";
export type { Followed, Following, FollowOptions, Gap, Heard, LinkNews, LinkState } from "./follow.ts";
export { Listing, type Page } from "./pages.ts";
export * from "./problems.ts";
export { newKey, sleep, type KeyedOptions, type Options, type Surroundings } from "./wire.ts";
export { EMPTY, fold } from "./fold.ts";
export type * from "./view.ts";
export { unseen, visible, type Segment, type SegmentKind } from "./visible.ts";
