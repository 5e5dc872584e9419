"""The stores in AWS: Secrets Manager, and Parameter Store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyturn.stores.formats import SINGLE, Formats

if TYPE_CHECKING:
    from keyturn.domain.inventory import AwsParameterStore as ParameterStoreEntry
    from keyturn.domain.inventory import AwsSecretsManagerStore as SecretsManagerEntry
    from keyturn.stores.aws.parameter_store import AwsParameterStore
    from keyturn.stores.aws.secrets_manager import AwsSecretsManager


def open_aws(
    name: str, entry: SecretsManagerEntry | ParameterStoreEntry, formats: Formats = SINGLE
) -> AwsSecretsManager | AwsParameterStore:
    """Open the store that an inventory entry describes; nothing is contacted yet.

    Args:
        name: of the store in the inventory, for messages.
        entry: what the inventory says of it.
        formats: how its documents look.

    Raises:
        StoreError: `MISCONFIGURED` when boto3 is not installed, or the profile is not there.
    """
    from keyturn.stores.aws.wire import Wire

    wire = Wire(
        name,
        region=entry.region,
        endpoint_url=entry.endpoint_url,
        profile=entry.profile,
        assume_role=entry.assume_role,
        external_id=entry.external_id,
        timeout=entry.timeout.total_seconds(),
    )
    if entry.kind == "aws_secrets_manager":
        from keyturn.stores.aws.secrets_manager import AwsSecretsManager

        return AwsSecretsManager(
            wire,
            prefix=entry.prefix,
            kms_key_id=entry.kms_key_id,
            replica_regions=entry.replica_regions,
            formats=formats,
        )
    from keyturn.stores.aws.parameter_store import AwsParameterStore

    return AwsParameterStore(wire, prefix=entry.prefix, kms_key_id=entry.kms_key_id, formats=formats)
