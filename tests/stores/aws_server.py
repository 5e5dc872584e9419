"""The AWS that these tests talk to: a child process on loopback, and ways to make it misbehave."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from keyturn.stores.aws.wire import Wire

REGION = "eu-central-1"


@contextmanager
def strict_aws() -> Iterator[str]:
    """Start the server; give its URL."""
    program = Path(__file__).with_name("strict_moto.py")
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()


class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self._data

    def read(self, *_: object) -> bytes:
        return self._data


def answer(status: int, code: str, message: str = "") -> Callable[[Any], AWSResponse]:
    """Build an answer of AWS in place of its real one."""
    body = f'{{"__type": "{code}", "message": "{message}"}}'.encode()

    def handler(request: Any, **_: object) -> AWSResponse:
        headers = {"Content-Type": "application/x-amz-json-1.1"}
        return AWSResponse(request.url, status, headers, _Body(body))

    return handler


@dataclass
class Faults:
    """Makes calls of one wire fail."""

    wire: Wire
    seen: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note the name of every call that leaves."""
        for service in ("secretsmanager", "ssm", "sts"):
            self.wire.client(service).meta.events.register(
                f"before-send.{service}", lambda request, event_name, **_: self.seen.append(event_name)
            )

    def inject(self, service: str, operation: str, handler: Callable[..., Any], times: int = 99) -> None:
        """Let the next calls of an operation go through a handler."""
        left = [times]

        def once(request: Any, **more: Any) -> Any:
            if left[0] <= 0:
                return None
            left[0] -= 1
            return handler(request, **more)

        self.wire.client(service).meta.events.register_first(f"before-send.{service}.{operation}", once)

    def cut_before(self, request: Any, **_: object) -> None:
        """The request does not leave; whether it did is not to be seen."""
        raise ReadTimeoutError(endpoint_url=request.url)

    def cut_after(self, request: Any, *, event_name: str, **_: object) -> None:
        """The request is done, and its answer lost."""
        client = self.wire.client(event_name.split(".")[1])
        client._endpoint.http_session.send(request)
        raise ReadTimeoutError(endpoint_url=request.url)

    def unreachable(self, request: Any, **_: object) -> None:
        raise EndpointConnectionError(endpoint_url=request.url)
