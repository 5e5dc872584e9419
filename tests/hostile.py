"""A server that answers what it is told, byte for byte, and the answers that nobody expects."""

from __future__ import annotations

import asyncio
import gzip
import resource
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.ports import free_port

#: What a bomb unpacks to: three hundred megabytes, from 300 kB.
UNPACKED = 300 << 20
_REASONS = {200: "OK", 302: "Found", 403: "Forbidden", 451: "Unavailable For Legal Reasons"}
_PAGE = b"<!DOCTYPE HTML><BODY><H1>ERROR</H1>\x1b]0;owned\x07 configured to block your country</BODY>"


@dataclass(frozen=True)
class Reply:
    """One answer. `endless`: the body goes on after what is given, until the other side hangs up."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    endless: bytes = b""
    #: Seconds between the pieces of an endless body.
    pace: float = 0.0


def json(text: str, status: int = 200, **headers: str) -> Reply:
    return Reply(text.encode(), status, {"Content-Type": "application/json", **headers})


def page(status: int, **headers: str) -> Reply:
    return Reply(_PAGE, status, {"Content-Type": "text/html", **headers})


def packed(content: bytes) -> Reply:
    return Reply(
        gzip.compress(content), 200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    )


def bomb() -> Reply:
    """Give a body that unpacks to three hundred megabytes of JSON."""
    packer, spaces = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS), b" " * (1 << 20)
    parts = [b'{"a":"', *[spaces] * (UNPACKED >> 20), b'"}']
    # What follows a full flush does not hang on what was before: equal parts are packed alike, so once.
    before, part, after = (
        packer.compress(each) + packer.flush(zlib.Z_FULL_FLUSH) for each in (parts[0], spaces, parts[-1])
    )
    checksum = size = 0
    for each in parts:
        checksum, size = zlib.crc32(each, checksum), size + len(each)
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    body = before + part * (UNPACKED >> 20) + after + packer.flush()
    content = header + body + struct.pack("<LL", checksum, size)
    return Reply(content, 200, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


#: Answers that are no API's, whoever is asked. The dear ones stand apart.
ODD: dict[str, Reply] = {
    "null": json("null"),
    "list": json("[]"),
    "list of a grant": json('[{"retCode":0,"code":"0","result":{},"data":[]}]'),
    "text": json('"ok"'),
    "number": json("0"),
    "nothing": json(""),
    "empty object": json("{}"),
    "half": json('{"retCode":0,"code":"0","result":{'),
    "error as text": json('{"error": "Bad Gateway"}'),
    "errors as text": json('{"errors": "Bad Gateway"}', 503),
    "code as object": json('{"retCode":{},"code":{},"error":{"code":[]}}'),
    "codes of steering characters": json(
        '{"retCode":"\\u001b[2J","code":"\\u001b[2J","error":{"code":"\\u001b[2J","message":null}}'
    ),
    "page 200": page(200),
    "page 302": page(302, Location="http://127.0.0.1:9/elsewhere"),
    "page 401": page(401),
    "page 403": page(403),
    "page 404": page(404),
    "page 451": page(451),
    "page 502": page(502),
    "page 503": page(503, **{"Retry-After": "\u00b2"}),
    "page 503 for ever": page(503, **{"Retry-After": "9" * 400}),
    "page 503 date": page(503, **{"Retry-After": "Mon, 99 Foo 99999 99:99:99 GMT"}),
    "deep lists": Reply(b"[" * 100_000),
    "deep objects": Reply(b'{"a":' * 100_000),
    "deep field": Reply(
        b'{"retCode":0,"code":"0","result":'
        + b"[" * 900
        + b"]" * 900
        + b',"data":['
        + b"[" * 900
        + b"]" * 900
        + b"]}"
    ),
    "not UTF-8": Reply(b'{"retCode":0,"code":"0","result":{"a":"\xff\xfe"},"data":[{"a":"\xff"}]}'),
    "UTF-16": Reply('{"retCode":0,"code":"0","result":{},"data":[]}'.encode("utf-16")),
    "unknown charset": Reply(b"\xff{", 200, {"Content-Type": "application/json; charset=no-such-thing"}),
    "NaN": json('{"retCode":NaN,"code":NaN,"result":NaN,"data":NaN,"auth":NaN}'),
    "half a character": json('{"retCode":0,"code":"0","result":{"a":"\\ud800"},"data":[{"a":"\\ud800"}]}'),
    "long number": json('{"retCode":' + "9" * 5000 + ',"code":' + "9" * 5000 + "}"),
    "long code": json('{"retCode":"' + "9" * 5000 + '","code":"' + "9" * 5000 + '"}'),
    "a grant and its refusal": json(
        '{"retCode":10003,"code":"50119","error":{"code":13004},"retCode":0,"code":"0","error":null,'
        '"result":{},"data":[]}'
    ),
    "a grant beside an error": json('{"retCode":0,"code":"0","result":"ok","data":[{}]}', 502),
    "packed garbage": Reply(b"\x1f\x8bnot packed", 200, {"Content-Encoding": "gzip"}),
    "half of what is packed": Reply(gzip.compress(b"{}" * 99)[:-9], 200, {"Content-Encoding": "gzip"}),
    "packed twice": Reply(gzip.compress(gzip.compress(b"{}")), 200, {"Content-Encoding": "gzip, gzip"}),
    "packed as nobody asked": Reply(b"{}", 200, {"Content-Encoding": "br"}),
    "endless": Reply(b'{"a":"', 200, {"Content-Type": "application/json"}, endless=b" " * 65_536),
}


@asynccontextmanager
async def answering(reply: Reply | Callable[[str], Reply]) -> AsyncIterator[str]:
    """Serve one answer to every request, or what a function gives for the request's head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                (
                    int(line.split(":")[1])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length:")
                ),
                0,
            )
            await reader.readexactly(length)
            await _write(writer, reply(head) if callable(reply) else reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", free_port())
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Odd')}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if not reply.endless:
        lines.append(f"Content-Length: {len(reply.body)}")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body)
    await writer.drain()
    while reply.endless:
        writer.write(reply.endless)
        await writer.drain()
        await asyncio.sleep(reply.pace)


def peak_memory() -> int:
    """Give the most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
