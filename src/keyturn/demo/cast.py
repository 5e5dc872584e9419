"""Who plays in the demo: three accounts at three exchanges, each with one key and the bot that uses it."""

from __future__ import annotations

from dataclasses import dataclass

#: The bots, the exchanges and keyturn all run on this machine.
ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Part:
    """One exchange with its account, its key and its bot. Nothing here is secret."""

    exchange: str
    credential: str
    #: The master account's name and uid in the exchange's books.
    master: str
    master_uid: str
    manager_rights: tuple[str, ...]
    #: The bot's account in the books; the master itself where sub-accounts make keys of their own.
    owner: str
    owner_uid: str
    #: As the inventory writes it; None where the key belongs to the master account.
    subaccount: str | None
    permissions: tuple[str, ...]
    #: The same in the exchange's own words, for the first key, which a person made.
    rights: tuple[str, ...]
    #: How the bot uses ccxt: `sync`, `async`, or `threads` (one exchange object in two threads).
    style: str
    symbol: str
    #: Part of the paths that only the bot calls: by them its calls are told from keyturn's own.
    bot_paths: tuple[str, ...]

    @property
    def account(self) -> str:
        """The account's name in the inventory."""
        return f"{self.exchange}-main"

    @property
    def manager_path(self) -> str:
        """Where the manager key lives in the store."""
        return f"managers/{self.account}"

    @property
    def path(self) -> str:
        """Where the bot's key lives in the store."""
        return f"bots/{self.credential}"

    @property
    def bot(self) -> str:
        """The consumer's name."""
        return f"{self.credential}-bot"


PARTS: tuple[Part, ...] = (
    Part(
        exchange="bybit",
        credential="mm-bybit",
        master="main",
        master_uid="500100100",
        manager_rights=("Wallet.AccountTransfer", "Wallet.SubMemberTransfer"),
        owner="maker",
        owner_uid="500100101",
        subaccount="500100101",
        permissions=("read", "trade_spot"),
        rights=("Spot.SpotTrade",),
        style="threads",
        symbol="BTC/USDT",
        bot_paths=("GET /v5/order/realtime", "POST /v5/order/create"),
    ),
    Part(
        exchange="okx",
        credential="arb-okx",
        master="main",
        master_uid="500200100",
        manager_rights=("read_only", "trade"),
        owner="arbitrage",
        owner_uid="500200101",
        subaccount="arbitrage",
        permissions=("read", "trade"),
        rights=("read_only", "trade"),
        style="async",
        symbol="BTC/USDT",
        bot_paths=("GET /api/v5/trade/orders-pending", "POST /api/v5/trade/"),
    ),
    Part(
        exchange="deribit",
        credential="vol-deribit",
        master="options",
        master_uid="500300100",
        manager_rights=("account:read_write",),
        owner="options",
        owner_uid="500300100",
        subaccount=None,
        permissions=("read", "trade"),
        rights=("account:read", "trade:read_write"),
        style="sync",
        symbol="BTC/USD:BTC",
        bot_paths=("/private/get_open_orders", "/private/buy"),
    ),
)
