"""The rule for URLs: what is called, and that every client reads the same from what is."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from keyturn.domain.journal_urls import journal_fault
from keyturn.domain.urls import (
    BASE,
    NOTICE,
    PROXY,
    PROXY_OF_THE_ENVIRONMENT,
    Use,
    is_plain,
    leaves_this_machine,
    url_fault,
)

TAKEN = [
    "http://127.0.0.1",
    "http://127.0.0.1:8200/",
    "http://127.0.0.53:8080/v1",
    "http://localhost:4566",
    "http://LOCALHOST",
    "http://[::1]",
    "http://[::1]:9000/x",
    "http://[0:0:0:0:0:0:0:1]/",
    "https://vault.example",
    "https://vault.example.:8200/",
    "https://VAULT.example:65535/a/b%20c",
    "https://under_score.example",
    "https://203.0.113.7:8443",
    "https://[2001:db8::7]:1",
    "https://xn--vult-loa.example",
    "HTTPS://vault.example",
]
REFUSED = {
    "http://vault.example": "plain http",
    "http://10.0.0.1": "plain http",
    "http://0.0.0.0": "plain http",
    "http://[::]": "plain http",
    "http://[::2]": "plain http",
    # Some versions of Python call the first of these loopback, and not every system routes it so.
    "http://[::ffff:127.0.0.1]": "plain http",
    "http://127.0.0.1.evil.example": "plain http",
    "http://127.0.0.1.nip.io": "plain http",
    "http://localhost.evil.example": "plain http",
    # Whether these are this machine is for a resolver to say.
    "http://localhost.": "plain http",
    "http://my.localhost": "plain http",
    "http://ip6-localhost": "plain http",
    "http://127.0.0.1.": "number for a host",
    "http://2130706433": "number for a host",
    "http://0x7f000001": "number for a host",
    "http://0x7f.1": "number for a host",
    "http://127.1": "number for a host",
    "http://0177.0.0.1": "number for a host",
    "http://127.0.0.01": "number for a host",
    "https://1.2.3": "number for a host",
    "https://256.1.1.1": "number for a host",
    "https://a.0x": "number for a host",
    "http://127.0.0.1#evil/": "after #",
    "http://127.0.0.1/#evil": "after #",
    "https://vault.example#": "after #",
    "http://127.0.0.1?@evil.example/": "query",
    "https://vault.example/?next=/v1": "query",
    "http://127.0.0.1@evil.example/": "before the host",
    "http://127.0.0.1:80@evil.example/": "before the host",
    "http://evil.example@127.0.0.1/": "before the host",
    "https://:@vault.example": "before the host",
    "https://user:pw@vault.example": "before the host",
    "http://127.0.0.1\\@evil.example/": "backslash",
    "http:\\\\127.0.0.1": "backslash",
    "http://127.0.0.1 .evil.example": "a space",
    " https://vault.example": "a space",
    "https://vault.example\n": "control character",
    "https://vault\t.example": "control character",
    "https://vault.example/\x7f": "control character",
    # Cyrillic a, a full-width digit, an ideographic full stop, a soft hyphen.
    "https://v\u0430ult.example": "outside ASCII",
    "http://\uff11\uff12\uff17.0.0.1": "outside ASCII",
    "http://127\u30020.0.1": "outside ASCII",
    "http://local\u00adhost": "outside ASCII",
    "https://\u24e5ault.example": "outside ASCII",
    "": "not a URL",
    "vault.example:8200": "not a URL",
    "//vault.example": "not a URL",
    "https:vault.example": "not a URL",
    "https:/vault.example": "not a URL",
    "https://": "not a URL",
    "https:///v1": "not a URL",
    "https://:8200": "not a URL",
    "https://[]": "not a URL",
    "https://[::1": "not a URL",
    "https://::1": "not a URL",
    "https://[::1]x": "not a URL",
    "https://[fe80::1%25eth0]": "no IPv6",
    "https://[v1.x]": "no IPv6",
    "https://[127.0.0.1]": "no IPv6",
    "https://vault%2eexample": "not the name",
    "https://-vault.example": "not the name",
    "https://vault..example": "not the name",
    "https://.": "not the name",
    f"https://{'a' * 64}.example": "not the name",
    f"https://{'a.' * 130}example": "not the name",
    "https://a,b": "not the name",
    "https://vault.example:0": "no port",
    "https://vault.example:65536": "no port",
    "https://vault.example:99999999999": "no port",
    "https://vault.example:abc": "no port",
    "https://vault.example:-1": "no port",
    "https://vault.example:+80": "no port",
    "https://vault.example:080": "no port",
    "https://vault.example:": "no port",
    "https://vault.example:8200:8200": "no port",
    "file:///etc/passwd": "neither https nor http",
    "file://127.0.0.1/etc/passwd": "neither https nor http",
    "ftp://127.0.0.1": "neither https nor http",
    "gopher://127.0.0.1": "neither https nor http",
    "unix://run/vault.sock": "neither https nor http",
    "socks5://127.0.0.1:1080": "neither https nor http",
    "javascript://127.0.0.1/%0aalert(1)": "neither https nor http",
}


@pytest.mark.parametrize("url", TAKEN)
def test_a_url_that_everybody_reads_alike_is_taken(url: str) -> None:
    assert url_fault(url, BASE) is None
    assert url_fault(url, NOTICE) is None


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_leads_elsewhere_is_refused_in_words_that_do_not_quote_it(url: str) -> None:
    fault = url_fault(url, BASE)
    assert fault is not None
    assert REFUSED[url] in fault.wrong
    assert fault.write.split()[0] in {"write", "leave"}
    assert "evil" not in fault.wrong + fault.write


@pytest.mark.parametrize(
    ("url", "use", "taken"),
    [
        ("https://bot.example/kt?desk=7", NOTICE, True),
        ("https://bot.example/kt#desk", NOTICE, False),
        ("http://bot.example/kt?desk=7", NOTICE, False),
        ("http://proxy.example:3128", PROXY, True),
        ("http://proxy.example:3128/", PROXY, True),
        ("https://proxy.example", PROXY, True),
        ("http://proxy.example:3128/path", PROXY, False),
        ("http://proxy.example:3128?x", PROXY, False),
        ("http://user:pw@proxy.example:3128", PROXY, False),
        ("http://0x7f.1:3128", PROXY, False),
        ("socks5://127.0.0.1:1080", PROXY, False),
        ("http://user:p%40w@proxy.example:3128", PROXY_OF_THE_ENVIRONMENT, True),
        ("http://user:p@w@proxy.example:3128", PROXY_OF_THE_ENVIRONMENT, False),
        ("http://user:pw@:3128", PROXY_OF_THE_ENVIRONMENT, False),
    ],
)
def test_a_use_has_what_is_its_own(url: str, use: Use, taken: bool) -> None:
    assert (url_fault(url, use) is None) is taken


# Whole pieces, and not single characters: drawn that way they meet in the forms that parsers differ about.
LABELS = [
    "127",
    "0",
    "1",
    "0x7f",
    "0177",
    "2130706433",
    "localhost",
    "evil",
    "example",
    "a-b",
    "a_b",
    "-a",
    "xn--vult-loa",
]
LABELS += ["LOCALHOST", "\u0430", "\uff11", ""]
HOSTS = st.one_of(
    st.sampled_from(
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[2001:db8::7]", "[fe80::1%eth0]"]
    ),
    st.lists(st.sampled_from(LABELS), min_size=1, max_size=5).map(".".join),
)
JUNK = st.sampled_from(
    ["", "", "", "@", "#", "?", "/", "\\", ":", "[", "]", "%2e", "\t", " ", "u@", "u:p@", "x@", "//"]
)
URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(
            ["http://", "https://", "HTTP://", "ftp://", "http:/", "//", "http:\\\\", "https:///"]
        ),
        JUNK,
        HOSTS,
        JUNK,
        st.sampled_from(["", ":80", ":443", ":8200", ":65535", ":0", ":65536", ":080", ":+1", ":", ":x"]),
        JUNK,
        st.sampled_from(["", "/", "/v1", "/../x", "//evil.example"]),
        JUNK,
    ),
)


def _host(text: str | None) -> object:
    plain = (text or "").strip("[]").lower()
    try:
        return ip_address(plain)
    except ValueError:
        return plain


@settings(max_examples=400, deadline=None)
@given(URLS)
def test_all_clients_read_one_host_and_one_port_from_what_is_taken(url: str) -> None:
    if url_fault(url, BASE) is not None:
        return
    split, three, x, y = urlsplit(url), urllib3.util.parse_url(url), httpx.URL(url), URL(url)
    standard = 443 if split.scheme == "https" else 80
    assert {split.scheme, three.scheme, x.scheme, y.scheme} <= {"http", "https"}
    assert len({split.scheme, three.scheme, x.scheme, y.scheme}) == 1
    hosts = {_host(h) for h in (split.hostname, three.host, x.raw_host.decode(), y.raw_host)}
    assert len(hosts) == 1
    assert len({split.port or standard, three.port or standard, x.port or standard, y.port}) == 1
    assert not any((split.username, three.auth, x.userinfo, y.raw_user))
    if is_plain(url):
        assert not leaves_this_machine(url)
        (host,) = hosts
        assert host == "localhost" or getattr(host, "is_loopback", False)


@settings(max_examples=100, deadline=None)
@given(HOSTS)
def test_no_address_in_another_spelling_is_taken_for_a_name(host: str) -> None:
    """What the C library takes for an address, without asking anybody, is one to the rule, too."""
    if url_fault(f"https://{host}", BASE) is not None:
        return
    bare = host.strip("[]")
    try:
        found = socket.getaddrinfo(bare, 443, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    assert ip_address(found[0][4][0]) == ip_address(bare)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["https", "http"]),
    st.sampled_from(
        ["vault", "vault.internal.example", "db-1.example", "localhost", "203.0.113.7", "a.b.c.d.e"]
    ),
    st.one_of(st.none(), st.integers(1, 65535)),
    st.sampled_from(["", "/", "/v1/kv", "/a/b.c/~d/", "/a%20b"]),
)
def test_an_ordinary_url_is_taken_and_in_the_clear_to_this_machine_alone(
    scheme: str, host: str, port: int | None, path: str
) -> None:
    url = f"{scheme}://{host}{'' if port is None else f':{port}'}{path}"
    fault = url_fault(url, BASE)
    if scheme == "https" or host == "localhost":
        assert fault is None
    else:
        assert fault is not None
        assert fault.wrong == "plain http to another machine"


P = "postgresql+psycopg://"
JOURNALS: dict[str, str | None] = {
    "sqlite:///journal.db": None,
    f"{P}u@127.0.0.1/db": None,
    f"{P}u@localhost:5432/db": None,
    f"{P}u@[::1]/db": None,
    f"{P}u@/db?host=/run/postgresql": None,
    f"{P}u@127.0.0.1/db?host=[::1]": None,
    f"{P}u@db.example/db?sslmode=require": None,
    f"{P}u@db.example:5432/db?sslmode=verify-ca&sslrootcert=/etc/ca.pem": None,
    f"{P}u@db.example/db?sslmode=verify-full": None,
    f"{P}u@/db?host=a.example:1&host=b.example:2&sslmode=verify-full": None,
    f"{P}u@db.example/db": "without TLS",
    f"{P}u@db.example/db?sslmode=prefer": "without TLS",
    f"{P}u@db.example/db?sslmode=allow": "without TLS",
    f"{P}u@db.example/db?sslmode=disable": "without TLS",
    f"{P}u@db.example/db?sslmode=Require": "without TLS",
    f"{P}u@db.example/db?SSLMODE=require": "without TLS",
    f"{P}u@db.example/db?sslmode=require&sslmode=disable": "without TLS",
    f"{P}u@db.example/db?application_name=sslmode%3Drequire": "without TLS",
    # The driver goes to what the query names.
    f"{P}u@127.0.0.1/db?host=db.example": "without TLS",
    f"{P}u@127.0.0.1/db?host=127.0.0.1,db.example": "without TLS",
    f"{P}u@127.0.0.1/db?hostaddr=203.0.113.7": "without TLS",
    f"{P}u@127.0.0.1/db?service=elsewhere": "without TLS",
    f"{P}u@127.0.0.1.evil.example/db": "without TLS",
    f"{P}u@0x7f.1/db": "number for a host",
    f"{P}u@2130706433/db?sslmode=require": "number for a host",
    f"{P}u@127.0.0.1@evil.example/db": "not a URL",
    f"{P}u@127.0.0.1#evil.example/db": "not a URL",
    f"{P}u@a,b/db?sslmode=require": "not the name",
    f"{P}u@127.0.0.1:0/db": "no port",
    f"{P}u@127.0.0.1:65536/db": "no port",
    f"{P}u@127.0.0.1:abc/db": "no port",
    f"{P}u:pw@127.0.0.1/db": "password",
    f"{P}u@127.0.0.1/db?password=pw": "password",
    f"{P}u@127.0.0.1/db?sslpassword=pw": "password",
    f"{P}u@127.0.0.1": "no database",
    f"{P}u@127.0.0.1/": "no database",
    f"{P}/db": "names no server",
    f"{P}u@/db": "names no server",
    f"{P}u@127.0.0.1/d b": "not a URL",
    "postgresql://u@127.0.0.1/db": "not a journal",
    "mysql://u@127.0.0.1/db": "not a journal",
    "file:///journal.db": "not a journal",
    "sqlite:///": "not a journal",
}


@pytest.mark.parametrize("url", JOURNALS)
def test_a_journal_on_another_machine_is_spoken_to_with_tls_alone(url: str) -> None:
    fault, words = journal_fault(url), JOURNALS[url]
    if words is None:
        assert fault is None
    else:
        assert fault is not None
        assert words in fault.wrong
        assert "evil" not in fault.write


def test_the_driver_goes_where_the_rule_looked() -> None:
    from sqlalchemy import make_url

    for url, words in JOURNALS.items():
        if words is None and url.startswith(P):
            parsed = make_url(url)
            arguments = parsed.get_dialect()().create_connect_args(parsed)[1]
            hosts = arguments["host"].split(",")
            encrypted = arguments.get("sslmode", "").startswith(("require", "verify"))
            assert encrypted or all(
                host.startswith("/") or host in {"localhost", "127.0.0.1", "::1", "[::1]"} for host in hosts
            )
