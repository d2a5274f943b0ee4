"""A stand-in for the Hugging Face hub on 127.0.0.1: what `create_repo` and `upload_folder` ask of it, and no more.

Files ending in .safetensors and .jsonl go the way of large files (LFS), as on the hub; the others into the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

LARGE = (".safetensors", ".jsonl")
REPO = re.compile(
    r"/(?:api/(models|datasets)/)?(?:datasets/)?([\w.-]+/[\w.-]+?)(?:\.git)?/(preupload|commit|revision|info)/"
)


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Hub:
    """What arrived. `files[repo][path]` are bytes, `private[repo]` its visibility, `commits` (repo, message)."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.kinds: dict[str, str] = {}
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.commits: list[tuple[str, str]] = []
        self.large: dict[str, bytes] = {}
        self.refuse: str | None = None  # a repository that this token may not create: 403, with the token sent back
        self.full = False  # large files are refused
        self.drop: str | None = None  # a repository whose commit finds the line cut
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: Request) -> tuple[int, Any] | None:
        """Status and JSON of the reply; None cuts the line."""
        path = request.path.partition("?")[0]
        if path.startswith("/large/"):
            if self.full:
                return 403, {"error": "storage is full"}
            assert hashlib.sha256(request.body).hexdigest() == path.rpartition("/")[2]
            self.large[path.rpartition("/")[2]] = request.body
            return 200, {}
        payload = [json.loads(line) for line in request.body.splitlines()] if request.body else []
        if path == "/api/validate-yaml":
            return 200, {}
        if path == "/api/repos/create":
            return self.create(payload[0], request.headers)
        result = REPO.match(path)
        if result is None:
            return 404, {"error": f"not stood in for: {path}"}
        repo, what = result[2], result[3]
        if what == "preupload":
            return 200, {"files": [self.preupload(repo, file["path"]) for file in payload[0]["files"]]}
        if what == "info":
            return 200, {"objects": [self.batch(o) for o in payload[0]["objects"]]}
        if what == "revision":
            return 200, {"id": repo, "sha": "0" * 40}
        if repo == self.drop:
            return None
        for item in payload:
            value = item["value"]
            if item["key"] == "header":
                self.commits.append((repo, value["summary"] + value["description"]))
            elif item["key"] == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                self.files[repo][value["path"]] = self.large[value["oid"]]
            else:
                return 400, {"error": f"not stood in for: {item['key']}"}
        return 200, {"commitUrl": f"{self.url}/{repo}/commit/{'0' * 40}", "commitOid": "0" * 40}

    def create(self, asked: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo == self.refuse:
            return 403, {"error": f"no write access to {asked['organization']} with {headers['authorization']}"}
        kind = asked.get("type", "model")
        url = {"url": f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{repo}"}
        if repo in self.files:
            return 409, url
        self.kinds[repo], self.private[repo], self.files[repo] = kind, asked["visibility"] == "private", {}
        return 200, url

    def preupload(self, repo: str, path: str) -> dict[str, Any]:
        large, content = path.endswith(LARGE), self.files[repo].get(path)
        oid = None
        if content is not None:
            blob = b"blob %d\0" % len(content) + content
            oid = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(blob).hexdigest()
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.large:
            return wanted
        return {
            **wanted,
            "actions": {"upload": {"href": f"{self.url}/large/{wanted['oid']}?signature=signed", "header": {}}},
        }


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            hub.requests.append(request)
            answer = hub.answer(request)
            if answer is None:
                self.close_connection = True
                return
            data = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = reply

        def log_message(self, *args: object) -> None:
            pass

    return Handler
