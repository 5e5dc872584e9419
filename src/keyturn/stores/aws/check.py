"""The read-only checks of the stores in AWS: identity, what stands at each path, replicas, rights.

Rights to write cannot be tried without writing. Where keyturn's role may ask IAM about itself
(`iam:SimulatePrincipalPolicy`), IAM tells each action that is missing and each that is too much;
elsewhere the finding says that nobody could tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex

from keyturn.domain.errors import StoreError
from keyturn.domain.slots import Slot, Stored
from keyturn.ports.store import Finding
from keyturn.stores.aws.faults import AwsError, store_error
from keyturn.stores.aws.field_secrets import FieldSecrets
from keyturn.stores.aws.labels import SlotReader
from keyturn.stores.aws.parameter_slots import ParameterSlots
from keyturn.stores.aws.parameters import Parameters
from keyturn.stores.aws.shelf import Shelf, View
from keyturn.stores.aws.wire import Wire

#: What a rotation calls; infra/aws/rotator.json allows these and no others.
SECRETS_NEEDED = (
    "secretsmanager:CreateSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:ListSecretVersionIds",
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecretVersionStage",
)
PARAMETERS_NEEDED = (
    "ssm:DeleteParameters",
    "ssm:GetParameter",
    "ssm:GetParameterHistory",
    "ssm:GetParameters",
    "ssm:PutParameter",
)
# What would let whoever takes over the worker do lasting harm, and no rotation calls.
_SECRETS_TOO_MUCH = (
    "secretsmanager:DeleteSecret",
    "secretsmanager:PutResourcePolicy",
    "secretsmanager:RotateSecret",
)
_PARAMETERS_TOO_MUCH = ("ssm:LabelParameterVersion", "ssm:PutResourcePolicy")
_POLICY = "infra/aws/rotator.json"
_TAKE = "Take it from the role."


def check_secrets(
    wire: Wire,
    shelf: Shelf,
    slots: SlotReader,
    fields: FieldSecrets,
    paths: Sequence[str],
    regions: Sequence[str],
) -> list[Finding]:
    """Look at everything that a rotation of these secrets will need; writes nothing."""
    who = _identity(wire)
    findings, iam = [who], _Iam(wire, who.detail)
    for path in paths:
        view, found = _secret(shelf, slots, path, regions)
        findings += found
        arns = {path: view.arn} if view else {}
        for where, seen, finding in fields.findings(path):
            findings.append(finding)
            findings += _replicas(where, seen, regions) if seen else []
            arns |= {where: seen.arn} if seen else {}
        for where in (path, *fields.paths(path).values()) if who.ok else ():
            arn = arns.get(where) or _secret_arn(wire, who.detail, shelf.name(where))
            needed = (*SECRETS_NEEDED, *(["secretsmanager:ReplicateSecretToRegions"] if regions else []))
            findings += iam.rights(where, arn, needed, _SECRETS_TOO_MUCH)
    if who.ok:
        stranger = _secret_arn(wire, who.detail, _nobodys())
        findings += iam.beyond(stranger, "secretsmanager:GetSecretValue", shelf.name(""))
    return findings


def check_parameters(
    wire: Wire, parameters: Parameters, slots: ParameterSlots, paths: Sequence[str]
) -> list[Finding]:
    """Look at everything that a rotation of these parameters will need; writes nothing."""
    who = _identity(wire)
    findings, iam = [who], _Iam(wire, who.detail)
    for path in paths:
        findings += _parameter(parameters, slots, path)
        if who.ok:
            arn = _parameter_arn(wire, who.detail, parameters.name(path))
            findings += iam.rights(path, arn, PARAMETERS_NEEDED, _PARAMETERS_TOO_MUCH)
    if who.ok:
        stranger = _parameter_arn(wire, who.detail, _nobodys())
        findings += iam.beyond(stranger, "ssm:GetParameter", parameters.name(""))
    return findings


def _nobodys() -> str:
    """Make up a name that is under no prefix."""
    return f"kt-nobodys-{token_hex(8)}"


def _failed(subject: str, error: StoreError) -> Finding:
    return Finding(subject, ok=False, detail=error.what, todo=error.todo)


def _identity(wire: Wire) -> Finding:
    try:
        return Finding("identity", ok=True, detail=str(wire.call("sts", "get_caller_identity")["Arn"]))
    except AwsError as error:
        return _failed("identity", store_error("this process", error, wrote=False))
    except StoreError as error:
        return _failed("identity", error)


def _secret(
    shelf: Shelf, slots: SlotReader, path: str, regions: Sequence[str]
) -> tuple[View | None, list[Finding]]:
    try:
        view = shelf.view(path)
        if view is None:
            return None, [Finding(path, ok=True, detail="nothing is stored yet")]
        opened = [slots.read(path, slot) for slot in Slot]
    except StoreError as error:
        return None, [_failed(path, error)]
    findings = [_contents(path, opened)]
    if view.rotated_by_aws:
        todo = "aws secretsmanager cancel-rotate-secret, or leave this secret to AWS."
        findings.append(Finding(path, ok=False, detail="AWS rotates this secret, too", todo=todo))
    return view, findings + _replicas(path, view, regions)


def _replicas(path: str, view: View, regions: Sequence[str]) -> list[Finding]:
    findings = []
    for region in sorted({*regions, *view.replicas}):
        state = view.replicas.get(region)
        ok = state == "InSync"
        todo = "" if ok else f"aws secretsmanager replicate-secret-to-regions for {region}, or wait for it."
        findings.append(
            Finding(path, ok=ok, detail=f"replica in {region}: {state or 'there is none'}", todo=todo)
        )
    return findings


def _contents(path: str, opened: Sequence[Stored | None]) -> Finding:
    held = [f"{stored.info.slot} {stored.info.version[:12]}" for stored in opened if stored]
    return Finding(path, ok=True, detail=", ".join(held) + " opened" if held else "nothing is stored yet")


def _parameter(parameters: Parameters, slots: ParameterSlots, path: str) -> list[Finding]:
    try:
        findings = [_contents(path, [slots.read(path, slot) for slot in Slot])]
        param = parameters.peek(path, parameters.name(path))
    except StoreError as error:
        return [_failed(path, error)]
    if param and param.kind != "SecureString":
        todo = "Store the key in a new SecureString, and delete this parameter: AWS cannot change its type."
        findings.append(
            Finding(path, ok=False, detail=f"a {param.kind} parameter is not encrypted", todo=todo)
        )
    return findings


class _Iam:
    """Asks IAM what a role may do, until it once does not answer: without a way there each try takes long.

    Args:
        wire: to AWS.
        who: whose rights, as STS names it.
    """

    def __init__(self, wire: Wire, who: str) -> None:
        self._wire = wire
        self._who = who
        self._answers = True

    def rights(self, path: str, arn: str, needed: Sequence[str], too_much: Sequence[str]) -> list[Finding]:
        """Name each action that is missing, and each that is allowed and should not be."""
        allowed = self._allowed(arn, (*needed, *too_much))
        if allowed is None:
            detail = "whether keyturn may write cannot be told without writing"
            return [Finding(path, ok=True, detail=f"{detail}; {_POLICY} lists what it needs")]
        missing = [action for action in needed if action not in allowed]
        extra = [action for action in too_much if action in allowed]
        findings = [
            Finding(path, ok=False, detail=f"{action} is not allowed", todo=f"Allow it, as in {_POLICY}.")
            for action in missing
        ]
        findings += [
            Finding(
                path, ok=False, detail=f"{action} is allowed, and not needed", todo="Take it from the role."
            )
            for action in extra
        ]
        return findings or [Finding(path, ok=True, detail="every right is there, and none too many")]

    def beyond(self, stranger: str, action: str, prefix: str) -> list[Finding]:
        """Tell a role that may read what is none of keyturn's, as one does whose policy has an empty prefix.

        Args:
            stranger: the ARN of something that is not there, outside of every prefix.
            action: that reads it.
            prefix: of the store.
        """
        allowed = self._allowed(stranger, (action,))
        if allowed:
            detail = f"{action} is allowed on all of the account, not on the store's prefix alone"
            return [Finding("prefix", ok=False, detail=detail, todo=f"Write PREFIX as in {_POLICY}.")]
        if allowed is None and not prefix:
            detail = f"the store has none: with an empty PREFIX {_POLICY} would allow all of the account"
            return [Finding("prefix", ok=True, detail=detail)]
        return []

    def _allowed(self, arn: str, actions: Sequence[str]) -> set[str] | None:
        if not self._answers:
            return None
        try:
            answer = self._wire.call(
                "iam",
                "simulate_principal_policy",
                PolicySourceArn=_principal(self._who),
                ActionNames=list(actions),
                ResourceArns=[arn],
            )
        except (AwsError, StoreError):
            self._answers = False
            return None
        results = answer.get("EvaluationResults", [])
        return {r["EvalActionName"] for r in results if r.get("EvalDecision") == "allowed"}


def _principal(arn: str) -> str:
    """Give the role behind a session; IAM knows roles, not sessions."""
    if ":assumed-role/" not in arn:
        return arn
    account, role = arn.split(":")[4], arn.split("/")[1]
    return f"arn:{arn.split(':')[1]}:iam::{account}:role/{role}"


def _secret_arn(wire: Wire, who: str, name: str) -> str:
    # AWS ends a secret's ARN with a hyphen and six random characters.
    return f"arn:{who.split(':')[1]}:secretsmanager:{wire.region}:{who.split(':')[4]}:secret:{name}-000000"


def _parameter_arn(wire: Wire, who: str, name: str) -> str:
    return f"arn:{who.split(':')[1]}:ssm:{wire.region}:{who.split(':')[4]}:parameter/{name.lstrip('/')}"
