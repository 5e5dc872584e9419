"""The play that all searches are about: three venues, Prefect, flows that succeed, fail and are killed.

Everything runs in processes of its own, as loud as its settings allow, with one folder for all that they
could write: home, temporary files, logs, output, the inventory. What holds secrets by right lies apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from itertools import chain, cycle, repeat
from pathlib import Path
from typing import Any, Self

import certifi
import yaml

from keyturn import wiring
from keyturn.client.bundle import IDENTITY
from keyturn.exchanges import catalog
from keyturn.prefect_access import draw_auth, shared_settings
from keyturn.settings import LoadedInventory, load_inventory
from tests.ports import free_port

from .house import VENUES, House, Tenant, new_canary
from .remote import GATES, REMOTE, Remote
from .sampler import Sampler
from .scanner import Hit, Search
from .venues import IN_ITS_WORDS, SPOILED, Street

_ROOT = Path(__file__).parents[2]
# Prefect's first start makes its database: 25 seconds on a busy machine with two cores.
_PATIENCE_SECONDS = 300.0
# Credentials whose rotations are made to fail, a few more than are needed: in a sweep, of each venue (where a
# call meets a surprise each time that it is made, and where only those that no flow run has shown to meet
# one); in a flow run of their own, of as many; by the command line.
_FAILING_EACH, _FAILING_FIRST, _ALONE_EACH, _ALONE_FIRST, _BY_HAND = 44, 17, 28, 26, 6
# The credentials whose worker dies between the exchange's "created" and the store's "stored".
_KILLED = {"killed-main": "main", "killed-vault": "vault", "killed-aws": "aws"}
# Where the credentials are kept whose rotations fail in one way or another, in turn.
_STORES = ("main", *REMOTE)
# Of each remote store: credentials whose store fails them once, by its wire; each call has two of the twelve.
_WIRED = 4


#: What the searches call the auth string of Prefect's server.
LOGIN = "login of Prefect"


class Play:
    """Plays once; then every test searches what is left.

    Args:
        folder: holds all that the play leaves.
        product: let each call of a rotation meet a surprise each time that it is made, and not only once; ask
            each venue's new key for in each way that an answer can be spoiled, and not only in those that the
            venue's own words are in; keep the credentials in all stores alike, and not one of each sort.
    """

    def __init__(self, folder: Path, *, product: bool) -> None:
        self._product = product
        self._failing = _FAILING_EACH if product else _FAILING_FIRST
        self._alone = _ALONE_EACH if product else _ALONE_FIRST
        self.canary, self.decoy, self.hmac_key = new_canary(), new_canary(), new_canary()
        #: Begins every token, secret id and access key of Vault and AWS.
        self.login = new_canary()
        #: What the searches go through, and what they must not: the orders, which hold the canaries.
        self.folder, self._apart = folder / "seen", folder / "apart"
        for each in ("home", "tmp", "logs", "house"):
            (self.folder / each).mkdir(parents=True)
        self._apart.mkdir()
        self.prefect_home = self.folder / "home" / "prefect"
        self._port, self._auth = free_port(), draw_auth()
        self._stack = ExitStack()
        self._let_processes_leave_cores()
        self.sampler = self._stack.enter_context(Sampler())
        self.street = self._stack.enter_context(Street(self.canary, self.hmac_key))
        self.remote = self._stack.enter_context(Remote(self.login, self._apart))
        self.house = House(self.folder / "house", self.street, self.remote, self.hmac_key)
        #: What the flows of `rotate` met and how they ended.
        self.told: dict[str, Any] = {}

    def _let_processes_leave_cores(self) -> None:
        """Take away the limit of the core dumps of whatever is started from here on."""
        before, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))
        self._stack.callback(resource.setrlimit, resource.RLIMIT_CORE, (before, most))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- the acts ----------------------------------------------------------------------------

    def perform(self) -> None:
        """Play everything, and stop every process."""
        server = self._spawn("server", "-m", "flows.prefect_server", "--port", str(self._port))
        self._furnish()
        bot = self._launch("bot", bots=self._bots(), wait=False)
        self._until("Prefect's server", lambda: self._healthy(server))
        told = self._apart / "told.json"
        rotate = self._launch(
            "rotate",
            told=str(told),
            killed=list(_KILLED),
            gated=str(self.house.gated),
            wait=False,
            **self._cast(),
        )
        assert rotate.wait(_PATIENCE_SECONDS) == -signal.SIGABRT, self.said("rotate")[-4000:]
        self.told = json.loads(told.read_text())
        # Its first act is a sweep, which finishes what the kill left; if that fails, another one comes later.
        later = datetime.now(UTC) + timedelta(minutes=4)
        serving = self._spawn(
            "serve", "-m", "flows.serve", "--sweep-cron", f"{later.minute} * * * *", console=True
        )
        self._launch("commands", commands=self._commands())
        loaded = load_inventory(self.house.file, manifests=catalog.manifests())
        self._until("the sweep after the kill", lambda: asyncio.run(_closed(loaded, _KILLED)))
        for process in (serving, server):
            self._end(process)
        bot.communicate("", timeout=_PATIENCE_SECONDS)

    def _furnish(self) -> None:
        by_hand, alone = self._stores(), self._stores()
        self.house.take_in(
            Tenant("mm-bybit", "bybit", ("bot-bybit",), "aws"),
            Tenant("arb-okx", "okx", ("bot-okx", "hook"), "vault"),
            Tenant("vol-deribit", "deribit", ("render",)),
            # Nobody runs its bot.
            Tenant("by-word", "okx", ("bot-away",)),
            *(Tenant(name, "okx", store=store) for name, store in _KILLED.items()),
            *(Tenant(f"cli-{n}", "okx", store=next(by_hand)) for n in range(_BY_HAND)),
            *(Tenant(f"alone-{n}", VENUES[n % len(VENUES)], store=next(alone)) for n in range(self._alone)),
            *(Tenant(f"wired-{s}-{n}", "okx", store=s) for s in REMOTE for n in range(_WIRED)),
        )
        bad, ill, turns = self._stores(), self._stores(), cycle(VENUES)
        for venue in VENUES:
            self.house.take_in(Tenant(f"clean-{venue}", venue))
            self.house.take_in(
                *(Tenant(f"bad-{venue}-{n}", venue, store=next(bad)) for n in range(self._failing))
            )
        for kind in SPOILED:
            for venue in VENUES if self._product or kind in IN_ITS_WORDS else (next(turns),):
                tenant = Tenant(f"spoiled-{venue}-{kind.replace(' ', '-')}", venue, store=next(ill))
                self.house.take_in(tenant)
                self.street.exchanges[venue].spoiled[tenant.owner] = kind
        with self.remote.credentials():
            self.house.furnish()

    def _stores(self) -> Iterator[str]:
        """Give the stores of credentials of one sort: all in turn, or each once and then the one of files."""
        return cycle(_STORES) if self._product else chain(_STORES, repeat("main"))

    def _cast(self) -> dict[str, Any]:
        names = list(self.house.tenants)
        return {
            "good": ["mm-bybit", "arb-okx", "vol-deribit"],
            "alone": {n: t.venue for n, t in self.house.tenants.items() if n.startswith("alone-")},
            "clean": {venue: f"clean-{venue}" for venue in VENUES},
            "failing": {venue: [n for n in names if n.startswith(f"bad-{venue}")] for venue in VENUES},
            "spoiled": [n for n in names if n.startswith("spoiled-")],
            "wired": [n for n in names if n.startswith("wired-")],
            "remote": REMOTE,
            "gates": GATES,
            "product": self._product,
        }

    def _bots(self) -> dict[str, tuple[str, str]]:
        return {
            name: (venue, self.street.exchanges[venue].base_url)
            for name, venue in (("mm-bybit", "bybit"), ("arb-okx", "okx"))
        }

    def _commands(self) -> list[dict[str, Any]]:
        """Give commands that fail, each with a secret at hand, and those that look at what is left."""
        wrong = {"api_key": "a-key", "secret": f"{self.canary}-wrong", "passphrase": f"{self.canary}-aA1"}
        pasted = self._apart / "pasted.yaml"
        text = self.house.inventory().replace(
            '"managers/okx"', f'"managers/okx", "secret": "{self.canary}wrong"', 1
        )
        pasted.write_text(text)
        rotate = ["rotate", "--yes", "--reason", "a canary test"]
        failures = [
            {"exchange.create_key": "ccxt refusal"},
            {"store.stage": "panic"},
            {"store.read": "chain"},
            {"open": "panic"},
            {"exchange.introspect": "ExchangeError rejected"},
            {"journal.commit": "SQL"},
        ]
        return [
            {"arguments": ["put", "cli-0"], "stdin": json.dumps(wrong)[:-2]},
            {"arguments": ["put", "cli-0"], "stdin": "\n".join([*wrong.values(), self.canary])},
            {"arguments": ["put", "cli-0", "--json"], "stdin": json.dumps(wrong | {self.canary: "x"})},
            {"arguments": ["put", "cli-0"], "stdin": json.dumps(wrong)},
            {"arguments": ["put", "--manager", "okx", "--json"], "stdin": json.dumps(wrong)},
            {"arguments": ["check"], "inventory": str(pasted)},
            {"arguments": ["check", "--json"], "inventory": str(pasted)},
            *({"arguments": [*rotate, f"cli-{n}"], "always": f} for n, f in enumerate(failures[::2])),
            *(
                {"arguments": [*rotate, f"cli-{n + 3}", "--json"], "always": f}
                for n, f in enumerate(failures[1::2])
            ),
            {"arguments": ["sweep"], "always": {"journal.due": "ccxt network"}},
            {
                "arguments": ["abort", "cli-0", "--reason", "a canary test"],
                "always": {"journal.commit": "group"},
            },
            *self._of_a_bot_elsewhere(rotate),
            {"arguments": ["doctor"], "always": {"exchange.introspect": "unicode"}},
            *(
                {"arguments": [*command, "--json"]}
                for command in (["status"], ["history", "mm-bybit"], ["plan"])
            ),
            {"arguments": ["verify-journal"]},
        ]

    def _of_a_bot_elsewhere(self, rotate: list[str]) -> list[dict[str, Any]]:
        """Give commands that make what bots' hosts need, and that take a person's word for a bot."""
        confirm = ["confirm", "by-word", "--consumer", "bot-away", "--by", "Ada Lovelace", "--yes"]
        confirm += ["--reason", "a canary test"]
        away, others = self.house.bundles["bot-away"], self.house.bundles["bot-okx"]
        return [
            {"arguments": ["client-bundle", "bot-away", "--to", str(away), "--new-identity"]},
            {"arguments": ["client-bundle", "bot-okx", "--to", str(others), "--json"]},
            {"arguments": [*rotate, "by-word", "--no-wait"]},
            {"arguments": confirm, "always": {"journal.commit": "chain"}},
            {"arguments": confirm},
        ]

    # -- processes ---------------------------------------------------------------------------

    def _launch(self, do: str, *, wait: bool = True, **more: Any) -> subprocess.Popen[str]:
        """Start a child process of `launch.py`; by default wait until it has ended well."""
        orders = {"do": do, "canary": self.canary, "decoy": self.decoy, "inventory": str(self.house.file)}
        orders |= more | {"log": str(self.folder / "logs" / f"{do}.log")}
        file = self._apart / f"{do}.json"
        file.write_text(json.dumps(orders))
        process = self._spawn(do, "-m", "tests.canary.launch", do, str(file))
        if wait:
            assert process.wait(_PATIENCE_SECONDS) == 0, self.said(do)[-4000:]
        return process

    def _spawn(self, name: str, *arguments: str, console: bool = False) -> subprocess.Popen[str]:
        """Start a child process of Python.

        Args:
            console: write logs to stderr by Prefect's console, and not past it.
        """
        more = {} if console else {"PREFECT_LOGGING_SETTINGS_PATH": str(self._without_console())}
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=self._environment() | more,
            cwd=self.folder / "house",
            stdin=subprocess.PIPE,
            stdout=(self.folder / "logs" / f"{name}.out").open("ab"),
            stderr=(self.folder / "logs" / f"{name}.err").open("ab"),
            text=True,
        )
        self._stack.callback(self._end, process)
        return process

    def said(self, name: str) -> str:
        """What a process wrote to stdout and stderr."""
        return "".join((self.folder / "logs" / f"{name}.{end}").read_text() for end in ("out", "err"))

    def _environment(self) -> dict[str, str]:
        """Give the children's environment: as loud and as careless as settings can make it."""
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("PREFECT_", "KEYTURN_", "AWS_", "VAULT_", "BAO_"))
        }
        return (
            kept
            | self.remote.environment()
            | {
                "HOME": str(self.folder / "home"),
                "TMPDIR": str(self.folder / "tmp"),
                "PYTHONPATH": str(_ROOT),
                "PYTHONFAULTHANDLER": "1",
                "KEYTURN_INVENTORY": str(self.house.file),
                "KEYTURN_DEBUG": "1",
                "KEYTURN_LOG": "json",
                "DO_NOT_TRACK": "1",
                "PREFECT_HOME": str(self.prefect_home),
                **shared_settings(f"http://127.0.0.1:{self._port}", self._auth),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_CLIENT_MAX_RETRIES": "100",
                "PREFECT_LOGGING_LEVEL": "DEBUG",
                "PREFECT_SERVER_LOGGING_LEVEL": "DEBUG",
                # These go to Prefect's database too.
                "PREFECT_LOGGING_EXTRA_LOGGERS": "ccxt,aiohttp,keyturn,hvac,requests,urllib3,boto3,botocore",
                "PREFECT_LOGGING_LOG_PRINTS": "true",
                "PREFECT_LOGGING_COLORS": "false",
                # Nobody looks at pages, nor makes blocks.
                "PREFECT_SERVER_UI_ENABLED": "false",
                "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
                # Each new client of Prefect's reads a bundle of certificates, which no loopback needs.
                "PREFECT_API_SSL_CERT_FILE": str(self._certificate()),
                "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            }
        )

    def _without_console(self) -> Path:
        """Give Prefect's settings of logging with a plain stream in place of its console.

        The console is of rich, which looks for things to paint in every line, and asks each time how wide the
        terminal is: a sixth of what rotations and server cost. The texts are the same.
        """
        file = self._apart / "logging.yml"
        prefect = find_spec("prefect")
        assert prefect is not None
        assert prefect.origin is not None
        settings = yaml.safe_load((Path(prefect.origin).parent / "logging" / "logging.yml").read_text())
        console = settings["handlers"]["console"]
        console["class"] = "logging.StreamHandler"
        del console["styles"]
        file.write_text(yaml.safe_dump(settings))
        return file

    def _certificate(self) -> Path:
        """Give a bundle of one certificate, where the usual one has a hundred and fifty."""
        file = self._apart / "certificates.pem"
        end = "-----END CERTIFICATE-----"
        file.write_text(Path(certifi.where()).read_text().partition(end)[0] + end + "\n")
        return file

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _until(self, what: str, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not look():
            assert time.monotonic() < deadline, f"waited too long for {what}"
            time.sleep(0.1)

    def _healthy(self, server: subprocess.Popen[str]) -> bool:
        assert server.poll() is None, self.said("server")[-4000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    # -- what is left ------------------------------------------------------------------------

    @property
    def database(self) -> Path:
        """Prefect's database."""
        return self.prefect_home / "prefect.db"

    @property
    def allowed(self) -> list[Path]:
        """Where secrets belong: keys of store and bots, the webhook's key, the file that a bot reads."""
        bots = [folder / IDENTITY for folder in self.house.bundles.values()]
        return [self.house.identity, self.house.hmac_file, self.house.rendered, *bots]

    def search(self, **more: str) -> Search:
        """Give the search for everything that is secret here, and for more by name."""
        issued = {s for exchange in self.street.exchanges.values() for s in exchange.secrets()}
        # Passphrases that keyturn drew in processes that were not told the canary.
        strays = sorted(s for s in issued if self.canary not in s)
        return Search(
            {
                "canary": self.canary,
                "login": self.login,
                "webhook key": self.hmac_key,
                # Whoever has it runs commands on the workers.
                LOGIN: self._auth.partition(":")[2],
                "store key": _key_in(self.house.identity),
                "bot's key": _key_in(self.house.bundles["bot-away"] / IDENTITY),
            }
            | {f"passphrase {number}": text for number, text in enumerate(strays)}
            | more
        )

    def found(self, folder: Path | None = None, **more: str) -> list[Hit]:
        """Search a folder, by default the whole, for all that is secret here, but where secrets belong.

        Args:
            folder: what to search.
            more: name -> text, of what to search for besides.
        """
        return sorted(self.search(**more).tree(folder or self.folder, but=self.allowed))

    def found_in(self, blobs: Iterable[tuple[str, bytes]]) -> list[Hit]:
        """Search other places."""
        search = self.search()
        return sorted(hit for place, data in blobs for hit in search.data(place, data))


def _key_in(file: Path) -> str:
    """Give the secret line of an age identity."""
    return file.read_text().strip().splitlines()[-1]


async def _closed(loaded: LoadedInventory, credentials: Iterable[str]) -> bool:
    """Tell whether the newest rotation of each credential has come to its end."""
    async with wiring.open_journal(loaded, create=False) as journal:
        newest = [await journal.rotations(credential, limit=1) for credential in credentials]
        return not any(rotation.is_open for (rotation,) in newest)
