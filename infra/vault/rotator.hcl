# What keyturn needs on a KV mount of version 2, and nothing else.
#
# Replace before use (the values in brackets are keyturn's defaults):
#   MOUNT    the KV mount, as `mount` of the store        [secret]
#   PREFIX   as `pending_prefix` of the store             [keyturn/pending]
#   PATHS    the folder of the credentials, such as bots; write the three stanzas under it, and the two
#            under PREFIX/PATHS, once for each folder (the one of the manager keys, too)
#
#   sed -e 's#MOUNT#secret#; s#PREFIX#keyturn/pending#; s#PATHS#bots#' infra/vault/rotator.hcl \
#     | vault policy write keyturn-rotator -
#
# There is no `delete`, and no write to metadata: both could make version numbers start again at 1.

# The path that consumers read: any write here is a promotion.
path "MOUNT/data/PATHS/*" {
  capabilities = ["create", "read", "update"]
}

# Which versions there are; no value.
path "MOUNT/metadata/PATHS/*" {
  capabilities = ["read"]
}

# Old versions are destroyed, not just hidden, once their key is dead.
path "MOUNT/destroy/PATHS/*" {
  capabilities = ["update"]
}

# Pending versions, on paths of their own.
path "MOUNT/data/PREFIX/PATHS/*" {
  capabilities = ["create", "read", "update"]
}

path "MOUNT/destroy/PREFIX/PATHS/*" {
  capabilities = ["update"]
}

# How many versions the mount keeps, and for how long: `keyturn doctor` tells a setting that would lose a key.
path "MOUNT/config" {
  capabilities = ["read"]
}

# Its own token: is it alive, make it last, what may it do. Needed where the role leaves out the default policy.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}
