import { afterEach, expect, test, vi } from "vitest";

import { Assent, AssentError } from "../src/index.ts";

afterEach(() => vi.unstubAllGlobals());

test("a client with a key hears nothing that another tab was told", async () => {
  const opened = vi.fn();
  const nothing = async () => new Response(null, { status: 204 });
  vi.stubGlobal("BroadcastChannel", opened);
  vi.stubGlobal("navigator", { locks: { request: async () => {} } });
  const assent = new Assent({ url: "http://assent.example", key: "secret", fetch: nothing });
  for await (const event of assent.follow({ approvals: true, share: true })) expect(event).toBeNull();
  expect(opened).not.toHaveBeenCalled();
});

test("a number that was rounded as it was read is never sent", async () => {
  const fetched = vi.fn();
  const assent = new Assent({ url: "http://assent.example", fetch: fetched });
  const shown = { approval_id: "one", digest: "d" };
  const args: unknown = JSON.parse('{"account": [12345678901234567890]}');
  for (const decision of [
    { type: "edit", args: Object(args) } as const,
    { type: "respond", message: args } as const,
  ]) {
    await expect(assent.approvals.decide(shown, decision)).rejects.toThrow(AssentError);
  }
  await expect(assent.approvals.preview("one", Object(args))).rejects.toThrow(/Nothing was sent/);
  expect(fetched).not.toHaveBeenCalled();
});
