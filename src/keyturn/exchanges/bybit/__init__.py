"""Bybit: a master key manages the keys of sub-accounts (API v5).

* Who manages: a key of the master account with one of Account Transfer, Subaccount Transfer or Withdrawal.
  No endpoint creates a key of the master account, so the manager key itself is rotated by hand.
* Words: `Category.Right` ("Spot.SpotTrade"), and "readOnly" for a key that may only look. Bybit's
  "DerivativesTrade" is the unified account's name for the two ContractTrade rights together and is folded
  into them; its pages name it in answers, not as something to ask for.
* Label: the key's note. It is set at creation; no call changes it later.
* Addresses: at creation, in one call. Without any, the key ends after 90 days.
* A sub-account's key can't withdraw.
"""
