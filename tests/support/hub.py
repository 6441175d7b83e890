"""A hub of data sets on this machine: answers as the real one does what `datasets` asks, out of a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0" * 40


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve the data sets `<root>/<owner>/<name>`; gives the address."""

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
            api = parts[0] == "api"
            _, owner, name, *rest = [*parts[api:], "", ""] if len(parts) < 3 + api else parts[api:]
            folder = root / owner / name
            if not name or not folder.is_dir():
                self.send(404, X_Error_Code="RepoNotFound")
            elif api:
                self.tell(folder, f"{owner}/{name}", rest, body)
            else:
                self.give(folder.joinpath(*rest[2:]))  # resolve/<revision>/<path>

        do_HEAD = do_POST = do_GET

        def tell(self, folder: Path, name: str, rest: list[str], body: bytes) -> None:
            if rest[:1] == ["tree"]:
                place = folder.joinpath(*rest[2:])
                found = place.rglob("*") if "recursive=true" in self.path.lower() else place.iterdir()
                self.send_json([row(path, folder) for path in sorted(found)])
            elif rest[:1] == ["paths-info"]:
                wanted = [folder / path for path in json.loads(body)["paths"]]
                self.send_json([row(path, folder) for path in wanted if path.exists()])
            else:
                siblings = [{"rfilename": row(path, folder)["path"]} for path in folder.rglob("*") if path.is_file()]
                self.send_json({"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})

        def give(self, path: Path) -> None:
            if not path.is_file():
                self.send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            else:
                self.send(200, path.read_bytes(), ETag=f'"{digest(path)}"', X_Repo_Commit=COMMIT)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def row(path: Path, folder: Path) -> dict[str, object]:
    """A file or a folder as the hub lists it."""
    told = {"path": path.relative_to(folder).as_posix(), "oid": COMMIT}
    return told | ({"type": "directory"} if path.is_dir() else {"type": "file", "size": path.stat().st_size})


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
