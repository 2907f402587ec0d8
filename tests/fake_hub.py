"""A server on the loopback that speaks as much of the Hugging Face Hub's HTTP as its client needs."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_tests"


class Hub:
    """Repositories in memory: `commits[repository]` is a list of (revision, files by name), the newest last."""

    def __init__(self):
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.tags: dict[tuple[str, str], str] = {}  # (repository, tag) -> revision
        self.gated: set[str] = set()
        self.requests: list[str] = []
        self.private: dict[str, bool] = {}

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        """Adds files to a repository, which is created; returns the revision."""
        history = self.commits.setdefault(repository, [])
        files = (history[-1][1] if history else {}) | files
        content = repr((len(history), sorted((name, hashlib.sha256(data).digest()) for name, data in files.items())))
        history.append((hashlib.sha1(content.encode()).hexdigest(), files))
        return history[-1][0]

    def find(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Returns the revision and the files that a branch, tag or revision names."""
        history = self.commits[repository]
        revision = self.tags.get((repository, revision), revision)
        return history[-1] if revision == "main" else next((c for c in history if c[0] == revision), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def _answer(self, status=200, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content):
        self._answer(body=json.dumps(content).encode(), Content_Type="application/json")

    def _error(self, status, code):
        self._answer(status, b"{}", X_Error_Code=code, X_Error_Message=code)

    def _get(self):
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = api or file
        if not match or match[1] not in hub.commits:
            return self._error(404 if match else 401, "RepoNotFound")
        if match[1] in hub.gated:
            return self._error(403, "GatedRepo")
        found = hub.find(match[1], (api[3] if api else file[2]) or "main")
        if not found:
            return self._error(404, "RevisionNotFound")
        revision, files = found
        if api and api[2] == "tree":
            return self._json([{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in files.items()])
        if api:
            return self._json({"id": match[1], "sha": revision, "siblings": [{"rfilename": name} for name in files]})
        if file[3] not in files:
            return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=revision)
        data = files[file[3]]
        self._answer(body=data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit=revision)

    do_GET = do_HEAD = _get  # noqa: N815, names of http.server

    def do_POST(self):
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        hub.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, b'{"error": "Invalid username or password."}')
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name not in hub.commits:
                hub.commit(name, {".gitattributes": b""})  # as the Hub does
            hub.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
            return self._json({"url": f"http://{self.headers['Host']}/{name}"})
        repository, action = re.fullmatch(
            r"/api/models/([^/]+/[^/]+)/(preupload|paths-info|commit)/main", path
        ).groups()
        if action == "preupload":
            asked = [file["path"] for file in json.loads(body)["files"]]
            return self._json({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in asked]})
        if action == "paths-info":  # earlier clients ask which files exist
            return self._json([])
        lines = [json.loads(line) for line in body.splitlines()]
        files = {e["value"]["path"]: base64.b64decode(e["value"]["content"]) for e in lines if e["key"] == "file"}
        revision = hub.commit(repository, files)
        self._json({"success": True, "commitOid": revision, "commitUrl": f"http://{self.headers['Host']}/{repository}"})


@contextlib.contextmanager
def serve():
    """Yields a `Hub` and its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
