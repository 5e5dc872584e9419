"""moto on 127.0.0.1, held to AWS's rules: prints its port, and ends when its standard input closes.

Not moto's own server: that lists two hundred folders for each request, takes it through Flask, and ends the
connection with every answer, which AWS does not (moto 5.2). What the stores call goes straight to moto's
classes here; the rest (STS, KMS, IAM) goes through moto's application.
"""

from __future__ import annotations

import io
import socketserver
import sys
import threading
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.secretsmanager.responses import SecretsManagerResponse
from moto.ssm.responses import SimpleSystemManagerResponse
from werkzeug.datastructures import Headers

from .strict_moto import tighten

ACCOUNT = "123456789012"
_DIRECT = {"secretsmanager": SecretsManagerResponse, "AmazonSSM": SimpleSystemManagerResponse}

_application = DomainDispatcherApplication(create_backend_app)
_application.get_backend_for_host = cache(_application.get_backend_for_host)  # type: ignore[method-assign]


class _Handler(socketserver.StreamRequestHandler):
    """One connection, and the requests that come on it, one after the other."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            while first := self.rfile.readline():
                method, target, _ = first.decode("latin-1").split(" ", 2)
                headers = self._headers()
                body = self.rfile.read(int(headers.get("content-length", 0)))
                service = headers.get("x-amz-target", "").partition(".")[0]
                if service in _DIRECT:
                    answer = _direct(service, headers, body)
                else:
                    answer = self._by_application(method, target, headers, body)
                self._reply(*answer)
        except ConnectionError:
            """The client has gone."""

    def _headers(self) -> Headers:
        headers = Headers()
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            headers.add(name, value.strip())
        return headers

    def _by_application(self, method: str, target: str, headers: Headers, body: bytes) -> Any:
        url = urlsplit(target)
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": unquote(url.path),
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        } | {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers}
        begun: list[Any] = []
        text = b"".join(_application(environ, lambda *start: begun.extend(start[:2])))
        return int(begun[0].partition(" ")[0]), begun[1], text

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        lines = [f"{name}: {value}" for name, value in headers if name.lower() != "content-length"]
        head = "\r\n".join([f"HTTP/1.1 {status} OK", *lines, f"Content-Length: {len(body)}", "", ""])
        self.wfile.write(head.encode("latin-1") + body)


def _direct(service: str, headers: Headers, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """Ask the class of a service what moto's application would ask it, with its way of telling errors."""
    asked = _DIRECT[service]()
    asked.headers, asked.querystring, asked.uri_match = headers, {}, {}
    asked.body, asked.response_headers = body.decode(), {}
    # AWS4-HMAC-SHA256 Credential=ID/DATE/REGION/SERVICE/aws4_request, ...
    asked.region, asked.current_account = headers["authorization"].split("/")[2], ACCOUNT
    status, more, text = asked.call_action()
    told = [(name, str(value)) for name, value in more.items()]
    return status, told, text if isinstance(text, bytes) else text.encode()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def main() -> None:
    tighten()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
