"""Bybit: a master key manages the keys of sub-accounts (API v5).

* Who manages: a key of the master account with one of Account Transfer, Subaccount Transfer or Withdrawal.
  No endpoint creates a key of the master account, so the manager key itself is rotated by hand.
* Words: `Category.Right` ("Spot.SpotTrade"), and "readOnly" for a key that may only look. Bybit adds
  "DerivativesTrade" to keys of unified accounts by itself; beside both ContractTrade rights it says no more
  than they do and is folded into them, and anywhere else it is more than was declared.
* Label: the key's note. It is set at creation; no call changes it later.
* Addresses: at creation, in one call. Without any, the key ends after 90 days.
* A sub-account's key can't withdraw.
"""
