"""A local server with the parts of Google Cloud Storage's JSON API that gcsfs and TensorStore use; for tests."""

import base64
import contextlib
import hashlib
import json
import os
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Set before gcsfs is imported, which reads it. Otherwise gcsfs requests the kind of each bucket, with credentials.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


class Bucket:
    """The objects of all buckets of a server, by "bucket/name"."""

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.lock = threading.Lock()
        self.uploads: dict[str, tuple[str, bytearray]] = {}
        self.counter = 1

    def put(self, key: str, content: bytes) -> dict:
        """Stores an object; returns its metadata."""
        with self.lock:
            self.counter += 1
            self.objects[key], self.generations[key] = content, self.counter
        return self.describe(key)

    def describe(self, key: str) -> dict:
        """Returns the metadata of an object."""
        bucket, _, name = key.partition("/")
        content, stamp = self.objects[key], "2026-01-01T00:00:00.000Z"
        md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
        generation = str(self.generations.get(key, 1))
        return {
            "kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(content)), "md5Hash": md5,
            "generation": generation, "metageneration": "1", "etag": generation, "id": f"{key}/{generation}",
            "updated": stamp, "timeCreated": stamp, "storageClass": "STANDARD",
            "contentType": "application/octet-stream",
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Bucket
    log: list[str]

    def log_message(self, *_):
        pass

    def do_GET(self):
        path, query = self._parse()
        if match := re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o", path):
            return self._list(match[1], query)
        if match := re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o/(.+)", path):
            key = f"{match[1]}/{urllib.parse.unquote(match[2])}"
            if key not in self.store.objects:
                return self._send(404, {"error": {"code": 404, "message": "Not Found"}})
            if query.get("alt") == "media" or path.startswith("/download"):
                return self._media(key)
            return self._send(200, self.store.describe(key))
        if match := re.fullmatch(r"/storage/v1/b/([^/]+)", path):
            return self._send(200, {"kind": "storage#bucket", "id": match[1], "name": match[1], "location": "US",
                                    "locationType": "region", "storageClass": "STANDARD"})  # fmt: skip
        return self._send(404, {"error": {"code": 404, "message": path}})

    def do_POST(self):
        path, query = self._parse()
        if path == "/resumable":
            return self._continue(query)
        body = self._body()
        if match := re.fullmatch(r"(?:/upload|/resumable/upload)/storage/v1/b/([^/]+)/o", path):
            return self._upload(match[1], query, body)
        if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/(.+)", path):
            source, target = (f"{match[n]}/{urllib.parse.unquote(match[n + 1])}" for n in (1, 3))
            if source not in self.store.objects:
                return self._send(404, {"error": {"code": 404, "message": "Not Found"}})
            found = self.store.put(target, self.store.objects[source])
            done = {"kind": "storage#rewriteResponse", "done": True, "resource": found}
            return self._send(200, done if "rewriteTo" in path else found)
        if match := re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)/moveTo/o/(.+)", path):
            source, target = (f"{match[1]}/{urllib.parse.unquote(match[n])}" for n in (2, 3))
            return self._send(200, self.store.put(target, self.store.objects.pop(source)))
        if path.startswith("/batch"):
            return self._batch(body)
        return self._send(404, {"error": {"code": 404, "message": path}})

    def do_PUT(self):
        return self._continue(self._parse()[1])

    def _continue(self, query: dict[str, str]) -> None:
        key, content = self.store.uploads[query["upload_id"]]
        content += self._body()
        total = self.headers.get("Content-Range", "*/*").rpartition("/")[2]
        if total != "*" and len(content) >= int(total):
            return self._send(200, self.store.put(key, bytes(content)))
        self.send_response(308)
        if content:
            self.send_header("Range", f"bytes=0-{len(content) - 1}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_DELETE(self):
        path, _ = self._parse()
        match = re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path)
        found = match and self.store.objects.pop(f"{match[1]}/{urllib.parse.unquote(match[2])}", None)
        self._send(404 if found is None else 204, None if found is not None else {"error": {"code": 404}})

    def _parse(self) -> tuple[str, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        self.log.append(f"{self.command} {self.path}")
        return parts.path, dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, content: dict | None, headers: dict[str, str] | None = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _media(self, key: str) -> None:
        content, generation = self.store.objects[key], self.store.generations.get(key, 1)
        body, status = content, 200
        if match := re.fullmatch(r"bytes=(-?\d+)-?(\d*)", self.headers.get("Range", "")):
            first = int(match[1])
            last = int(match[2]) + 1 if match[2] else len(content)
            if first >= len(content) > 0 or (first >= 0 and not content):
                return self._send(416, {"error": {"code": 416}}, {"Content-Range": f"bytes */{len(content)}"})
            body, status = content[first:last], 206
        self.send_response(status)
        if status == 206:
            start = len(content) + int(match[1]) if match[1].startswith("-") else int(match[1])
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("X-Goog-Generation", str(generation))
        self.send_header("X-Goog-Stored-Content-Length", str(len(content)))
        self.send_header("ETag", f'"{generation}"')
        self.end_headers()
        self.wfile.write(body)

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        low, high = query.get("startOffset", ""), query.get("endOffset", "")
        items, prefixes = [], set()
        for key in sorted(dict(self.store.objects)):
            name = key.removeprefix(f"{bucket}/")
            if key == name or not name.startswith(prefix) or name < low or (high and name >= high):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest[: rest.index(delimiter) + 1])
            else:
                items.append(self.store.describe(key))
        self._send(200, {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def _upload(self, bucket: str, query: dict[str, str], body: bytes) -> None:
        if query["uploadType"] == "multipart":
            boundary = re.search("boundary=[\"']?([^\"';]+)", self.headers["Content-Type"])
            assert boundary
            parts = body.split(b"--" + boundary[1].encode())[1:3]
            described, content = (part.partition(b"\r\n\r\n" if b"\r\n\r\n" in part else b"\n\n")[2] for part in parts)
            content = content[:-2] if content.endswith(b"\r\n") else content[:-1]
            name = query.get("name") or json.loads(described)["name"]
            return self._send(200, self.store.put(f"{bucket}/{urllib.parse.unquote(name)}", content))
        if query["uploadType"] == "resumable":
            name = query.get("name") or json.loads(body)["name"]
            number = str(len(self.store.uploads))
            self.store.uploads[number] = f"{bucket}/{urllib.parse.unquote(name)}", bytearray()
            host = f"http://{self.headers['Host']}/resumable?upload_id={number}"
            return self._send(200, {}, {"Location": host})
        return self._send(200, self.store.put(f"{bucket}/{query['name']}", body))

    def _batch(self, body: bytes) -> None:
        answers = []
        for number, found in enumerate(re.findall(rb"DELETE /storage/v1/b/([^/]+)/o/(\S+) HTTP", body), 1):
            key = f"{found[0].decode()}/{urllib.parse.unquote(found[1].decode().partition('?')[0])}"
            status = "204 No Content" if self.store.objects.pop(key, None) is not None else "404 Not Found"
            answers.append(f"--b\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
                           f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n\r\n")  # fmt: skip
        content = ("".join(answers) + "--b--").encode()
        self.send_response(200)
        self.send_header("Content-Type", "multipart/mixed; boundary=b")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def serve() -> Iterator[tuple[Bucket, dict[str, str]]]:
    """Yields the objects of a server, and the environment with which gcsfs and TensorStore use it."""
    store, log = Bucket(), []
    handler = type("Handler", (_Handler,), {"store": store, "log": log})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda request, client_address: None  # a client that closes its connection
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield store, {
            "STORAGE_EMULATOR_HOST": address, "TENSORSTORE_GCS_HTTP_URL": address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
