"""For bots: keep a ccxt exchange object on the current key, and confirm that it works.

    import ccxt, keyturn.client
    exchange = ccxt.bybit()
    keyturn.client.attach(exchange, "mm-bybit", inventory="keyturn.yaml")

Imports neither Prefect nor SQLAlchemy, and no ccxt of its own.
"""

from keyturn.client.attachment import Attachment, attach, current
from keyturn.client.credential import Credential
from keyturn.client.source import Source

__all__ = ["Attachment", "Credential", "Source", "attach", "current"]
