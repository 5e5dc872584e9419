"""The AWS that these tests talk to: a child process on loopback, and ways to make it misbehave."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from botocore.loaders import create_loader

from keyturn.stores.aws.wire import Wire

REGION = "eu-central-1"


@contextmanager
def strict_aws() -> Iterator[str]:
    """Start the server; give its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stores.serve_moto"],
        cwd=Path(__file__).parents[2],
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


@pytest.fixture(scope="session")
def aws() -> Iterator[str]:
    """Give the URL of a server that all tests of a process share: each keeps to names of its own."""
    with strict_aws() as url:
        yield url


@pytest.fixture(scope="session", autouse=True)
def botocore_reads_its_files_once() -> Iterator[None]:
    """Let all sessions share one loader: reading AWS's models anew takes half of the time of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", functools.cache(create_loader))
        yield


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give boto3 credentials, and keep it from looking for others."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "not-a-real-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret-aws")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "not-a-real-secret-token")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def plain(aws: str, service: str) -> Any:
    """Give a client of somebody else."""
    return boto3.session.Session().client(service, region_name=REGION, endpoint_url=aws)


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

    def watch(self, *services: str) -> None:
        """Note the name of every call that leaves."""
        for service in services:
            self.wire.client(service).meta.events.register(
                f"before-send.{service}", lambda event_name, **_: self.seen.append(event_name)
            )

    def inject(self, operation: str, handler: Callable[..., Any], times: int = 99) -> list[int]:
        """Let the next calls of an operation go through a handler; the number left may be changed."""
        service = "ssm" if "Parameter" in operation else "secretsmanager"
        left = [times]

        def once(request: Any, **more: Any) -> Any:
            if left[0] <= 0:
                return None
            left[0] -= 1
            return handler(request, **more)

        self.wire.client(service).meta.events.register_first(f"before-send.{service}.{operation}", once)
        return left

    def calls(self) -> list[str]:
        """Give the operations that left since the last time."""
        seen, self.seen = self.seen, []
        return [name.rpartition(".")[2] for name in seen]

    def cut_before(self, request: Any, **_: object) -> None:
        """The request does not leave; whether it did is not to be seen."""
        raise ReadTimeoutError(endpoint_url=request.url)

    def cut_after(self, request: Any, *, event_name: str, **_: object) -> None:
        """The request is done, and its answer lost."""
        client = self.wire.client("ssm" if ".ssm." in event_name else "secretsmanager")
        client._endpoint.http_session.send(request)
        raise ReadTimeoutError(endpoint_url=request.url)

    def unreachable(self, request: Any, **_: object) -> None:
        raise EndpointConnectionError(endpoint_url=request.url)
