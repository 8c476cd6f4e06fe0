"""A fake Hub over HTTP: repositories with one branch, their files, and injected errors.

A data set is a repository whose name begins with `datasets/`.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MODEL_INFO_PATH = re.compile(
    r"^/api/(?:models/)?(?P<repo>(?:datasets/)?[^/]+/[^/?]+)(?:/revision/(?P<revision>.+?))?(?:\?.*)?$"
)
TREE_PATH = re.compile(
    r"^/api/(?:models/)?(?P<repo>(?:datasets/)?[^/]+/[^/]+)/tree/(?P<revision>[^/?]+)(?:/(?P<folder>[^?]+))?"
)
FILE_PATH = re.compile(
    r"^(?P<cdn>/cdn)?/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+?)(?:\?.*)?$"
)

# The Hub names the cause of a refusal in this header, from which huggingface_hub chooses its exception.
GATED, NO_REPOSITORY, NO_REVISION = "GatedRepo", "RepoNotFound", "RevisionNotFound"


@dataclass
class FakeHub:
    """Repositories by name, each with its commits; `requests` records every requested path with its token."""

    base_url: str = ""
    cdn_url: str = ""  # another address of the same server, from which files are served if set
    commits: dict[str, dict[str, Path]] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    error_rules: list[tuple[str, int, str]] = field(default_factory=list)  # (part of a path, status, error code)
    max_errors: int | None = None  # number of errors; None = unlimited
    disconnect_after_bytes: int | None = None  # bytes of the next large file sent before the connection ends
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def add_commit(self, repo: str, folder: Path) -> str:
        """Commit a folder to a repository's branch; returns the commit."""
        number = len(self.commits.get(repo, {}))
        commit = hashlib.sha1(f"{repo} {number}".encode(), usedforsecurity=False).hexdigest()
        self.commits.setdefault(repo, {})[commit] = folder
        self.heads[repo] = commit
        return commit

    def resolve_commit(self, repo: str, revision: str | None) -> str | None:
        """Return the commit of a branch or of a commit's name."""
        if revision in (None, "main"):
            return self.heads.get(repo)
        return revision if revision in self.commits.get(repo, {}) else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._handle_request()

    def do_GET(self) -> None:
        self._handle_request()

    def log_message(self, *_args: Any) -> None:
        """Suppress the server's log."""

    def _handle_request(self) -> None:
        hub, path = self.hub, unquote(self.path)
        hub.requests.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        for part, status, code in hub.error_rules:
            if part in path and hub.max_errors != 0:
                if hub.max_errors is not None:
                    hub.max_errors -= 1
                self._send_error(status, code)
                return
        if match := TREE_PATH.match(path):
            self._send_tree(match["repo"], match["revision"], match["folder"] or "")
        elif match := MODEL_INFO_PATH.match(path):
            self._send_model_info(match["repo"], match["revision"])
        elif match := FILE_PATH.match(path):
            self._send_file(match["repo"], match["revision"], match["name"], from_cdn=match["cdn"] is not None)
        else:
            self._send_error(404, NO_REPOSITORY)

    def _send_model_info(self, repo: str, revision: str | None) -> None:
        if repo not in self.hub.commits:
            self._send_error(404, NO_REPOSITORY)
        elif (commit := self.hub.resolve_commit(repo, revision)) is None:
            self._send_error(404, NO_REVISION)
        else:
            names = sorted(path.name for path in self.hub.commits[repo][commit].iterdir())
            siblings = [{"rfilename": name} for name in names]
            body = json.dumps({"id": repo, "modelId": repo, "sha": commit, "siblings": siblings}).encode()
            self._send(200, body, {"Content-Type": "application/json", "X-Repo-Commit": commit})

    def _send_tree(self, repo: str, revision: str, folder: str) -> None:
        if (commit := self.hub.resolve_commit(repo, revision)) is None:
            self._send_error(404, NO_REVISION)
            return
        root = self.hub.commits[repo][commit]
        if not (root / folder).is_dir():
            self._send_error(404, "EntryNotFound")
            return
        files = [
            {
                "type": "directory" if path.is_dir() else "file",
                "path": str(path.relative_to(root)),
                "size": path.stat().st_size,
                "oid": commit,
            }
            for path in sorted(
                (root / folder).rglob("*") if "recursive=true" in self.path.lower() else (root / folder).iterdir()
            )
        ]
        self._send(200, json.dumps(files).encode(), {"Content-Type": "application/json"})

    def _send_file(self, repo: str, revision: str, name: str, *, from_cdn: bool) -> None:
        commit = self.hub.resolve_commit(repo, revision)
        if commit is None or not (path := self.hub.commits[repo][commit] / name).is_file():
            self._send_error(404, NO_REVISION if commit is None else "EntryNotFound")
            return
        content = path.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
            "X-Linked-Size": str(len(content)),
        }
        if self.hub.cdn_url and not from_cdn:
            self._send(302, b"", {**headers, "Location": f"{self.hub.cdn_url}/cdn/{repo}/resolve/{commit}/{name}"})
            return
        start, end = 0, len(content)
        match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match:
            start, end = int(match[1]), min(end, int(match[2]) + 1) if match[2] else end
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._send(206 if match else 200, content[start:end], headers)

    def _send_error(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": f"refused: {code}"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        broken, hub = self.hub.disconnect_after_bytes, self.hub
        if broken is not None and len(body) > broken:
            hub.disconnect_after_bytes = None
            self.wfile.write(body[:broken])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(body)


@contextmanager
def hub_server() -> Iterator[FakeHub]:
    """Yield a Hub on a free local port, empty until `add_commit`."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.base_url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
