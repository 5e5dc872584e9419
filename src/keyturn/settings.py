"""Find the inventory on this machine and read it."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from keyturn.domain.errors import InventoryError
from keyturn.domain.inventory import Inventory
from keyturn.domain.inventory_text import parse_inventory
from keyturn.domain.inventory_yaml import MOST_BYTES
from keyturn.domain.manifest import DriverManifest
from keyturn.files import read_file

#: Names the inventory where the command line does not.
INVENTORY_VARIABLE = "KEYTURN_INVENTORY"
DEFAULT_NAME = "keyturn.yaml"


@dataclass(frozen=True, slots=True)
class LoadedInventory:
    """An inventory, where it came from, and what a person should still look at."""

    inventory: Inventory
    warnings: tuple[str, ...]
    #: The file, absolute.
    path: Path

    @property
    def base(self) -> Path:
        """The folder against which the inventory's relative paths resolve."""
        return self.path.parent

    def resolve(self, relative: str) -> Path:
        """Give the absolute form of a path in the inventory."""
        return self.base / relative

    def real_path(self, relative: str) -> str:
        """Give the one name that a path in the inventory has on this machine."""
        return _real_path(self.base, relative)


def find_inventory(given: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Path:
    """Give the path of the inventory: as given, else of `KEYTURN_INVENTORY`, else `./keyturn.yaml`.

    Whether the file is there is for `load_inventory` to say.
    """
    variables = os.environ if environ is None else environ
    return Path(given or variables.get(INVENTORY_VARIABLE) or DEFAULT_NAME).absolute()


def load_inventory(
    given: str | Path | None = None,
    *,
    manifests: Mapping[str, DriverManifest],
    environ: Mapping[str, str] | None = None,
) -> LoadedInventory:
    """Find, read and check the inventory.

    Args:
        given: the path from the command line, if any.
        manifests: the venues that are known, by code.
        environ: the environment; by default the process's own.

    Raises:
        InventoryError: there is no such file, it cannot be read, or it breaks a rule.
    """
    path = find_inventory(given, environ=environ)
    real_path = partial(_real_path, path.parent)
    # One that the environment names, or that lies here, is found without its name.
    again = f"keyturn check --inventory {shlex.quote(str(given))}" if given else "keyturn check"
    loaded = parse_inventory(
        _read(path), path.name, manifests=manifests, real_path=real_path, check_again=again
    )
    return LoadedInventory(loaded.inventory, loaded.warnings, path)


def _real_path(base: Path, relative: str) -> str:
    return os.path.realpath(base / relative)


def _read(path: Path) -> str:
    """Read the file.

    Raises:
        InventoryError: it is not a readable text file of a sensible size.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _refused(f"{path} is a folder", f"name the file: {path / DEFAULT_NAME}")
        if not stat.S_ISREG(mode):
            raise _refused(
                f"{path} is not a regular file", "save the inventory in a file: paths start at its folder"
            )
        raw = read_file(path, MOST_BYTES, links=True)
    except FileNotFoundError:
        raise _refused(
            f"there is no inventory at {path}",
            f"keyturn init, or name one with --inventory or {INVENTORY_VARIABLE}",
        ) from None
    except (OSError, ValueError) as e:
        if isinstance(e, OSError) and e.errno == errno.EFBIG:
            raise _refused(
                f"{path} is larger than {MOST_BYTES // 1_000_000} MB", "check that it is an inventory"
            ) from None
        reason = e.strerror if isinstance(e, OSError) and e.strerror else "not a path"
        raise _refused(f"{path} cannot be read: {reason}", "check the path and who may read it") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        raise _refused(f"{path}:{line}: not UTF-8 text", "save the file as UTF-8") from None


def _refused(what: str, todo: str) -> InventoryError:
    return InventoryError(what, now="Nothing was changed.", todo=todo)
