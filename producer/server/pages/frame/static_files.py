"""Files for the browser: scripts and styles as one file each, compressed once and cached for good by their hash."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from models.errors import NotFound

FOLDER = Path(__file__).parents[1] / "static"
CACHE_FOR_GOOD = "public, max-age=31536000, immutable"
CACHE_FOR_A_DAY = "public, max-age=86400"  # where the address does not change with the content

# Concatenated in this order, so that a page loads two files of ours and each library once.
BUNDLES = {"app.css": ("css", "*.css", "text/css"), "app.js": ("js", "*.js", "text/javascript")}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent.

    etag: of its content; also in its address
    """

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


@cache
def load_files() -> dict[str, StaticFile]:
    """Read all files, by name."""
    files = {}
    for name, (folder, pattern, media_type) in BUNDLES.items():
        parts = [path.read_bytes() for path in sorted((FOLDER / folder).glob(pattern))]
        files[name] = _file(b"\n".join(parts), media_type)
    for path in sorted((FOLDER / "vendor").glob("*.min.*")):
        files[path.name] = _file(path.read_bytes(), "text/css" if path.suffix == ".css" else "text/javascript")
    files["icon.svg"] = _file((FOLDER / "icon.svg").read_bytes(), "image/svg+xml")
    return files


def address(name: str) -> str:
    """The address of a file, which changes with its content."""
    return f"/static/{name}?v={load_files()[name].etag}"


@router.get("/static/{name}", include_in_schema=False)
async def send_file(request: Request, name: str) -> Response:
    """Send a file."""
    file = load_files().get(name)
    if file is None:
        raise NotFound(f"there is no file {name[:80]!r}")
    caching = CACHE_FOR_GOOD if request.query_params.get("v") == file.etag else CACHE_FOR_A_DAY
    headers = {"cache-control": caching, "etag": f'"{file.etag}"', "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, headers={**headers, "content-encoding": "gzip"}, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)


@router.get("/favicon.ico")
async def send_icon(request: Request) -> Response:
    """Send the icon to browsers that ask for it without a look at the page."""
    return await send_file(request, "icon.svg")


@router.get("/robots.txt")
async def send_robots() -> Response:
    """Let no search engine in."""
    return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")


def _file(content: bytes, media_type: str) -> StaticFile:
    digest = hashlib.sha256(content).hexdigest()[:16]
    return StaticFile(content, gzip.compress(content, 9, mtime=0), media_type, digest)
