"""What a bot says of a key in the mailbox: the text, and the seal over its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from keyturn.client.seal import is_sealed, seal
from keyturn.domain.material import SecretMaterial

#: A report of as many refused calls as are told, with the longest names and quoted twice, stays under this;
#: anything longer is none of our messages.
MAX_BYTES = 32_768


class Kind(Protocol):
    """A message, which knows its kind."""

    @property
    def prefix(self) -> str:
        """What messages of its kind are called in the mailbox."""
        ...


KindT = TypeVar("KindT", bound=Kind)


class Sealed(BaseModel):
    """A message as the bot leaves it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    format: Literal[2] = 2
    message: str = Field(max_length=MAX_BYTES)
    seal: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)

    @classmethod
    def with_key(cls, material: SecretMaterial, prefix: str, text: str) -> Sealed:
        """Seal a text of this kind with a key."""
        return cls(message=text, seal=seal(material.reveal()["secret"], _purpose(prefix), text.encode()))


@dataclass(frozen=True, slots=True)
class Answer(Generic[KindT]):
    """What was found in the place of a bot's answer; whose word it is must be checked."""

    message: KindT
    #: None: without a seal, as bots left it before there were any.
    sealed: Sealed | None

    def is_by(self, material: SecretMaterial) -> bool:
        """Tell whether who wrote it held this key."""
        if self.sealed is None:
            return False
        text = self.sealed.message.encode()
        return is_sealed(material.reveal()["secret"], _purpose(self.message.prefix), text, self.sealed.seal)


def _purpose(prefix: str) -> str:
    return f"mailbox {prefix}"
