"""OKX: a master key that is bound to addresses manages the keys of sub-accounts (API v5).

* Who manages: a key of the master account with Trade, bound to at least one address. No endpoint creates a
  key of the master account, so the manager key itself is rotated by hand.
* Words: "read_only", "trade", "withdraw". A key that trades reads as well; Trade also moves funds between
  the owner's accounts, so OKX has no word for `transfer` alone. A sub-account's key can't withdraw.
* Passphrase: chosen by whoever creates the key. keyturn draws one and keeps it with the secret.
* Label: unique among the keys of a sub-account.
* Addresses: at creation, in one call; single ones and networks. Keys that trade and have none end after 14
  days without use.
* Creating, editing and deleting: one call a second each.
"""
