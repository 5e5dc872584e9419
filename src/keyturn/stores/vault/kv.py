"""The wire of a KV v2 mount: read, write with check-and-set, destroy; and what refusals mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.stores.vault.documents import Snapshot
from keyturn.stores.vault.faults import FOREIGN, denied, misconfigured, silent
from keyturn.stores.vault.lag import PAUSES, Newest, late

if TYPE_CHECKING:
    # They need hvac, which may be missing: the store says so in its own words when it is opened.
    from keyturn.stores.vault.session import Session
    from keyturn.stores.vault.transport import Answer

# The text is all that tells this 400 from another (OpenBao 2.6.2 and hvac 2.4.0, 2026-11-21).
_MISMATCH = "check-and-set parameter did not match"
_ROOT_CAPABILITY = "root"
# Of a version's number, which is one of 32 bits.
_MOST_DIGITS = 10
T = TypeVar("T")


def _is_version(entry: tuple[str, Any]) -> bool:
    """Tell whether an entry of a path's `versions` is one: its number, its times and whether it is gone."""
    number, row = entry
    if not number.isdecimal() or len(number) > _MOST_DIGITS or not isinstance(row, dict):
        return False
    return isinstance(row.get("created_time"), str) and isinstance(row.get("deletion_time") or "", str)


def _current_version(metadata: Mapping[str, Any] | None) -> int:
    return int((metadata or {}).get("current_version") or 0)


class MovedError(Exception):
    """The path was written by somebody else since the version that the write named."""


class Kv:
    """A KV v2 mount.

    Args:
        name: of the store, for messages.
        mount: where the engine is mounted.
        session: makes calls with a valid token.
    """

    def __init__(self, name: str, mount: str, session: Session) -> None:
        self._name = name
        self._mount = mount
        self._session = session
        self._known_good = False
        self._newest = Newest()

    def read(self, path: str, version: int | None = None) -> Snapshot:
        """Read a version of a path, the newest if none is named: never one from before what was seen last.

        Raises:
            StoreError: `DENIED`, `UNAVAILABLE`, `MISCONFIGURED`.
        """
        if version is None:
            return self._in_time(path, lambda: self._read(path), lambda seen: seen.kv)
        seen = self._read(path, version)
        if not seen.kv and version <= self._newest.of(path):
            # Pruned; or a standby has not heard of it, which the newest has to wait for.
            self.read(path)
            seen = self._read(path, version)
        return seen

    def _in_time(self, path: str, look: Callable[[], T], newest: Callable[[T], int]) -> T:
        """Look until the answer is no older than what is known of the path."""
        for pause in (*PAUSES, None):
            at = self._session.place
            found = look()
            if not self._newest.outdates(path, newest(found)):
                return found
            if pause is not None:
                self._session.leave(at, pause)
        # What was deleted or restored from a backup comes back no more: the next look takes it as it is.
        self._newest.forget(path)
        raise late(self._name, path)

    def _read(self, path: str, version: int | None = None) -> Snapshot:
        where = f"{self._mount}/data/{path}"
        answer = self._session.call("get", where, params={"version": version} if version else None)
        metadata = answer.data.get("metadata")
        if answer.status in {200, 404} and isinstance(metadata, dict) and "version" in metadata:
            data = answer.data.get("data") if answer.status == 200 else None
            if answer.status == 200 and not isinstance(data, dict):
                # Not the same as a version that was deleted, which comes with 404.
                raise self._foreign()
            created = metadata.get("created_time") or ""
            return Snapshot(self._number(metadata["version"]), data, str(created))
        if answer.status == 404 and not answer.errors:
            # A mount of version 1 answers like an empty one of version 2.
            self.ensure_version_2()
            return Snapshot(0)
        if answer.status == 200:
            raise self._not_version_2()
        raise self._refusal(answer, where, ("read",))

    def write(self, path: str, document: Mapping[str, Any], cas: int) -> int:
        """Write a new version over version `cas`; give its number.

        Raises:
            MovedError: the newest version is another; nothing was written.
            StoreError: `OUTCOME_UNKNOWN` when no answer came and reading back did not tell.
        """
        self.ensure_version_2()
        lost = False
        for pause in (*PAUSES, None):
            at = self._session.place
            written, carried = self._sent(path, document, cas)
            if written:
                self._newest.outdates(path, written)
                return written
            # An earlier send of this very write may be what moved it.
            lost = lost or carried
            if lost and self._landed(path, document, cas, must_know=True):
                return cas + 1
            if self._moved_on(path, cas):
                raise MovedError
            if pause is not None:
                self._session.leave(at, pause)
        # Whoever refuses it has seen more than we are shown; the caller's look has to wait for that.
        self._newest.outdates(path, cas + 1)
        raise MovedError

    def _sent(self, path: str, document: Mapping[str, Any], cas: int) -> tuple[int, bool]:
        """Send a write; give its version, or 0 and whether an earlier send may have been carried out."""
        where = f"{self._mount}/data/{path}"
        body = {"data": document, "options": {"cas": cas}}
        try:
            answer = self._session.call("post", where, body=body, changes=True)
        except StoreError as error:
            if error.fault is not StoreFault.OUTCOME_UNKNOWN or not self._landed(path, document, cas):
                raise
            return cas + 1, False
        if answer.status == 200:
            written = answer.data.get("version")
            if isinstance(written, int) and written > 0:
                return written, False
            if self._landed(path, document, cas):
                return cas + 1, False
            raise silent(self._name, FOREIGN, may_be_done=True)
        if answer.status == 400 and _MISMATCH in answer.errors:
            return 0, answer.lost
        if answer.lost:
            if self._landed(path, document, cas):
                return cas + 1, False
            raise silent(self._name, f"HTTP {answer.status}", may_be_done=True)
        raise self._refusal(answer, where, ("create", "update"))

    def _moved_on(self, path: str, cas: int) -> bool:
        """Tell whether a refused write named an old version; if not, whoever refused it is behind."""
        if self._newest.of(path) > cas:
            return True
        try:
            seen = self._read(path)
        except StoreError as error:
            # Who may only write cannot tell, and sends it again. Any other fault meets the caller's look.
            return error.fault is not StoreFault.DENIED
        return not self._newest.outdates(path, seen.kv) and seen.kv > cas

    def _landed(self, path: str, document: Mapping[str, Any], cas: int, *, must_know: bool = False) -> bool:
        """Read back whether a write without an answer was carried out."""
        try:
            seen = self.read(path, cas + 1)
        except StoreError:
            if must_know:
                raise silent(self._name, "reading back failed", may_be_done=True) from None
            return False
        landed = seen.write is not None and seen.write == Snapshot(0, document).write
        if landed:
            self._newest.outdates(path, cas + 1)
        return landed

    def destroy(self, path: str, versions: Iterable[int]) -> None:
        """Destroy versions for good. Those that are not there do not matter.

        Raises:
            StoreError: as of `write`.
        """
        numbers = sorted(set(versions))
        if not numbers:
            return
        where = f"{self._mount}/destroy/{path}"
        answer = self._session.call("post", where, body={"versions": numbers}, changes=True)
        if answer.status not in {200, 204}:
            raise self._refusal(answer, where, ("update",))

    def metadata(self, path: str) -> Mapping[str, Any] | None:
        """Give the metadata of a path; None where nothing was ever written.

        Raises:
            StoreError: `DENIED` when it may not be read, `UNAVAILABLE`, `MISCONFIGURED`.
        """
        return self._in_time(path, lambda: self._metadata(path), _current_version)

    def _metadata(self, path: str) -> Mapping[str, Any] | None:
        where = f"{self._mount}/metadata/{path}"
        answer = self._session.call("get", where)
        if answer.status == 200:
            versions = answer.data.get("versions") or {}
            if not isinstance(versions, dict) or not all(map(_is_version, versions.items())):
                raise self._foreign()
            self._number(answer.data.get("current_version") or 0)
            return answer.data
        if answer.status == 404 and not answer.errors:
            return None
        raise self._refusal(answer, where, ("read",))

    def config(self) -> Mapping[str, Any] | None:
        """Give the settings of the mount, which hold beside those of each path; None: they may not be read.

        Raises:
            StoreError: `UNAVAILABLE`, `MISCONFIGURED`.
        """
        where = f"{self._mount}/config"
        answer = self._session.call("get", where)
        if answer.status == 403:
            return None
        if answer.status != 200:
            raise self._refusal(answer, where, ("read",))
        return answer.data

    def ensure_version_2(self) -> None:
        """Make sure, once, that this is a KV mount of version 2.

        One of version 1 takes these writes with a smile, stores the envelope as the secret and ignores
        the check-and-set (seen with OpenBao 2.6.2, 2026-11-21).

        Raises:
            StoreError: `MISCONFIGURED`.
        """
        if self._known_good:
            return
        for pause in (*PAUSES, None):
            at = self._session.place
            answer = self._session.call("get", f"sys/internal/ui/mounts/{self._mount}")
            if answer.status not in {400, 403, 404}:
                break
            # To a standby that has not heard of our login yet we have no right here (OpenBao 2.6.2).
            if pause is not None:
                self._session.leave(at, pause)
        else:
            raise misconfigured(
                f"The store {self._name} has no mount {self._mount}, or its login has no right on it.",
                "Correct `mount`, or give the login its policy: infra/vault has one for each use.",
            )
        # A path below a mount is answered with the mount, and reads there find nothing.
        found = str(answer.data.get("path") or self._mount).strip("/")
        if answer.status == 200 and found != self._mount:
            raise misconfigured(
                f"The store {self._name} has nothing at {self._mount}: no such mount, it lies in {found}.",
                "Correct `mount` of the store; folders of the mount belong into the paths.",
            )
        options = answer.data.get("options")
        options = options if isinstance(options, dict) else {}
        if answer.status != 200 or answer.data.get("type") != "kv" or str(options.get("version")) != "2":
            raise self._not_version_2()
        self._known_good = True

    def capabilities(self, paths: Sequence[str]) -> Mapping[str, frozenset[str]] | None:
        """Ask what the login may do at each path; None where it may not even ask."""
        answer = self._session.call("post", "sys/capabilities-self", body={"paths": list(paths)})
        if answer.status != 200:
            return None
        held = {path: answer.data.get(path) or [] for path in paths}
        if not all(isinstance(rights, list) for rights in held.values()):
            return None
        return {path: frozenset(map(str, rights)) for path, rights in held.items()}

    def _number(self, given: object) -> int:
        """Read the number of a version; 0 is before the first.

        Raises:
            StoreError: `UNAVAILABLE`, it is none.
        """
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise self._foreign()
        return given

    def _foreign(self) -> StoreError:
        return silent(self._name, FOREIGN, may_be_done=False)

    def _not_version_2(self) -> StoreError:
        return misconfigured(
            f"The mount {self._mount} of the store {self._name} is not a KV engine of version 2.",
            f"Name another mount, or upgrade it: vault kv enable-versioning {self._mount}",
        )

    def _refusal(self, answer: Answer, where: str, needs: tuple[str, ...]) -> StoreError:
        if answer.status == 403:
            return denied(self._lacking(where, needs), "Give its policy what is missing: see infra/vault.")
        if answer.status == 404:
            return misconfigured(
                f"The store {self._name} has nothing at {self._mount}: no such mount.",
                "Correct `mount` of the store.",
            )
        if answer.status == 413:
            return misconfigured(
                f"The server of the store {self._name} refused the request as too large.",
                "See its max_request_size, and what else stands at the path.",
            )
        return misconfigured(
            f"The store {self._name} refused the request for {where} (HTTP {answer.status}).",
            "See the server's log for the reason.",
        )

    def _lacking(self, where: str, needs: tuple[str, ...]) -> str:
        held = (self.capabilities([where]) or {}).get(where)
        if held is None or _ROOT_CAPABILITY in held:
            return f"The store {self._name} refused {' or '.join(needs)} on {where}."
        missing = [need for need in needs if need not in held] or list(needs)
        return f"The login of the store {self._name} lacks {' and '.join(missing)} on {where}."
