"""Deribit: a key manages the keys of its own account, itself included (API v2).

* Who manages: a key with `account:read_write`. Each sub-account is an account of its own here, with its own
  manager key.
* Words: scopes, `category:level` with the levels read and read_write; a scope that is "none" is not granted.
  Withdrawals and transfers are one scope (`wallet:read_write`), so there is no word for `transfer` alone.
* A key learns what it may do from the scope of a token that it asks for (`public/auth`), since
  `list_api_keys` is a manager's call. The request is signed, so the secret stays here; the token is dropped
  unread, and what its scope said is taken for its life (`sessions`). A scope says more than rights: how the
  token is bound, and the key's name (`scope`).
* Label: 16 characters, letters, digits and underscores. Handle: a number.
* Addresses: not at creation, so they are set by a second call, before the key is used.
* Everything is a GET, also what changes something.
* Where the account demands a second factor for managing keys, the API answers with a challenge as if all were
  well. The driver reports `SECOND_FACTOR`; nothing was done.
* One code (13009) stands for a wrong address, a wrong signature and a wrong clock. The driver tells them
  apart by the time in the answer and by a signed `public/auth`.
"""
