"""The files of the web page, as browsers get them: their types, how long they keep them, and where
the server is mounted."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI

from assent import Assent, build_hitl_agent
from assent.api import web
from assent.api.access.headers import WEB_PAGE
from tests.support.models import ScriptedModel
from tests.support.server import expect, problem, scripted_agents

INDEX = (
    '<!doctype html><link rel="icon" href="./icon.svg">'
    '<script type="module" src="./assets/index-Ab12.js"></script>'
)
SCRIPT = "export const words = 'word '.repeat(99);" * 30
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FOR_GOOD = "public, max-age=31536000, immutable"


@pytest.fixture
def ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small page in the place of the built one."""
    folder = tmp_path / "ui"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "icon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "assets/index-Ab12.js").write_text(SCRIPT)
    (folder / "assets/index-Ab12.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    (folder / "assets/index-Cd34.css").write_text("body { color: black }")
    (folder / ".built-from").write_text("a digest")
    monkeypatch.setattr(web, "UI", folder)
    return folder


@asynccontextmanager
async def in_process(
    folder: Path, *, prefix: str = "", project: str | None = None, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server in this process, mounted under the prefix, of a project or of one
    agent."""
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    assent = Assent(project or agent, database=str(folder / "a.db"), settings=settings)
    around: Any = assent.app
    if prefix:
        around = FastAPI()
        around.mount(prefix, assent.app)
    async with assent:
        transport = httpx.ASGITransport(around, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield http


@pytest.mark.parametrize("prefix", ["", "/ai", "/a/b"])
async def test_wherever_it_is_mounted_a_page_at_any_depth_finds_its_files(
    prefix: str, ui: Path, tmp_path: Path
) -> None:
    async with in_process(tmp_path, prefix=prefix) as http:
        for path in ("/ui/", "/ui/inbox?status=pending", "/ui/approvals/apr_1", "/ui/a/b/c.d"):
            page = await expect(await http.get(prefix + path), 200)
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
            found = {urljoin(prefix + path, each) for each in named}
            assert found == {f"{prefix}/ui/icon.svg", f"{prefix}/ui/assets/index-Ab12.js"}
        # A browser takes a slash that is written as a number for a part of a name.
        page = await expect(await http.get(f"{prefix}/ui/graph/a%2Fb"), 200)
        assert 'src="../assets/' in page.text


@pytest.mark.parametrize("prefix", ["", "/ai"])
async def test_a_browser_is_led_to_the_page_and_nobody_else(
    prefix: str, ui: Path, tmp_path: Path
) -> None:
    async with in_process(tmp_path, prefix=prefix) as http:
        for path in ("/", "/ui"):
            led = await expect(await http.get(prefix + path, headers=BROWSER), 303)
            assert urljoin(prefix + path, led.headers["location"]) == f"{prefix}/ui/"
        for accept in ("*/*", "application/json"):
            await problem(await http.get(f"{prefix}/", headers={"accept": accept}), 404)
        await problem(await http.post(f"{prefix}/", headers=BROWSER), 404)


ROOTED = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def shop(request):
    return PlainTextResponse("the shop")

rooted = Starlette(routes=[Route("/", shop)])
rootless = Starlette(routes=[Route("/shop", shop)])
"""


def with_shop(folder: Path, name: str) -> str:
    """A langgraph.json with an app of this name."""
    (folder / "shop.py").write_text(ROOTED)
    target = Path(scripted_agents(folder, "agent"))
    project = json.loads(target.read_text()) | {"http": {"app": f"./shop.py:{name}"}}
    target.write_text(json.dumps(project))
    return str(target)


@pytest.mark.parametrize(("name", "status"), [("rooted", 200), ("rootless", 303)])
async def test_a_project_that_has_something_at_the_root_keeps_it(
    name: str, status: int, ui: Path, tmp_path: Path
) -> None:
    async with in_process(tmp_path, project=with_shop(tmp_path, name)) as http:
        await expect(await http.get("/", headers=BROWSER), status)
        await expect(await http.get("/ui/", headers=BROWSER), 200)


async def test_what_never_changes_is_kept_for_good_and_the_rest_is_asked_for(
    ui: Path, tmp_path: Path
) -> None:
    kinds = {
        "": ("text/html; charset=utf-8", "no-cache"),
        "icon.svg": ("image/svg+xml", "no-cache"),
        "assets/index-Ab12.js": ("text/javascript; charset=utf-8", FOR_GOOD),
        "assets/index-Cd34.css": ("text/css; charset=utf-8", FOR_GOOD),
    }
    async with in_process(tmp_path) as http:
        for path, (media_type, kept) in kinds.items():
            got = await expect(await http.get(f"/ui/{path}"), 200)
            assert got.headers["content-type"] == media_type
            assert got.headers["cache-control"] == kept
            # Also of scripts: one that runs in a thread of its own has the policy of its file.
            assert got.headers["content-security-policy"] == WEB_PAGE
            assert got.headers["x-content-type-options"] == "nosniff"

            known = {"if-none-match": f'"other", W/{got.headers["etag"]}'}
            same = await expect(await http.get(f"/ui/{path}", headers=known), 304)
            assert same.content == b""
            assert same.headers["content-security-policy"] == WEB_PAGE

            head = await expect(await http.head(f"/ui/{path}"), 200)
            assert head.content == b""
            assert head.headers["content-length"] == got.headers["content-length"]


async def test_a_page_that_is_built_anew_is_another(ui: Path, tmp_path: Path) -> None:
    async with in_process(tmp_path) as http:
        first = await expect(await http.get("/ui/"), 200)
        (ui / "index.html").unlink()
        (ui / "index.html").write_text(INDEX.replace("Ab12", "Ef56"))
        known = {"if-none-match": first.headers["etag"]}
        assert "Ef56" in (await expect(await http.get("/ui/", headers=known), 200)).text


async def test_who_takes_gzip_gets_the_smaller_file(ui: Path, tmp_path: Path) -> None:
    path, tags = "/ui/assets/index-Ab12.js", set()
    async with in_process(tmp_path) as http:
        for accepted, is_smaller in {
            "gzip, deflate, br": True,
            "br;q=1.0, gzip;q=0.5": True,
            "identity": False,
            "gzip;q=0": False,
            "gzip; q=0.0, br": False,
            "br": False,
            "": False,
        }.items():
            got = await expect(await http.get(path, headers={"accept-encoding": accepted}), 200)
            assert got.text == SCRIPT
            assert got.headers.get("content-encoding") == ("gzip" if is_smaller else None)
            assert "Accept-Encoding" in got.headers["vary"]
            assert (int(got.headers["content-length"]) < 500) is is_smaller
            tags.add(got.headers["etag"])
        assert len(tags) == 2
        await problem(await http.get(f"{path}.gz"), 404)


@pytest.mark.parametrize(
    "path",
    [
        "assets/index-Old1.js",
        "assets/",
        "assets",
        "favicon.ico",
        ".built-from",
        "../web.py",
        "..%2fweb.py",
        "%2e%2e/%2e%2e/pyproject.toml",
        "assets/../../web.py",
        "assets/%2e%2e/%2e%2e/core/errors.py",
        "assets%5c..%5c..%5cweb.py",
        "approvals/..%2f..%2f..%2fetc%2fpasswd",
        "%2fetc/passwd",
        "approvals//x",
        "assets/index-Ab12.js%00.html",
    ],
)
async def test_what_is_not_a_file_of_the_page_is_not_there(
    path: str, ui: Path, tmp_path: Path
) -> None:
    async with in_process(tmp_path) as http:
        # The client itself would tidy up the path of a URL.
        url = httpx.URL("http://127.0.0.1/").copy_with(raw_path=f"/ui/{path}".encode())
        got = await http.get(url)
        if path == "assets":
            # It is a name as any other: the page says that it shows nothing.
            assert got.text == INDEX
            return
        await problem(got, 404)


async def test_it_can_be_switched_off(ui: Path, tmp_path: Path) -> None:
    async with in_process(tmp_path, ui=False) as http:
        for path in ("/", "/ui", "/ui/", "/ui/icon.svg"):
            await problem(await http.get(path, headers=BROWSER), 404)


async def test_without_keys_it_is_for_this_machine_like_all_else(ui: Path, tmp_path: Path) -> None:
    async with in_process(tmp_path) as http:
        await problem(await http.get("/ui/", headers={"host": "evil.example"}), 421)
        await problem(await http.get("/", headers={"host": "evil.example", **BROWSER}), 421)
        await problem(await http.get("/ui/", headers={"origin": "https://evil.example"}), 403)


async def test_with_keys_its_program_is_for_everybody(ui: Path, tmp_path: Path) -> None:
    async with in_process(tmp_path, api_keys="ann:secret-of-ann") as http:
        await problem(await http.get("/me"), 401)
        await expect(await http.get("/ui/approvals/apr_1"), 200)
        await expect(await http.get("/", headers=BROWSER), 303)


async def test_in_an_app_that_knows_its_people_it_is_there_too(ui: Path, tmp_path: Path) -> None:
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    assent = Assent(agent, database=str(tmp_path / "a.db"), auth=lambda: None)
    app = FastAPI()
    app.mount("/ai", assent.app)
    async with assent:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            await problem(await http.get("/ai/me"), 401)
            await expect(await http.get("/ai/ui/approvals/apr_1"), 200)


async def test_where_the_page_was_not_built_it_says_why_without_a_script(
    ui: Path, tmp_path: Path
) -> None:
    (ui / "index.html").unlink()
    (ui / "why-not.txt").write_text("npm's index <cannot> be reached (ENOTFOUND).\n")
    async with in_process(tmp_path, prefix="/ai") as http:
        for path in ("/ai/ui/", "/ai/ui/approvals/apr_1"):
            page = await expect(await http.get(path), 503)
            assert "npm&#x27;s index &lt;cannot&gt; be reached (ENOTFOUND)." in page.text
            assert "web/build.py" in page.text
            assert "<script" not in page.text
            assert "script-src" not in page.headers["content-security-policy"]
            (style,) = re.findall(r'href="([^"]+)"', page.text)
            assert (await expect(await http.get(urljoin(path, style)), 200)).text
        await problem(await http.get("/ai/ui/assets/index-Ab12.js"), 404)

        (ui / "why-not.txt").unlink()
        assert web.NO_BUILD in (await expect(await http.get("/ai/ui/"), 503)).text
        # It is built while the server runs.
        (ui / "index.html").write_text(INDEX)
        await expect(await http.get("/ai/ui/"), 200)
