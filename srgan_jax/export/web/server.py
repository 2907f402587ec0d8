"""Serves the web page's folder on the loopback, with the headers that WebAssembly needs for threads."""

import functools
import http.server
import os

from srgan_jax.export.web.site import POLICY
from srgan_jax.runtime.errors import UserError

HOST = "127.0.0.1"
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class _Handler(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path) -> str:
        """Returns the media type of a file; the system's table may lack those of modules and WebAssembly."""
        return TYPES.get(os.path.splitext(path)[1]) or super().guess_type(path)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing for a request."""


def check_port(port: int) -> None:
    """Raises UserError unless `port` is the number of a port, or 0."""
    if not 0 <= port <= 65535:
        raise UserError(f"--serve {port}: expected a port from 0 (any that is free) to 65535")


def serve(folder: str | os.PathLike, port: int) -> http.server.ThreadingHTTPServer:
    """Returns a server of `folder` on the loopback; `serve_forever` starts it, `server_address` is its host and port.

    Args:
      folder: from `write_site`.
      port: 0 for any that is free.

    Raises:
      UserError: the port is in use.
    """
    check_port(port)
    handler = functools.partial(_Handler, directory=os.fspath(folder))
    try:
        return http.server.ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise UserError(f"port {port} can't be used: {error.strerror}; choose another: --serve 8080") from None
