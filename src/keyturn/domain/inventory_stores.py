"""The stores of the inventory, the places in them, and how a document there looks to a bot."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from keyturn.domain.inventory_types import (
    FIELD_PATTERN,
    PATH_PATTERN,
    BaseUrl,
    Duration,
    Entry,
    Name,
    SecretRef,
    StorePath,
    Text,
)


class AgeFilesStore(Entry):
    """Files encrypted with age, on this machine."""

    kind: Literal["age_files"]
    path: Text = Field(description="Folder, relative to the inventory.")
    key: SecretRef = Field(description="The age identity that opens the files.")


class VaultToken(Entry):
    """Log in with a token that somebody else looks after."""

    method: Literal["token"]
    token: SecretRef = Field(description="Where the token is.")


class VaultAppRole(Entry):
    """Log in with a role id and a secret id."""

    method: Literal["approle"]
    mount: str = Field("approle", pattern=PATH_PATTERN)
    role_id: str = Field(min_length=1, description="Public half of the AppRole.")
    secret_id: SecretRef = Field(description="Where its secret half is; may be for one use.")


class VaultKubernetes(Entry):
    """Log in with the pod's service account; its token file is read anew at each login."""

    method: Literal["kubernetes"]
    mount: str = Field("kubernetes", pattern=PATH_PATTERN)
    role: str = Field(min_length=1, description="The role in Vault.")
    token_file: str = Field(
        "/var/run/secrets/kubernetes.io/serviceaccount/token", description="The pod's token."
    )


class VaultJwt(Entry):
    """Log in with a JSON web token of another issuer."""

    method: Literal["jwt"]
    mount: str = Field("jwt", pattern=PATH_PATTERN)
    role: str = Field(min_length=1, description="The role in Vault.")
    token: SecretRef = Field(description="Where the token is; read anew at each login.")


class VaultAws(Entry):
    """Log in with this machine's AWS identity."""

    method: Literal["aws"]
    mount: str = Field("aws", pattern=PATH_PATTERN)
    role: str = Field(min_length=1, description="The role in Vault.")
    region: str = Field("us-east-1", description="Region of the STS endpoint that is signed for.")
    header_value: str | None = Field(
        None, description="Value of `X-Vault-AWS-IAM-Server-ID`, if the mount asks for it."
    )


VaultAuth = Annotated[
    VaultToken | VaultAppRole | VaultKubernetes | VaultJwt | VaultAws, Field(discriminator="method")
]


class VaultKv2Store(Entry):
    """HashiCorp Vault or OpenBao, a KV mount of version 2."""

    kind: Literal["vault_kv2"]
    addresses: Annotated[tuple[BaseUrl, ...], Field(min_length=1)] = Field(
        description="Base URLs, tried in this order; the token is sent to no other host. Name the nodes of an"
        " OpenBao cluster, not a balancer that spreads reads over standbys (or set disable_standby_reads)."
    )
    mount: str = Field("secret", pattern=PATH_PATTERN, description="The KV mount.")
    namespace: str | None = Field(None, description="Vault Enterprise or OpenBao namespace.")
    auth: VaultAuth = Field(description="How keyturn logs in.")
    consumer_auth: VaultAuth | None = Field(
        None,
        description="How a bot logs in, to read current alone; default: KEYTURN_VAULT_TOKEN, then as `auth`.",
    )
    ca_file: str | None = Field(None, description="CA bundle (PEM), relative to the inventory.")
    pending_prefix: str = Field(
        "keyturn/pending", pattern=PATH_PATTERN, description="Where pending versions live, on the same mount."
    )
    timeout: Duration = Field(timedelta(seconds=10), description="How long to wait for an answer.")


class AwsAccess(Entry):
    """How a store reaches AWS. Credentials come from boto3's own chain."""

    region: str = Field(description="AWS region.")
    endpoint_url: BaseUrl | None = Field(
        None, description="Another endpoint: a VPC endpoint, or an emulator on this machine."
    )
    profile: str | None = Field(None, description="A profile of the AWS configuration.")
    assume_role: str | None = Field(
        None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$", description="Role to assume."
    )
    external_id: str | None = Field(
        None, description="For the assumed role, where its trust policy asks for one."
    )
    kms_key_id: str | None = Field(
        None, description="KMS key for what is written; default: the service's own."
    )
    prefix: str = Field("", description="Put before every path.")
    timeout: Duration = Field(timedelta(seconds=10), description="How long to wait for an answer.")


class AwsSecretsManagerStore(AwsAccess):
    """AWS Secrets Manager."""

    kind: Literal["aws_secrets_manager"]
    replica_regions: tuple[str, ...] = Field((), description="Regions that must have the new version, too.")


class AwsParameterStore(AwsAccess):
    """AWS Systems Manager Parameter Store, SecureString parameters."""

    kind: Literal["aws_parameter_store"]


StoreEntry = Annotated[
    AgeFilesStore | VaultKv2Store | AwsSecretsManagerStore | AwsParameterStore, Field(discriminator="kind")
]


class StoreAddress(Entry):
    """A path in a named store."""

    store: Name = Field(description="One of `stores`.")
    path: StorePath = Field(description="Where in the store, such as managers/bybit.")


#: keyturn's names for the fields of a key.
OWN_FIELDS = ("api_key", "secret", "passphrase")
FieldName = Annotated[str, Field(pattern=FIELD_PATTERN)]


class FormatEntry(Entry):
    """How a stored key looks to the program that reads it. Fields beside it in the document are kept."""

    kind: Literal["field", "split", "json", "env", "freqtrade", "hummingbot"] = Field(
        description="`field`: api_key, secret and passphrase as they are. `split`: also each in a secret of"
        " its own, PATH/api_key and so on (AWS Secrets Manager). `json`: under names of your own."
        " `env`: one text field with the lines of a .env. `freqtrade`, `hummingbot`: as those bots read them."
    )
    fields: dict[Literal["api_key", "secret", "passphrase"], FieldName] = Field(
        default_factory=dict,
        description="For `json`, `env` and `split`: keyturn's field -> its name; a dot goes one level down in"
        " JSON.",
    )
    text_field: FieldName | None = Field(
        None, description="For `env`: the field of the document that holds the lines; default: `env`."
    )
    connector: Literal["bybit", "bybit_perpetual", "okx", "okx_perpetual"] | None = Field(
        None, description="For `hummingbot`: which of its connectors reads the key."
    )


#: Single fields by keyturn's own names: what every store writes that is told nothing else.
SINGLE_FIELDS = FormatEntry(kind="field")


class MirrorAddress(StoreAddress):
    """A place that follows the promotions, with a format of its own."""

    format: FormatEntry = Field(SINGLE_FIELDS, description="How the key looks there.")
