"""A local server that answers as the Hugging Face Hub does, with repositories from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


def commit_of(revision: str) -> str:
    """The commit of a branch or tag on this server."""
    return hashlib.sha1(revision.encode()).hexdigest()


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve the repositories `<root>/<owner>/<name>`; yields the address of the server.

    `<name>@<revision>` beside `<name>` is another revision of it. Models and data sets share the folder.
    """

    class Handler(BaseHTTPRequestHandler):
        def send(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def send_json(self, value: object) -> None:
            self.send(200, json.dumps(value).encode(), Content_Type="application/json")

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            is_api = parts[0] == "api"
            parts = parts[is_api:]
            if parts[0] in ("models", "datasets"):
                parts = parts[1:]
            owner, name, action, revision, *path = [*parts, *[""] * (4 - len(parts))]
            revision = revision or "main"
            if not name or not (root / owner / name).is_dir():
                self.send(404, X_Error_Code="RepoNotFound")
            elif (found := _find_revision(root / owner, name, revision)) is None:
                self.send(404, X_Error_Code="RevisionNotFound")
            elif is_api:
                self.send_listing(*found, action, path, body)
            else:
                self.send_file(*found, path)

        do_HEAD = do_POST = do_GET

        def send_listing(self, folder: Path, commit: str, action: str, path: list[str], body: bytes) -> None:
            if action == "tree":
                base = folder.joinpath(*path)
                files = base.rglob("*") if "recursive=true" in self.path.lower() else base.iterdir()
                self.send_json([_entry(file, folder) for file in sorted(files)])
            elif action == "paths-info":
                wanted = [folder / name for name in json.loads(body)["paths"]]
                self.send_json([_entry(file, folder) for file in wanted if file.exists()])
            else:
                names = [_entry(file, folder)["path"] for file in folder.rglob("*") if file.is_file()]
                siblings = [{"rfilename": name} for name in names]
                repository = f"{folder.parent.name}/{folder.name.partition('@')[0]}"
                info = {"id": repository, "sha": commit, "siblings": siblings, "private": False, "tags": []}
                self.send_json(info)

        def send_file(self, folder: Path, commit: str, path: list[str]) -> None:
            file = folder.joinpath(*path)
            if not file.is_file():
                self.send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            else:
                etag = hashlib.sha1(file.read_bytes()).hexdigest()
                self.send(200, file.read_bytes(), ETag=f'"{etag}"', X_Repo_Commit=commit)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _find_revision(owner: Path, name: str, revision: str) -> tuple[Path, str] | None:
    """Folder and commit of a branch, tag or commit."""
    folders = {"main": owner / name}
    folders |= {path.name.partition("@")[2]: path for path in owner.glob(f"{name}@*")}
    commits = {revision: commit_of(revision) for revision in folders}
    return next(((folders[key], commits[key]) for key in folders if revision in (key, commits[key])), None)


def _entry(path: Path, folder: Path) -> dict[str, object]:
    """A file or a folder as the hub lists it."""
    entry = {"path": path.relative_to(folder).as_posix(), "oid": commit_of("main")}
    return entry | ({"type": "directory"} if path.is_dir() else {"type": "file", "size": path.stat().st_size})
