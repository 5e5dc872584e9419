# What the intake of a key that a person made needs: it writes to pending, and can read nothing back.
#
# Replace before use:
#   MOUNT    the KV mount, as `mount` of the store        [secret]
#   PREFIX   as `pending_prefix` of the store             [keyturn/pending]
#   PATHS    the folder of the credentials, such as bots
#
#   sed -e 's#MOUNT#secret#; s#PREFIX#keyturn/pending#; s#PATHS#bots#' infra/vault/intake.hcl \
#     | vault policy write keyturn-intake -
#
# The rotator claims the slot and hands the claim over; only what carries that claim is taken.

path "MOUNT/data/PREFIX/PATHS/*" {
  capabilities = ["create", "update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
