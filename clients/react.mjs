/** Hooks of React at work in a page, as a browser would run them. */

import { after } from "node:test";

import { JSDOM } from "jsdom";

import { until } from "./harness.mjs";

const { window } = new JSDOM("", { url: "http://localhost" });
globalThis.window = window;
globalThis.document = window.document;
globalThis.navigator ??= window.navigator;
process.env.NODE_ENV ??= "production";

// React looks for the page as it is loaded.
const { createElement } = await import("react");
const { createRoot } = await import("react-dom/client");

/**
 * A page that calls the hook: `{ now, until(check), unmount() }`, where `now` is what the hook
 * returned last.
 */
export async function mounted(hook, around = ({ children }) => children) {
  const page = {};
  function Page() {
    page.now = hook();
    return null;
  }
  const root = createRoot(window.document.createElement("div"));
  root.render(createElement(around, null, createElement(Page)));
  page.until = (check) => until(() => page.now !== undefined && check(page.now), check);
  page.unmount = () => root.unmount();
  after(page.unmount);
  await page.until(() => true);
  return page;
}
