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

Whatever cannot be read as one of these is ignored: the folder is a meeting place, not a trusted input, and
one that every user may write to is not used at all. What the bot says of a key is sealed with that key's
secret (`sealed`): nobody else can say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from keyturn.client.message_folder import MessageFolder
from keyturn.client.messages import (
    AckMessage,
    Message,
    MessageT,
    NoticeMessage,
    OwnKeyMessage,
    ProbeMessage,
    ProbeReportMessage,
    ReadT,
    RefusalsMessage,
    RefusedCall,
)
from keyturn.client.sealed import Answer, Sealed
from keyturn.domain.errors import ExchangeFault
from keyturn.domain.evidence import MAX_REFUSALS
from keyturn.domain.material import SecretMaterial

#: The name of the last refused call that is told, where there are more than `MAX_REFUSALS`.
MORE_CALLS = "(and other calls)"


class Mailbox:
    """One consumer's folder.

    Args:
        folder: `<mailbox>/<consumer>`; it is made, 0700, by the first write.
        group: that may use it, too, where keyturn and the bot are two users: 2770 then, its files 0660. None:
            as it stands; a folder of mailboxes with the set-group-id bit is shared by its group.
        owners: users that may own it, beside those of the group that shares it; None for any.
    """

    def __init__(
        self, folder: Path, group: str | None = None, *, owners: AbstractSet[int] | None = None
    ) -> None:
        self.folder = folder
        self._files = MessageFolder(folder, group, owners=owners)

    def users(self) -> frozenset[int] | None:
        """Give the users that may own the folder as it is, also where it cannot be opened; None for any.

        Raises:
            OSError: this machine has no such group.
        """
        return self._files.users()

    def notices(self, credential: str) -> list[NoticeMessage]:
        """Read the notices for a credential, in the order of their names."""
        return [m for m in self._all(NoticeMessage) if m.credential == credential]

    def answer(self, model: type[MessageT], subject: str) -> Answer[MessageT] | None:
        """Read what the bot says of a subject; None when there is nothing that can be read."""
        return self._answer(f"{model.prefix}-{subject}.json", model)

    def ack(self, notice_id: str) -> AckMessage | None:
        """Read the acknowledgement of a notice, whoever wrote it; None when there is none."""
        found = self.answer(AckMessage, notice_id)
        return found.message if found else None

    def refusals(self, notice_id: str) -> RefusalsMessage | None:
        """Read what was refused to the key of a notice, whoever wrote it; None when there is nothing."""
        found = self.answer(RefusalsMessage, notice_id)
        return found.message if found else None

    def add_refusals(
        self,
        notice: NoticeMessage,
        refused: Iterable[tuple[str, ExchangeFault, datetime]],
        material: SecretMaterial,
    ) -> None:
        """Tell calls that the exchange refuses to the key of a notice, beside those that are told already.

        Another process of the bot, or this one before it was started anew, may have told some; what somebody
        else wrote there is not repeated in the bot's name. What there is no room for is told as `MORE_CALLS`.

        Args:
            notice: whose key it is.
            refused: the calls.
            material: the key itself, which seals the report.

        Raises:
            OSError: they were not told.
        """
        found = self.answer(RefusalsMessage, notice.subject)
        told = found.message if found and found.is_by(material) else None
        known = told.calls if told and told.fingerprint == notice.fingerprint else ()
        calls = {(each.call, each.fault): each for each in known}
        for call, fault, at in refused:
            if (call, fault) in calls or len(calls) == MAX_REFUSALS:
                continue
            name = call if len(calls) < MAX_REFUSALS - 1 else MORE_CALLS
            one = RefusedCall.model_validate({"call": name, "fault": fault, "at": at})
            calls[one.call, one.fault] = one
        if len(calls) > len(known):
            self.put_sealed(RefusalsMessage.about(notice, tuple(calls.values())), material)

    def own_key(self, credential: str) -> OwnKeyMessage | None:
        """Read whether the bot has said that it signs with a key that it set itself."""
        told = self._read(self._own_key(credential), OwnKeyMessage)
        return told if told is not None and told.credential == credential else None

    def tell_own_key(self, message: OwnKeyMessage) -> None:
        """Say that the bot signs with a key that it set itself.

        Raises:
            OSError: it was not told.
        """
        self._files.write(self._own_key(message.credential), message.model_dump_json().encode())

    def forget_own_key(self, credential: str) -> None:
        """Take that word back: the bot is attached anew, or has detached itself.

        Raises:
            OSError: it is still there.
        """
        self._files.remove(self._own_key(credential))

    @staticmethod
    def _own_key(credential: str) -> str:
        return f"own-key-{credential}.json"

    def probes(self, credential: str) -> list[ProbeMessage]:
        """Read the probe requests for a credential."""
        return [m for m in self._all(ProbeMessage) if m.credential == credential]

    def report(self, rotation_id: str, attempt: int) -> ProbeReportMessage | None:
        """Read the report of a probe; None when there is none that can be read."""
        return self._read(f"probe-report-{rotation_id}-{attempt}.json", ProbeReportMessage)

    def put(self, message: Message) -> None:
        """Write a message, whole.

        Raises:
            OSError: it was not written.
        """
        self._files.write(message.file_name, message.model_dump_json().encode())

    def put_sealed(self, message: Message, material: SecretMaterial) -> None:
        """Write what the bot says of a key, sealed with that key.

        Raises:
            OSError: it was not written.
        """
        sealed = Sealed.with_key(material, message.prefix, message.model_dump_json())
        self._files.write(message.file_name, sealed.model_dump_json().encode())

    def forget_answer(self, model: type[Message], subject: str) -> None:
        """Remove an answer that the bot cannot know to be wrong, so that it answers anew; best effort."""
        with suppress(OSError):
            self._files.remove(f"{model.prefix}-{subject}.json")

    def forget_report(self, rotation_id: str, attempt: int) -> None:
        """Remove the report of a probe, so that the bot tries the key again.

        Raises:
            OSError: it is still there.
        """
        self._files.remove(f"probe-report-{rotation_id}-{attempt}.json")

    def forget_others(self, credential: str, rotation_id: str) -> None:
        """Remove what earlier rotations of this credential left, as far as that can be done.

        What stays does no harm: a message is for its own rotation alone.
        """
        models = {model.prefix: model for model in _MODELS}
        with suppress(OSError):
            for name in self._files.names():
                if name.rotation_id != rotation_id:
                    self._forget(name.file, models[name.prefix], credential)

    def _forget(self, file: str, model: type[Message], credential: str) -> None:
        with suppress(OSError):
            message = self._read(file, model)
            if message and message.credential == credential:
                self._files.remove(file)

    def _all(self, model: type[MessageT]) -> Iterator[MessageT]:
        for name in self._files.names():
            message = self._read(name.file, model) if name.prefix == model.prefix else None
            # The name must say what the content says: a copied file is not a second message.
            if message is not None and name.file == message.file_name:
                yield message

    def _answer(self, file: str, model: type[MessageT]) -> Answer[MessageT] | None:
        text, sealed = self._unwrapped(file)
        with suppress(ValidationError):
            return Answer(model.model_validate_json(text), sealed)
        return None

    def _read(self, file: str, model: type[ReadT]) -> ReadT | None:
        text, _ = self._unwrapped(file)
        with suppress(ValidationError):
            return model.model_validate_json(text)
        return None

    def _unwrapped(self, file: str) -> tuple[bytes | str, Sealed | None]:
        """Read what a message says, and its seal; nothing where there is none that could be one."""
        content = self._files.read(file) or b""
        with suppress(ValidationError):
            sealed = Sealed.model_validate_json(content)
            return sealed.message, sealed
        return content, None


_MODELS: tuple[type[Message], ...] = (
    NoticeMessage,
    AckMessage,
    RefusalsMessage,
    ProbeMessage,
    ProbeReportMessage,
)
