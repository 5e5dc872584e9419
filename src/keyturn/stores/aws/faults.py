"""AWS's errors, put into the closed set of store faults; no text of AWS is ever quoted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from keyturn.domain.errors import StoreError, StoreFault

NOTHING = "Nothing was written."
#: Pages of a list at most: AWS keeps about a hundred versions of a secret or parameter, some dozens a page.
MOST_PAGES = 100
#: How the codes of refusals begin that STS gives to who would take on a role.
ASSUME_ROLE = "AssumeRole"

_THROTTLED = {
    "BandwidthLimitExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    # Parameter Store: two writes of one parameter at once.
    "TooManyUpdates",
}
_UNKNOWN_CALLER = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
# "403" is how botocore names a refusal whose body it cannot read as JSON.
_DENIED = {"403", "AccessDenied", "AccessDeniedException", "AuthorizationError", "NotAuthorized"}
_KMS = {"DecryptionFailure", "EncryptionFailure", "InvalidKeyId", "KMSInvalidStateException"}
_FULL = {
    "LimitExceededException",
    "ParameterLimitExceeded",
    "ParameterMaxVersionLimitExceeded",
    "HierarchyLevelLimitExceededException",
}


class Trouble(StrEnum):
    """How a call to AWS ended when it did not succeed."""

    #: AWS understood it and said no.
    REFUSED = "refused"
    THROTTLED = "throttled"
    #: It never left this machine.
    NOT_SENT = "not sent"
    #: It left, and whether AWS did it is open.
    UNANSWERED = "unanswered"
    #: Its URL is none that keyturn calls: it was not made, and `code` says why.
    ASTRAY = "astray"
    #: There is nothing to sign it with.
    NO_CREDENTIALS = "no credentials"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed try of a call. `about` holds the tell-tale words of AWS's text, never the text."""

    trouble: Trouble
    code: str = ""
    about: frozenset[str] = frozenset()


class AwsError(Exception):
    """A call to AWS failed for good; adapters turn it into a `StoreError`."""

    def __init__(self, action: str, failure: Failure, *, unanswered: bool) -> None:
        super().__init__(f"{action}: {failure.code or failure.trouble}")
        self.action = action
        self.code = failure.code
        self.trouble = failure.trouble
        self.about = failure.about
        #: Whether any of its tries may have been done.
        self.unanswered = unanswered


# AWS's codes are words, some with a service before them; an emulator's and a proxy's may be anything.
_CODE = re.compile(r"[\w.:#-]{0,100}", re.ASCII)
_WORDS = ("kms", "delet", "not associated", "too long", "length less than")


def refusal(code: str, status: int, text: str) -> Failure:
    """Sort an answer of AWS that is an error."""
    if not _CODE.fullmatch(code):
        code = "no readable code"
    lowered = text.lower()
    about = frozenset(word for word in _WORDS if word in lowered)
    if code in _THROTTLED or status == 429:
        return Failure(Trouble.THROTTLED, code, about)
    if status >= 500:
        return Failure(Trouble.UNANSWERED, code, about)
    return Failure(Trouble.REFUSED, code, about)


def store_error(path: str, error: AwsError, *, wrote: bool) -> StoreError:
    """Translate for the port.

    Args:
        path: what the call was about.
        error: how it failed.
        wrote: whether the call changes anything.
    """
    if wrote and error.unanswered:
        return open_outcome(path, error.action)
    return _permanent(path, error) or _passing(path, error)


def open_outcome(path: str, action: str) -> StoreError:
    """Build the error for a write of which nobody knows whether it was done."""
    return StoreError(
        StoreFault.OUTCOME_UNKNOWN,
        f"AWS did not answer {action} for {path}.",
        now="It may or may not have been done.",
        todo="Read the slots again; keyturn does so by itself.",
    )


def _passing(path: str, error: AwsError) -> StoreError:
    causes = {
        Trouble.THROTTLED: ("AWS throttles", "Ask for a higher quota if this does not pass."),
        Trouble.NOT_SENT: ("AWS cannot be reached for", "See that this machine reaches the endpoint."),
        Trouble.UNANSWERED: ("AWS did not answer", "Look at the AWS health page if this does not pass."),
    }
    cause, todo = causes.get(
        error.trouble, (f"AWS refused ({error.code})", "Look the code up in AWS's guide.")
    )
    return StoreError(StoreFault.UNAVAILABLE, f"{cause} {error.action} for {path}.", now=NOTHING, todo=todo)


def _permanent(path: str, error: AwsError) -> StoreError | None:
    """Translate what only a person can mend; None for the rest."""
    action, code = error.action, error.code
    if error.trouble is Trouble.ASTRAY:
        return astray(f"The URL for {action} of {path}", code)
    if error.trouble is Trouble.NO_CREDENTIALS and code.startswith(ASSUME_ROLE):
        return _no_role(error)
    if error.trouble is Trouble.NO_CREDENTIALS:
        fault, what = StoreFault.DENIED, f"There are no AWS credentials for {action} ({code})."
        todo = (
            "Give this process a role, a profile or the AWS_* variables; try `aws sts get-caller-identity`."
        )
    elif code in _KMS or (code in _DENIED and "kms" in error.about):
        return _kms(path, error)
    elif code in _UNKNOWN_CALLER:
        fault, what = StoreFault.DENIED, f"AWS does not accept the credentials for {action} ({code})."
        todo = "Renew the credentials, and see that this machine's clock is right."
    elif code in _DENIED:
        fault, what = StoreFault.DENIED, f"AWS denies {action} on {path}."
        todo = f"Allow {action} for keyturn's role; infra/aws/rotator.json lists all it needs."
    elif code == "InvalidRequestException" and "delet" in error.about:
        return scheduled_for_deletion(path)
    elif code in _FULL:
        fault, what = StoreFault.NO_SPACE, f"AWS refused {action} for {path}: a quota is reached ({code})."
        todo = "Versions younger than a day count and stay; wait, or raise the quota."
    elif error.trouble is Trouble.REFUSED and (
        "too long" in error.about or "length less than" in error.about
    ):
        return too_large(path)
    elif error.trouble is Trouble.REFUSED and code not in {"InternalServiceError", "InternalServerError"}:
        fault, what = StoreFault.MISCONFIGURED, f"AWS refused {action} for {path} ({code or 'no code'})."
        todo = "See that region, endpoint, prefix and path are what this store should use."
    else:
        return None
    return StoreError(fault, what, now=NOTHING, todo=todo)


def astray(subject: str, wrong: str) -> StoreError:
    """Build the error for an endpoint that keyturn does not call."""
    return StoreError(
        StoreFault.MISCONFIGURED,
        f"{subject} names {wrong}.",
        now="Nothing was sent there.",
        todo="Correct `endpoint_url` in the AWS configuration (~/.aws/config, or AWS_CONFIG_FILE): https://HOST,"
        " or this machine.",
    )


def _no_role(error: AwsError) -> StoreError:
    operation, _, code = error.code.partition(": ")
    todo = (
        "Renew the credentials that assume the role, and see that this machine's clock is right."
        if code in _UNKNOWN_CALLER
        else f"Allow sts:{operation} here, and see the role's ARN and trust policy (infra/aws/trust.json)."
    )
    what = f"AWS refuses sts:{operation} ({code}), which {error.action} needs."
    return StoreError(StoreFault.DENIED, what, now=NOTHING, todo=todo)


def _kms(path: str, error: AwsError) -> StoreError:
    denied = error.code in _DENIED
    right = "kms:Decrypt" if "Get" in error.action else "kms:GenerateDataKey and kms:Decrypt"
    if denied:
        return StoreError(
            StoreFault.DENIED,
            f"{error.action} on {path} was denied by the KMS key.",
            now=NOTHING,
            todo=f"Allow {right} on the key, in its key policy or for keyturn's role.",
        )
    return StoreError(
        StoreFault.MISCONFIGURED,
        f"{error.action} on {path} failed because of its KMS key ({error.code}).",
        now=NOTHING,
        todo="See that the key exists in this region, is enabled, and is not scheduled for deletion.",
    )


def scheduled_for_deletion(path: str) -> StoreError:
    """Build the error for a secret that somebody deleted and AWS still keeps."""
    return StoreError(
        StoreFault.MISCONFIGURED,
        f"The secret {path} is scheduled for deletion.",
        now=NOTHING,
        todo="aws secretsmanager restore-secret --secret-id NAME, or choose another path.",
    )


def endless(path: str) -> StoreError:
    """Build the error for a list whose pages do not end."""
    return StoreError(
        StoreFault.UNAVAILABLE,
        f"The list of the versions of {path} does not come to an end.",
        now=NOTHING,
        todo="See what answers in the place of AWS: a proxy, or the endpoint_url.",
    )


def too_large(path: str) -> StoreError:
    """Build the error for a document over AWS's limit."""
    return StoreError(
        StoreFault.MISCONFIGURED,
        f"What is to be stored at {path} is larger than AWS takes.",
        now=NOTHING,
        todo="Take the fields that are not the key's out of the document.",
    )


def conflict(what: str, todo: str = "Read the slots again and decide anew.") -> StoreError:
    """Build the error for a slot that somebody else moved."""
    return StoreError(StoreFault.CONFLICT, what, now=NOTHING, todo=todo)


def crowded(path: str) -> StoreError:
    """Build the error for a slot that never stood still while it was to be written."""
    return StoreError(
        StoreFault.UNAVAILABLE,
        f"Too many writers move the pending slot of {path}.",
        now=NOTHING,
        todo="Find who writes there besides keyturn.",
    )
