"""The mailbox: a folder through which keyturn and a bot on the same machine speak. No secret, ever.

`<mailbox>/<consumer>/` is closed to all but its user, or its user and a group. It holds six kinds of small
JSON files, each written whole:

| file | from | says |
|---|---|---|
| `notice-<rotation>-<kind>.json` | keyturn | which fingerprint is current now |
| `ack-<rotation>-<kind>.json` | bot | a signed call with that fingerprint worked |
| `refusals-<rotation>-<kind>.json` | bot | calls that the exchange refuses to that key |
| `probe-<rotation>-<attempt>.json` | keyturn | try the pending key from where you stand |
| `probe-report-<rotation>-<attempt>.json` | bot | it worked, or the fault |
| `own-key-<credential>.json` | bot | it signs with a key that it set itself |

Whatever cannot be read as one of these is ignored: the folder is a meeting place, not a trusted input.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from keyturn.client.files import write_atomic
from keyturn.client.holder import Loaded
from keyturn.client.shared_folder import settle
from keyturn.domain.errors import ExchangeFault
from keyturn.domain.evidence import MAX_REFUSALS, Notice, NoticeKind, ProbeFault, ProbeRequest, Refusal
from keyturn.domain.inventory import NAME_PATTERN
from keyturn.groups import number_of

# Our own messages stay under one kilobyte; anything much longer is not one of them.
_MAX_BYTES = 16_384

#: The name of the last refused call that is told, where there are more than `MAX_REFUSALS`.
MORE_CALLS = "(and other calls)"

RotationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{0,63}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class Message(BaseModel):
    """Base of all messages: nothing unknown, nothing coerced, nothing quoted in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    prefix: ClassVar[str]

    format: Literal[1] = 1
    credential: Name
    consumer: Name
    rotation_id: RotationId
    fingerprint: Fingerprint

    @property
    @abstractmethod
    def subject(self) -> str:
        """What the message is about, as the file's name has it."""

    @property
    def file_name(self) -> str:
        """Name the file of this message; the same message has the same name."""
        return f"{self.prefix}-{self.subject}.json"


class NoticeMessage(Message):
    """Which key is current now."""

    prefix = "notice"

    kind: NoticeKind
    version: str = Field(max_length=200)
    confirm_by: AwareDatetime

    @property
    def subject(self) -> str:
        """The notice's id, as `Notice.notice_id` gives it."""
        return f"{self.rotation_id}-{self.kind}"

    def is_about(self, loaded: Loaded) -> bool:
        """Tell whether this is the key that a bot has read."""
        # After a move the key is the same at both places; what counts is where it was read.
        here = self.kind is not NoticeKind.MOVED or self.version == loaded.version
        return here and self.fingerprint == loaded.fingerprint

    @classmethod
    def of(cls, notice: Notice) -> NoticeMessage:
        """Write down a notice."""
        return cls(
            credential=notice.credential,
            consumer=notice.consumer,
            rotation_id=notice.rotation_id,
            fingerprint=notice.fingerprint,
            kind=notice.kind,
            version=notice.version,
            confirm_by=notice.confirm_by,
        )


class AckMessage(Message):
    """A signed call with this fingerprint worked."""

    prefix = "ack"

    kind: NoticeKind
    at: AwareDatetime
    #: The call that worked, as method and path; never a parameter.
    call: str = Field(max_length=200)
    #: What became of the private stream that was open when the key changed.
    private_stream: Literal["none", "logged_in", "not_reopened"] = "none"

    @property
    def subject(self) -> str:
        """The id of the notice that this answers."""
        return f"{self.rotation_id}-{self.kind}"


class RefusedCall(BaseModel):
    """One call that the exchange refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    #: Method and path, never a parameter; printable, and without what separates calls in a list.
    call: str = Field(pattern=r"^[ -:<-~]{1,200}$")
    fault: Literal[ExchangeFault.MISSING_PERMISSION, ExchangeFault.WRONG_IP]
    at: AwareDatetime

    def about(self, notice: Notice) -> Refusal:
        """Give what the consumer of a notice tells by this."""
        return Refusal(
            notice.consumer, notice.rotation_id, notice.fingerprint, self.call, self.fault, self.at
        )


class RefusalsMessage(Message):
    """Calls that the exchange refuses to this key, though the key works."""

    prefix = "refusals"

    kind: NoticeKind
    calls: tuple[RefusedCall, ...] = Field(max_length=MAX_REFUSALS)

    @property
    def subject(self) -> str:
        """The id of the notice whose key they were refused to."""
        return f"{self.rotation_id}-{self.kind}"

    @classmethod
    def about(cls, notice: NoticeMessage, calls: tuple[RefusedCall, ...]) -> RefusalsMessage:
        """Write down what was refused to a notice's key."""
        return cls(
            credential=notice.credential,
            consumer=notice.consumer,
            rotation_id=notice.rotation_id,
            fingerprint=notice.fingerprint,
            kind=notice.kind,
            calls=calls,
        )


class ProbeMessage(Message):
    """Try the pending key."""

    prefix = "probe"

    attempt: int = Field(ge=1)
    version: str = Field(max_length=200)

    @property
    def subject(self) -> str:
        """The attempt, as `Attempt` writes it."""
        return f"{self.rotation_id}-{self.attempt}"

    @classmethod
    def of(cls, request: ProbeRequest) -> ProbeMessage:
        """Write down a request."""
        return cls(
            credential=request.credential,
            consumer=request.consumer,
            rotation_id=request.rotation_id,
            fingerprint=request.fingerprint,
            attempt=request.attempt,
            version=request.version,
        )


class ProbeReportMessage(Message):
    """What the pending key did at the exchange."""

    prefix = "probe-report"

    attempt: int = Field(ge=1)
    at: AwareDatetime
    #: None when the key worked.
    fault: ExchangeFault | ProbeFault | None = None

    @property
    def subject(self) -> str:
        """The attempt that this answers."""
        return f"{self.rotation_id}-{self.attempt}"


class OwnKeyMessage(BaseModel):
    """The bot has set another key on an attached object: it follows no rotation and confirms none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    format: Literal[1] = 1
    credential: Name
    consumer: Name
    says: Literal["own_key"] = "own_key"
    at: AwareDatetime


MessageT = TypeVar("MessageT", bound=Message)
ReadT = TypeVar("ReadT", bound=BaseModel)


class Mailbox:
    """One consumer's folder.

    Args:
        folder: `<mailbox>/<consumer>`; it is made, 0700, by the first write.
        group: that may use it, too, where keyturn and the bot are two users: 2770 then, its files 0660. None:
            as it stands; a folder of mailboxes with the set-group-id bit is shared by its group.
    """

    def __init__(self, folder: Path, group: str | None = None) -> None:
        self.folder = folder
        self._group = group

    def notices(self, credential: str) -> list[NoticeMessage]:
        """Read the notices for a credential, oldest file first."""
        return [m for m in self._all(NoticeMessage) if m.credential == credential]

    def ack(self, notice_id: str) -> AckMessage | None:
        """Read the acknowledgement of a notice; None when there is none that can be read."""
        return self._read(self.folder / f"ack-{notice_id}.json", AckMessage)

    def refusals(self, notice_id: str) -> RefusalsMessage | None:
        """Read what was refused to the key of a notice; None when there is nothing that can be read."""
        return self._read(self.folder / f"refusals-{notice_id}.json", RefusalsMessage)

    def add_refusals(
        self, notice: NoticeMessage, refused: Iterable[tuple[str, ExchangeFault, datetime]]
    ) -> None:
        """Tell calls that the exchange refuses to the key of a notice, beside those that are told already.

        Another process of the bot, or this one before it was started anew, may have told some. What there is
        no room for is told as `MORE_CALLS`.

        Raises:
            OSError: they were not told.
        """
        told = self.refusals(notice.subject)
        known = told.calls if told and told.fingerprint == notice.fingerprint else ()
        calls = {(each.call, each.fault): each for each in known}
        for call, fault, at in refused:
            if (call, fault) in calls or len(calls) == MAX_REFUSALS:
                continue
            name = call if len(calls) < MAX_REFUSALS - 1 else MORE_CALLS
            one = RefusedCall.model_validate({"call": name, "fault": fault, "at": at})
            calls[one.call, one.fault] = one
        if len(calls) > len(known):
            self.put(RefusalsMessage.about(notice, tuple(calls.values())))

    def own_key(self, credential: str) -> OwnKeyMessage | None:
        """Read whether the bot has said that it signs with a key that it set itself."""
        told = self._read(self._own_key(credential), OwnKeyMessage)
        return told if told is not None and told.credential == credential else None

    def tell_own_key(self, message: OwnKeyMessage) -> None:
        """Say that the bot signs with a key that it set itself.

        Raises:
            OSError: it was not told.
        """
        self._write(self._own_key(message.credential), message)

    def forget_own_key(self, credential: str) -> None:
        """Take that word back: the bot is attached anew, or has detached itself.

        Raises:
            OSError: it is still there.
        """
        self._own_key(credential).unlink(missing_ok=True)

    def _own_key(self, credential: str) -> Path:
        return self.folder / f"own-key-{credential}.json"

    def probes(self, credential: str) -> list[ProbeMessage]:
        """Read the probe requests for a credential."""
        return [m for m in self._all(ProbeMessage) if m.credential == credential]

    def report(self, rotation_id: str, attempt: int) -> ProbeReportMessage | None:
        """Read the report of a probe; None when there is none that can be read."""
        return self._read(self.folder / f"probe-report-{rotation_id}-{attempt}.json", ProbeReportMessage)

    def put(self, message: Message) -> None:
        """Write a message, whole.

        Raises:
            OSError: it was not written.
        """
        self._write(self.folder / message.file_name, message)

    def _write(self, path: Path, message: BaseModel) -> None:
        mode = settle(self.folder, number_of(self._group) if self._group is not None else None)
        write_atomic(path, message.model_dump_json().encode(), mode)

    def forget_report(self, rotation_id: str, attempt: int) -> None:
        """Remove the report of a probe, so that the bot tries the key again.

        Raises:
            OSError: it is still there.
        """
        (self.folder / f"probe-report-{rotation_id}-{attempt}.json").unlink(missing_ok=True)

    def forget_others(self, credential: str, rotation_id: str) -> None:
        """Remove what earlier rotations of this credential left, so that the folder stays small."""
        for model in _MODELS:
            for path in self._files(model.prefix):
                message = self._read(path, model)
                if message and message.credential == credential and message.rotation_id != rotation_id:
                    with suppress(FileNotFoundError):
                        path.unlink()

    def _files(self, prefix: str) -> Iterator[Path]:
        try:
            found = [p for p in self.folder.iterdir() if p.name.startswith(f"{prefix}-")]
        except (FileNotFoundError, NotADirectoryError):
            return
        for path in sorted(found):
            if prefix == "probe-report" or not path.name.startswith("probe-report-"):
                yield path

    def _all(self, model: type[MessageT]) -> Iterator[MessageT]:
        for path in self._files(model.prefix):
            message = self._read(path, model)
            # The name must say what the content says: a copied file is not a second message.
            if message is not None and path.name == message.file_name:
                yield message

    @staticmethod
    def _read(path: Path, model: type[ReadT]) -> ReadT | None:
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            return model.model_validate_json(content) if len(content) <= _MAX_BYTES else None
        except (FileNotFoundError, IsADirectoryError, ValidationError):
            return None


_MODELS: tuple[type[Message], ...] = (
    NoticeMessage,
    AckMessage,
    RefusalsMessage,
    ProbeMessage,
    ProbeReportMessage,
)
