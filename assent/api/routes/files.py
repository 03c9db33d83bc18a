"""Uploads: files that messages refer to by their ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from assent.api.access.authorizing import check_still
from assent.api.access.headers import NO_PAGE
from assent.api.access.rules import Thing, may
from assent.api.answers import WHATEVER, answers, refuses
from assent.api.deps import TheActor, TheRuns
from assent.api.limits import FILE_BODY
from assent.api.paths import url
from assent.api.responses import json_response
from assent.api.routing import router_of, takes
from assent.api.shapes.server import FileView
from assent.api.views import pick
from assent.core.access import Right
from assent.core.errors import TooLarge
from assent.core.json import JsonObject
from assent.core.rows import File

MAX_NAME_CHARACTERS = 200

UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""The body of an upload, for the OpenAPI document."""


router = router_of("files")


_FIELDS = ("file_id", "name", "mime_type", "size", "sha256", "owner", "created_at")


def _view(row: File) -> JsonObject:
    return pick(row, _FIELDS)


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, of which the first is read already: a file that is gone is a 404, and not half a
    response."""
    first = await anext(chunks)

    async def again() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return again()


async def _body(request: Request) -> AsyncIterator[bytes]:
    """The body. Raises 401 or 403 if whoever sends it may not any more once it has come."""
    async for chunk in request.stream():
        yield chunk
    await check_still(request)


FileName = Annotated[str, Query(max_length=MAX_NAME_CHARACTERS)]


@router.post("/files", status_code=201, openapi_extra=UPLOAD)
@may(Right.RUN, Thing.BODY)
@answers(FileView, 201, location=True)
@refuses(507)
@takes(FILE_BODY)
async def upload(request: Request, runs: TheRuns, by: TheActor, name: FileName = "") -> Response:
    """Send a file: it is the body, as `curl --data-binary @photo.png` sends it. Content blocks of
    messages refer to it by its `file_id`. After a day without any it is removed."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared.startswith("multipart/"):
        raise HTTPException(415, "Send the file itself as the body, as curl --data-binary does.")
    uploads = runs.uploads
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > uploads.limits.each:
        raise TooLarge(
            f"The file is larger than {uploads.limits.each:,} bytes. Nothing was changed. Send a "
            "smaller one, or raise ASSENT_MAX_UPLOAD_BYTES."
        )
    row = await uploads.add(_body(request), name=name, declared=declared or None, owner=by.owner)
    location = url(request, f"/files/{row.file_id}")
    return json_response(_view(row), status=201, headers={"Location": location})


@router.get("/files/{id}")
@may(Right.READ, Thing.FILE)
@answers(FileView)
async def get_file(id: str, runs: TheRuns, by: TheActor) -> Response:
    """What is known of a file."""
    return json_response(_view(await runs.uploads.get(id)))


@router.get("/files/{id}/content", response_class=StreamingResponse)
@may(Right.READ, Thing.FILE)
@answers(bytes, media_type=WHATEVER, description="The file itself")
async def get_content(id: str, runs: TheRuns, by: TheActor) -> Response:
    """The file itself, to be saved and not shown: it may be a page that somebody else has made."""
    row = await runs.uploads.get(id)
    content = await _begun(runs.storage.files.chunks(id))
    headers = {
        "Content-Length": str(row.size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(row.name or id, safe='')}",
        "Content-Security-Policy": f"{NO_PAGE}; sandbox",
    }
    return StreamingResponse(content, headers=headers, media_type=row.mime_type)


@router.delete("/files/{id}", status_code=204)
@may(Right.RUN, Thing.FILE)
@answers(None, 204, description="It is gone")
@refuses(409)
async def delete_file(id: str, runs: TheRuns, by: TheActor) -> Response:
    """Remove a file. It is a 409 while a thread refers to it: it goes with the thread."""
    await runs.uploads.remove(id)
    return Response(status_code=204)
