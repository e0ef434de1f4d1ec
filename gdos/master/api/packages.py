"""Packages: upload, list, manifest, download with ranges, delete."""

from __future__ import annotations

import re
from typing import Any

from gdos.master.api import shapes as s
from gdos.master.api.router import OPERATOR, VIEWER, VIEWER_OR_NODE, Answer, Call, Router, listed, page_of
from gdos.master.services import packages
from gdos.model.errors import BadInput, Malformed, Problem, RangeNotSatisfiable, TooLarge

api = Router()


class PackageQuery(s.ListQuery):
    name: str | None = None
    version: str | None = None
    os: str | None = None
    sha256: str | None = None


@api.add("GET", "/packages", VIEWER, query=PackageQuery, returns=s.Listed[s.Package])
def list_packages(call: Call) -> object:
    """All versions of all packages."""
    return listed(packages.page(call.ctx, page_of(call)))


@api.add("POST", "/packages", OPERATOR, returns=s.Uploaded, status=201, takes="application/zip")
def upload(call: Call) -> Answer:
    """Upload a ZIP, as the raw body or as a multipart form's file. The same bytes again answer 200."""
    media = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "multipart/form-data":
        if call.content_length is None or call.content_length > call.ctx.upload_max:
            raise TooLarge(f"a form needs a Content-Length of at most {call.ctx.upload_max} bytes")
        files = [part for part in call.files().values() if part.file is not None]
        if len(files) != 1:
            raise BadInput(f"expected one file in the form, got {len(files)}", [Problem("file", "expected one file")])
        done = packages.upload(call.ctx, call.who, files[0].file.read, None)
    elif media in ("", "application/zip", "application/octet-stream", "application/x-zip-compressed"):
        done = packages.upload(call.ctx, call.who, call.read, call.content_length)
    else:
        raise Malformed(f"Content-Type: expected application/zip or multipart/form-data, got {media}")
    return Answer(done.view, 201 if done.is_new else 200)


@api.add("GET", "/packages/{name}", VIEWER, query=s.ListQuery, returns=s.Listed[s.Package])
def versions(call: Call) -> object:
    """The versions of one package."""
    page = page_of(call)
    page.filters["name"] = call.args["name"]
    return listed(packages.page(call.ctx, page))


@api.add("GET", "/packages/{name}/{version}", VIEWER, returns=s.PackageDetail)
def get_version(call: Call) -> object:
    """One version with its manifest."""
    return packages.get(call.ctx, call.args["name"], call.args["version"])


@api.add("DELETE", "/packages/{name}/{version}", OPERATOR)
def delete_version(call: Call) -> None:
    """Remove a version that nothing refers to."""
    packages.delete(call.ctx, call.who, call.args["name"], call.args["version"])


@api.add("GET", "/packages/{name}/{version}/download", VIEWER_OR_NODE, media="application/zip")
def download(call: Call) -> Answer:
    """The ZIP itself; Range and If-Range work, the ETag is its SHA-256."""
    found = packages.download(call.ctx, call.who, call.args["name"], call.args["version"])
    tag = f'"{found.sha256}"'
    headers = [
        ("ETag", tag),
        ("Accept-Ranges", "bytes"),
        ("Content-Type", "application/zip"),
        ("Cache-Control", "private, max-age=31536000, immutable"),
        ("Content-Disposition", f'attachment; filename="{found.file_name}"'),
    ]
    if tag in call.headers.get("if-none-match", ""):
        return Answer(status=304, headers=headers, raw=b"")
    span = _span(call.headers, tag, found.size)
    start, end = span or (0, found.size)
    headers.append(("Content-Length", str(end - start)))
    if span:
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{found.size}"))
    raw: Any = found.open(start, end)
    return Answer(status=206 if span else 200, headers=headers, raw=raw)


def _span(headers: dict[str, str], tag: str, size: int) -> tuple[int, int] | None:
    """The one range that is asked for as [start, end), or None for all. Raises RangeNotSatisfiable."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", "").replace(" ", ""))
    if match is None or match[0] == "bytes=-" or headers.get("if-range", tag) != tag:
        return None
    if match[1]:
        start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
    else:
        start, end = max(size - int(match[2]), 0), size
    if start >= size or start >= end:
        raise RangeNotSatisfiable(f"the package has {size} bytes, asked was {headers['range']}")
    return start, min(end, size)
