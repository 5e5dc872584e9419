"""The mailbox: a folder through which keyturn and a bot on the same machine speak. No secret, ever.

`<mailbox>/<consumer>/` is 0700 and holds six kinds of small JSON files, each written whole:

| file | from | says |
|---|---|---|
| `notice-<rotation>-<kind>.json` | keyturn | which fingerprint is current now |
| `ack-<rotation>-<kind>.json` | bot | a signed call with that fingerprint worked |
| `refusals-<rotation>-<kind>.json` | bot | calls that the exchange refuses to that key |
| `probe-<rotation>-<attempt>.json` | keyturn | try the pending key from where you stand |
| `probe-report-<rotation>-<attempt>.json` | bot | it worked, or the fault |
| `own-key-<credential>.json` | bot | it signs with a key that it set itself |

Whatever cannot be read as one of these is ignored: the folder is a meeting place, not a trusted input. What
the bot says of a key is sealed with that key's secret (`sealed`): nobody else can say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from keyturn.client.files import write_atomic
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
from keyturn.client.sealed import MAX_BYTES, Answer, Sealed
from keyturn.domain.errors import ExchangeFault
from keyturn.domain.evidence import MAX_REFUSALS
from keyturn.domain.material import SecretMaterial

#: The name of the last refused call that is told, where there are more than `MAX_REFUSALS`.
MORE_CALLS = "(and other calls)"


class Mailbox:
    """One consumer's folder.

    Args:
        folder: `<mailbox>/<consumer>`; it is made, 0700, by the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def notices(self, credential: str) -> list[NoticeMessage]:
        """Read the notices for a credential, oldest file first."""
        return [m for m in self._all(NoticeMessage) if m.credential == credential]

    def answer(self, model: type[MessageT], subject: str) -> Answer[MessageT] | None:
        """Read what the bot says of a subject; None when there is nothing that can be read."""
        return self._answer(self.folder / f"{model.prefix}-{subject}.json", model)

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
        self._write(self._own_key(message.credential).name, message.model_dump_json())

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
        self._write(message.file_name, message.model_dump_json())

    def put_sealed(self, message: Message, material: SecretMaterial) -> None:
        """Write what the bot says of a key, sealed with that key.

        Raises:
            OSError: it was not written.
        """
        sealed = Sealed.with_key(material, message.prefix, message.model_dump_json())
        self._write(message.file_name, sealed.model_dump_json())

    def _write(self, name: str, text: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self.folder / name, text.encode())

    def forget_answer(self, model: type[Message], subject: str) -> None:
        """Remove an answer that the bot cannot know to be wrong, so that it answers anew; best effort."""
        with suppress(OSError):
            (self.folder / f"{model.prefix}-{subject}.json").unlink()

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

    def _answer(self, path: Path, model: type[MessageT]) -> Answer[MessageT] | None:
        text, sealed = self._unwrapped(path)
        with suppress(ValidationError):
            return Answer(model.model_validate_json(text), sealed)
        return None

    def _read(self, path: Path, model: type[ReadT]) -> ReadT | None:
        text, _ = self._unwrapped(path)
        with suppress(ValidationError):
            return model.model_validate_json(text)
        return None

    @staticmethod
    def _unwrapped(path: Path) -> tuple[bytes | str, Sealed | None]:
        """Read what a message says, and its seal; nothing where there is none that could be one."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except (FileNotFoundError, IsADirectoryError):
            return b"", None
        if len(content) > MAX_BYTES:
            return b"", None
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
