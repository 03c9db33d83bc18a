"""The page's chat in a browser: a conversation of 10,000 events, and one message of 6,000 tokens as
it comes, in paragraphs and all of it a list, a table or code, against a plain page that prints the
tokens of the paragraphs as text.

Run alone with `python -m benchmarks web`. It takes the page as it was built last (`make page`), and
the Chromium of the tests. What blocks a page is what the browser itself counts as long tasks, of
more than 50 ms each. On a busy machine other programs lengthen them, so beside them stands the
processor time of the page's thread: of those tasks that took more than 50 ms of it, and of all.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

import assent
from benchmarks.graphs import FORMS
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
LONG_TASK_MS = 50
A_TURN = 10
"""Tokens of one in the long conversation, so that it has many rows."""
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
        asked(port, "/agent/invoke", {"message": f"{A_TURN} paragraphs", "thread_id": thread})
        last = asked(port, f"/threads/{thread}/events?before=end&limit=1")["last"]


def opened(browser: Browser, port: int, *, plain: bool = False) -> Page:
    """A page whose long tasks are counted. The plain one is under no policy."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{port}", bypass_csp=plain)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(WATCH)
    return context.new_page()


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of long tasks; and of processor time of the page's thread, in tasks that are long by
    that, and in all."""

    blocked: float
    strained: float
    worked: float

    def __str__(self) -> str:
        return (
            f"{self.blocked:5.2f} in long tasks; of the processor {self.strained:5.2f} in long "
            f"tasks, {self.worked:5.2f} in all"
        )


@contextmanager
def watched(browser: Browser, page: Page) -> Iterator[list[Spent]]:
    """What the page spends meanwhile: in the list, afterwards."""
    spent: list[Spent] = []
    before = _blocked(page)
    browser.start_tracing(page=page, categories=["toplevel"])
    yield spent
    tasks = _tasks(json.loads(browser.stop_tracing())["traceEvents"])
    strained = sum(task for task in tasks if task > LONG_TASK_MS)
    spent.append(Spent(_blocked(page) - before, strained / 1000, sum(tasks) / 1000))


def _blocked(page: Page) -> float:
    return float(page.evaluate("() => window.blocked")) / 1000


def _tasks(trace: list[dict[str, Any]]) -> list[float]:
    """The milliseconds of processor time of each task of the page's thread. Other pages' threads
    have the same name; they are idle."""
    threads = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in trace
        if event["name"] == "thread_name"
    }
    tasks: dict[int, list[float]] = defaultdict(list)
    for event in trace:
        is_of_page = threads.get((event["pid"], event["tid"])) == "CrRendererMain"
        if is_of_page and event["name"] == "ThreadControllerImpl::RunTask":
            tasks[event["pid"]].append(event.get("tdur", 0) / 1000)
    return max(tasks.values(), key=sum, default=[])


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


def in_chat(browser: Browser, port: int, form: str) -> Spent:
    """What the chat spends while a message comes."""
    asked(port, "/agent/invoke", {"message": "1 paragraphs", "thread_id": form})
    page = opened(browser, port)
    page.goto(f"/ui/chat/{form}")
    page.get_by_role("link", name="Timeline").wait_for()
    message = f"{TOKENS} {form} flowing"
    with watched(browser, page) as spent:
        run = asked(port, "/agent/runs", {"message": message, "thread_id": form})
        page.get_by_text(message).last.wait_for()
        # Waited for at the server: whoever asks the page again and again is at work in it.
        asked(port, f"/runs/{run['run_id']}/wait")
        page.get_by_role("button", name="Stop").wait_for(state="detached")
        page.get_by_role("link", name="Timeline").last.wait_for()
    page.context.close()
    return spent[0]


def in_plain(browser: Browser, port: int) -> Spent:
    """What the plain page spends while it comes."""
    asked(port, "/threads", {"thread_id": "plain"})
    page = opened(browser, port, plain=True)
    page.goto("/health")
    message = f"{TOKENS} paragraphs flowing"
    with watched(browser, page) as spent:
        run = asked(port, "/agent/runs", {"message": message, "thread_id": "plain"})
        page.evaluate(PRINT, f"/runs/{run['run_id']}/stream")
    page.context.close()
    return spent[0]


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

        print(f"A message of {TOKENS:,} tokens as it comes: seconds")
        print(f"  {'in a plain page':24} {in_plain(browser, port)}")
        for form in FORMS:
            spent = in_chat(browser, port, form)
            print(f"  {f'in the chat: {form}':24} {spent}")
            ratio("in long tasks", spent.blocked, at_most=LONG_SECONDS)
        browser.close()


if __name__ == "__main__":
    main()
