# What a bot needs: it reads the current key of its own credential, and sees nothing else.
#
# Replace before use:
#   MOUNT        the KV mount, as `mount` of the store    [secret]
#   CREDENTIAL   the path of the one credential, such as bots/mm-bybit
#
#   sed -e 's#MOUNT#secret#; s#CREDENTIAL#bots/mm-bybit#' infra/vault/consumer.hcl \
#     | vault policy write bot-mm-bybit -
#
# Older versions are readable with the same right (`?version=`): keyturn destroys them when the key is dead.

path "MOUNT/data/CREDENTIAL" {
  capabilities = ["read"]
}

# Optional: lets the bot see by the version number alone that there is a new key, without opening it.
path "MOUNT/metadata/CREDENTIAL" {
  capabilities = ["read"]
}

# Optional, for a bot that has to try each new key from its own address (`ip_allowlist` without keyturn's, and no
# `egress_proxy`): it reads the pending key, too. PREFIX is the store's `pending_prefix` [keyturn/pending].
# path "MOUNT/data/PREFIX/CREDENTIAL" {
#   capabilities = ["read"]
# }

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
