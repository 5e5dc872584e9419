"""What lies in place of a file of keyturn's, or beside it, neither hangs keyturn nor costs it anything."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.client import message_folder
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import AckMessage, NoticeMessage, ProbeMessage
from keyturn.client.settings import read_inventory
from keyturn.consumers.client import MailboxConsumer
from keyturn.domain.errors import ConsumerError, InventoryError, JournalError, StoreError
from keyturn.domain.evidence import Notice, NoticeKind, ProbeRequest
from keyturn.domain.inventory import SecretRef
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from keyturn.files import open_file, read_file
from keyturn.journal import SqlJournal
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import SecretUnavailableError, generate_identity, resolve_secret
from keyturn.testing.store_contract_support import put_key
from tests.cli.conftest import CREDENTIAL, Home, Venue, cli, home, live, venue
from tests.security.strangers import as_nobody, needs_root, square

__all__ = ["cli", "home", "live", "square", "venue"]

# Nothing here waits for anybody; whoever waits, waits for good.
SECONDS = 20
NOTICE = Notice("mm", "bot", "r1", NoticeKind.PROMOTED, "fp1", "7", datetime.now(UTC) + timedelta(hours=1))
PROBE = ProbeRequest("mm", "bot", "r1", 1, "fp1", "6")
ACK = AckMessage(
    credential="mm", consumer="bot", rotation_id="r1", fingerprint="fp1", kind=NoticeKind.PROMOTED,
    at=datetime.now(UTC), call="GET balance",
)  # fmt: skip

KEY = SecretMaterial("key-1", "not-a-real-secret-1")


async def the_key() -> Stored:
    meta = KeyMeta("bybit", "main", "key-1", "fp1", None, datetime.now(UTC))
    return Stored(SlotInfo(Slot.CURRENT, "7", None, meta), KEY)


def keyturns_side(mail: Path) -> MailboxConsumer:
    return MailboxConsumer("bot", "mm", mail, read_current=the_key, read_pending=the_key)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has a hundred characters at most
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def link_to_an_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_a_fifo(path: Path) -> None:
    os.mkfifo(path.with_name(".elsewhere"))
    path.symlink_to(".elsewhere")


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices; run the suite as root in a container")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


STRANGE = [fifo, unix_socket, link_to_an_endless_device, link_to_a_fifo, device, folder, huge]
strange = pytest.mark.parametrize("put", STRANGE, ids=lambda put: put.__name__)
soon = pytest.mark.timeout(SECONDS)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    made = tmp_path / "mail" / "bot"
    made.mkdir(parents=True, mode=0o700)
    return made


@soon
@strange
async def test_what_lies_in_a_mailbox_hangs_neither_keyturn_nor_the_bot(
    box: Path, put: Callable[[Path], None]
) -> None:
    names = ["notice-r0-promoted.json", "ack-r0-promoted.json", "probe-r0-1.json", "probe-report-r0-1.json",
             "ack-r1-promoted.json", "refusals-r1-promoted.json", "probe-report-r1-1.json"]  # fmt: skip
    for number, name in enumerate(names):
        (box / str(number)).mkdir()
        put(box / str(number) / name)
        (box / str(number) / name).rename(box / name)
    consumer, bot = keyturns_side(box.parent), Mailbox(box)
    await consumer.notify(NOTICE)
    assert await consumer.confirmations(NOTICE) == []
    assert await consumer.refusals(NOTICE) == []
    assert await consumer.probe_report(PROBE) is None
    assert bot.notices("mm") == [NoticeMessage.of(NOTICE)]
    assert bot.probes("mm") == []
    if put is not folder:
        bot.put_sealed(ACK, KEY)  # takes the place of what lies there
        assert len(await consumer.confirmations(NOTICE)) == 1
        await consumer.request_probe(PROBE)
        assert bot.probes("mm") == [ProbeMessage.of(PROBE)]


@soon
def test_rotate_and_sweep_end_with_a_fifo_in_the_mailbox(live: Home, venue: Venue) -> None:
    live.edit(
        "    kind: file\n    evidence: timed\n    path: bot-key.json\n",
        "    kind: client\n    mailbox: mail\n",
    )
    box = live.folder / "mail" / "mm-bybit"
    box.mkdir(parents=True, mode=0o700)
    stray = box / "notice-r0-promoted.json"
    fifo(stray)
    live.run("rotate", CREDENTIAL, "--reason", "the quarterly rotation", "--no-wait")
    [notice] = set(box.glob("notice-*")) - {stray}
    fifo(box / notice.name.replace("notice-", "ack-"))
    fifo(box / notice.name.replace("notice-", "refusals-"))
    live.run("sweep")
    assert live.json("history", CREDENTIAL)["rotations"][0]["state"] == "cutting_over"
    assert venue.sim.is_live(venue.bot.key_ref), "nothing was proved, so nothing dies"


@pytest.fixture
def crowded(box: Path) -> Iterator[Path]:
    """A mailbox with a hundred thousand stray files; in memory where there is such a place, for speed."""
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else box)) / "bot"
    place.mkdir(mode=0o700)
    folder = os.open(place, os.O_RDONLY)
    for number in range(100_000):
        os.mknod(f"ack-{number}.json", 0o600, dir_fd=folder)
    os.close(folder)
    yield place
    shutil.rmtree(place.parent)


async def test_a_hundred_thousand_stray_files_cost_a_confirm_nothing(
    crowded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = crowded
    consumer, bot = keyturns_side(box.parent), Mailbox(box)
    await consumer.notify(NOTICE)
    bot.put_sealed(ACK, KEY)
    opened, listed = [], []
    real_read, real_list = message_folder.read_file, message_folder._matches

    def read(file: str, *rest: object, **more: object) -> bytes:
        opened.append(file)
        return real_read(file, *rest, **more)

    monkeypatch.setattr(message_folder, "read_file", read)
    monkeypatch.setattr(message_folder, "_matches", lambda *a: listed.append(a) or real_list(*a))
    begun = time.perf_counter()
    assert len(await consumer.confirmations(NOTICE)) == 1
    assert time.perf_counter() - begun < 1
    assert (opened, listed) == (["ack-r1-promoted.json"], [])
    # The bot looks all the time: at the names once for each change, and into no other file.
    time.sleep(0.06)
    opened.clear()
    for _ in range(50):
        assert len(bot.notices("mm")) == 1
    assert len(listed) == 1
    assert set(opened) == {"notice-r1-promoted.json"}
    # Nor does a notice open them.
    opened.clear()
    await consumer.notify(NOTICE)
    assert opened == []


async def test_a_change_in_the_tick_of_a_listing_is_seen(box: Path) -> None:
    mailbox = Mailbox(box)
    for number in range(40):
        mailbox.put(ACK.model_copy(update={"rotation_id": f"r{number}"}))
        assert len(mailbox._files.names()) == number + 1


async def test_a_folder_of_too_many_messages_holds_up_no_notice(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_folder, "_MOST_MESSAGES", 10)
    for number in range(20):
        (box / f"ack-x{number}-promoted.json").touch()
    consumer = keyturns_side(box.parent)
    await consumer.notify(NOTICE)
    Mailbox(box).put_sealed(ACK, KEY)
    assert len(await consumer.confirmations(NOTICE)) == 1
    with pytest.raises(OSError, match="more files than a mailbox may"):
        Mailbox(box).notices("mm")


async def test_a_mailbox_that_every_user_may_write_to_is_not_used(box: Path) -> None:
    consumer = keyturns_side(box.parent)
    await consumer.notify(NOTICE)
    Mailbox(box).put_sealed(ACK, KEY)
    box.chmod(0o1777)
    for call in (consumer.notify(NOTICE), consumer.confirmations(NOTICE)):
        with pytest.raises(ConsumerError) as caught:
            await call
        assert f"every user may write to {box} (mode 1777)" in caught.value.what
    with pytest.raises(PermissionError):
        Mailbox(box).notices("mm")


async def test_a_link_in_place_of_a_mailbox_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "bot").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConsumerError, match="it is a link"):
        await keyturns_side(tmp_path / "mail").notify(NOTICE)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@needs_root
async def test_a_mailbox_that_a_stranger_made_first_is_not_used(square: Path) -> None:
    (square / "mail").mkdir()
    (square / "mail").chmod(0o1777)
    as_nobody(lambda: (square / "mail" / "bot").mkdir(mode=0o755))
    answer = square / "mail" / "bot" / "ack-r1-promoted.json"
    as_nobody(lambda: answer.write_text(ACK.model_dump_json()))
    consumer = keyturns_side(square / "mail")
    for call in (consumer.notify(NOTICE), consumer.confirmations(NOTICE)):
        with pytest.raises(ConsumerError, match="user nobody owns") as caught:
            await call
        assert "chown root " in caught.value.todo


@soon
@strange
@pytest.mark.parametrize("name", ["slots.json", "v000001.age", ".lock"])
async def test_what_lies_in_place_of_a_stored_file_is_an_error_at_once(
    tmp_path: Path, put: Callable[[Path], None], name: str
) -> None:
    generate_identity(tmp_path / "key")
    reference = SecretRef(file="key")
    store = AgeFilesStore(tmp_path / "store", lambda: resolve_secret(reference, tmp_path), lock_wait=0.1)
    await put_key(store, "bots/mm", "old")
    (tmp_path / "store" / "bots" / "mm" / name).unlink()
    put(tmp_path / "store" / "bots" / "mm" / name)
    fresh = AgeFilesStore(tmp_path / "store", lambda: resolve_secret(reference, tmp_path), lock_wait=0.1)
    if name != ".lock":
        with pytest.raises(StoreError):
            await fresh.read("bots/mm", Slot.CURRENT)
    if name != "v000001.age" and put is not huge:
        with pytest.raises(StoreError):
            await put_key(fresh, "bots/mm", "new", "v000001")
    await fresh.check(["bots/mm"])
    await store.close()
    await fresh.close()


@soon
@strange
async def test_what_lies_in_place_of_a_secret_an_inventory_or_a_journal_is_an_error_at_once(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    put(tmp_path / "file")
    with pytest.raises(SecretUnavailableError):
        resolve_secret(SecretRef(file="file"), tmp_path)
    with pytest.raises(InventoryError):
        read_inventory(tmp_path / "file")
    if put is not huge:
        with pytest.raises(JournalError):
            await SqlJournal.open_url(f"sqlite:///{tmp_path / 'file'}")


def test_a_file_is_read_within_its_bound_and_links_where_they_are_the_operators(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", 10, links=True) == b"x" * 10
    with pytest.raises(OSError, match="more than 9 bytes"):
        read_file(tmp_path / "file", 9)
    with pytest.raises(OSError, match="it is a link"):
        open_file(tmp_path / "link")
