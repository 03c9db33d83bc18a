"""The OpenAPI document, and a page for people that shows it. All of the page comes from here: the
network around a server may reach nobody else, and another's script would act in its reader's
name."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Final

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from assent.api.access.headers import PAGE_WITH_SCRIPTS
from assent.api.access.rules import open_to_all
from assent.api.responses import json_response
from assent.api.routing import router_of

router = router_of("docs")

WHY_OPEN: Final = "It shows the program, and nothing that anybody has stored."

STYLED_BY_SCRIPT: Final = PAGE_WITH_SCRIPTS.replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
"""Swagger UI writes styles into its page."""

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Assent</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/docs.js"></script>
</body>
</html>
"""

SCRIPT: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Otherwise the document's address is sent to a site that judges it.
  validatorUrl: null,
});
"""

_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


@router.get("/openapi.json", include_in_schema=False)
@open_to_all(WHY_OPEN)
async def openapi(request: Request) -> Response:
    """The document."""
    # To make it, once, takes about a second, and nobody else should wait for that.
    document = await asyncio.to_thread(request.app.openapi)
    prefix = request.scope.get("root_path", "").rstrip("/")
    if prefix:
        document = {**document, "servers": [{"url": prefix}]}
    return json_response(document)


@router.get("/docs", include_in_schema=False)
@open_to_all(WHY_OPEN)
async def page() -> Response:
    """The page."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": STYLED_BY_SCRIPT})


@router.get("/docs/docs.js", include_in_schema=False)
@open_to_all(WHY_OPEN)
async def script() -> Response:
    """What the page does."""
    return Response(SCRIPT, media_type="text/javascript")


@router.get("/docs/{name}", include_in_schema=False)
@open_to_all(WHY_OPEN)
async def file(name: str) -> Response:
    """A file of Swagger UI."""
    if name not in _TYPES:
        raise HTTPException(404)
    path = files("fastapi_offline") / "static" / name
    content = await asyncio.to_thread(path.read_bytes)
    kept = {"Cache-Control": "max-age=86400"}
    return Response(content, media_type=_TYPES[name], headers=kept)
