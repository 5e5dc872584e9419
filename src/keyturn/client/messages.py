"""What keyturn and a bot say to each other through a mailbox: ids, fingerprints and times, no secret."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from keyturn.client.holder import Loaded
from keyturn.domain.errors import ExchangeFault
from keyturn.domain.evidence import MAX_REFUSALS, Notice, NoticeKind, ProbeFault, ProbeRequest, Refusal
from keyturn.domain.inventory import NAME_PATTERN

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
    #: When the notice was answered: an answer is never older than what it answers.
    at: AwareDatetime
    #: The call that worked, as method and path; never a parameter.
    call: str = Field(max_length=200)
    #: What became of the private stream that was open when the key changed.
    private_stream: Literal["none", "logged_in", "not_reopened"] = "none"

    @property
    def subject(self) -> str:
        """The id of the notice that this answers."""
        return f"{self.rotation_id}-{self.kind}"

    def answers(self, notice: NoticeMessage) -> bool:
        """Tell whether this is about that very notice."""
        return all(
            getattr(self, name) == getattr(notice, name)
            for name in ("credential", "consumer", "subject", "fingerprint")
        )


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

    @classmethod
    def on(
        cls, probe: ProbeMessage, fault: ExchangeFault | ProbeFault | None, at: datetime
    ) -> ProbeReportMessage:
        """Write down what a probe found."""
        return cls(
            credential=probe.credential,
            consumer=probe.consumer,
            rotation_id=probe.rotation_id,
            fingerprint=probe.fingerprint,
            attempt=probe.attempt,
            at=at,
            fault=fault,
        )


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
