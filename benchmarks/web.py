"""The page's chat in a browser: a conversation of 10,000 events, and one message of 6,000 tokens as
it comes, against a plain page that prints the same tokens as text.

Run alone with `python -m benchmarks web`. It takes the page as it was built last (`make page`), and
the Chromium of the tests. What blocks a page is what the browser itself counts as long tasks, of
more than 50 ms each. On a busy machine they are those of its other programs too, so the processor
time of the page's thread stands beside them. Both pages are from the same run.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

import assent
from benchmarks.server import served
from benchmarks.sizes import sized
from benchmarks.tokens import ratio
from tests.support.browser import chromium

BUILT = Path(assent.__file__).parent / "ui" / "index.html"

EVENTS = sized(10_000, 200)
TOKENS = sized(6_000, 60)
SETTLED_SECONDS = 2.0
NODES = 500
LONG_SECONDS = 1.0
PATIENCE_MS = 120_000

WATCH = """
window.blocked = 0;
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) window.blocked += each.duration;
}).observe({ type: "longtask", buffered: true });
"""

PRINT = """
async (path) => {
  const response = await fetch(path);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const shown = document.createElement("pre");
  document.body.append(shown);
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const event = JSON.parse(line.slice(6));
      if (event.type === "token") shown.append(event.content);
      if (event.type === "done") return;
    }
  }
}
"""
"""The plain page: each token is appended to one text as it comes."""


def asked(port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON of an answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json", "accept": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def fill(port: int, thread: str) -> None:
    """Talk on the thread until it has so many events."""
    last = 0
    while last < EVENTS:
        asked(port, "/agent/invoke", {"message": "400", "thread_id": thread})
        last = asked(port, f"/threads/{thread}/events?before=end&limit=1")["last"]


def opened(browser: Browser, port: int, *, plain: bool = False) -> Page:
    """A page whose long tasks are counted. The plain one is under no policy."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{port}", bypass_csp=plain)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(WATCH)
    return context.new_page()


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of long tasks, and of processor time of the page's thread."""

    blocked: float
    worked: float

    def since(self, before: Spent) -> Spent:
        """What was spent after that."""
        return Spent(self.blocked - before.blocked, self.worked - before.worked)

    def __str__(self) -> str:
        return f"{self.blocked:7.2f} in long tasks {self.worked:7.2f} of the processor"


def watching(page: Page) -> Callable[[], Spent]:
    """What the page has spent so far, whenever it is called."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> Spent:
        metrics = session.send("Performance.getMetrics")["metrics"]
        worked = next(each["value"] for each in metrics if each["name"] == "TaskDuration")
        return Spent(float(page.evaluate("() => window.blocked")) / 1000, worked)

    return spent


def settle(browser: Browser, port: int) -> tuple[float, int]:
    """The seconds until the conversation is there, and the nodes of the page then."""
    page = opened(browser, port)
    started = time.perf_counter()
    page.goto("/ui/chat/long")
    page.get_by_role("log").get_by_role("link", name="Timeline").last.wait_for()
    seconds = time.perf_counter() - started
    nodes = int(page.evaluate("() => document.querySelectorAll('*').length"))
    page.context.close()
    return seconds, nodes


def streamed(browser: Browser, port: int) -> tuple[Spent, Spent]:
    """What the chat and the plain page spend while a message comes."""
    asked(port, "/agent/invoke", {"message": "1", "thread_id": "chat"})
    chat = opened(browser, port)
    chat.goto("/ui/chat/chat")
    chat.get_by_role("link", name="Timeline").wait_for()
    spent = watching(chat)
    before = spent()
    asked(port, "/agent/runs", {"message": f"{TOKENS} flowing", "thread_id": "chat"})
    chat.get_by_text(f"{TOKENS} flowing").last.wait_for()
    chat.get_by_role("link", name="Timeline").last.wait_for()
    chat.get_by_role("button", name="Stop").wait_for(state="detached")
    in_chat = spent().since(before)
    chat.context.close()

    asked(port, "/threads", {"thread_id": "plain"})
    plain = opened(browser, port, plain=True)
    plain.goto("/health")
    run = asked(port, "/agent/runs", {"message": f"{TOKENS} flowing", "thread_id": "plain"})
    spent = watching(plain)
    before = spent()
    plain.evaluate(PRINT, f"/runs/{run['run_id']}/stream")
    in_plain = spent().since(before)
    plain.context.close()
    return in_chat, in_plain


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    if not BUILT.exists():
        print("The page is not built, so it was not measured: make page.")
        return
    try:
        program = chromium()
    except AssertionError as missing:
        print(f"The page was not measured. {missing}")
        return
    with served("flowing") as (_, port), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--headless=shell"]
        )
        fill(port, "long")
        seconds, nodes = settle(browser, port)
        print(f"A conversation of {EVENTS:,} events")
        ratio("seconds until it is there", seconds, at_most=SETTLED_SECONDS)
        ratio("nodes in the page", nodes, at_most=NODES)

        in_chat, in_plain = streamed(browser, port)
        print(f"A message of {TOKENS:,} tokens as it comes: seconds")
        print(f"  {'in a plain page':24} {in_plain}")
        print(f"  {'in the chat':24} {in_chat}")
        ratio("in long tasks", in_chat.blocked, at_most=LONG_SECONDS)
        browser.close()


if __name__ == "__main__":
    main()
