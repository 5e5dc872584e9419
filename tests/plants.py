"""A folder in which somebody left what Python and Prefect would take from where they start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MODULES = (
    *("asyncio", "ctypes", "dotenv", "flows", "json", "keyturn", "logging", "prefect", "sitecustomize"),
    *("tasks", "typer", "usercustomize", "uvicorn"),
)
_MODULE = "open({mark!r}, 'a').write(__name__ + '\\n')\n"


@dataclass
class Planted:
    """The folder, and how it is seen that something was taken from it."""

    folder: Path

    @property
    def mark(self) -> Path:
        """Names the modules that ran."""
        return self.folder.with_name(f"{self.folder.name}-ran")

    def steered(self) -> list[Path]:
        """The databases that Prefect made since files here told it to."""
        return sorted(self.folder.glob("*.db*"))

    def untouched(self) -> bool:
        """Whether nothing was taken."""
        return not self.mark.exists() and not self.steered()


def plant(folder: Path) -> Planted:
    """Make such a folder."""
    folder.mkdir(exist_ok=True)
    planted = Planted(folder)
    for module in _MODULES:
        (folder / f"{module}.py").write_text(_MODULE.format(mark=str(planted.mark)))
    url = f"sqlite+aiosqlite:///{folder}/{{}}.db"
    (folder / ".env").write_text(f"PREFECT_API_DATABASE_CONNECTION_URL={url.format('env')}\n")
    table = 'server.database]\nconnection_url = "{}"\n'
    (folder / "prefect.toml").write_text("[" + table.format(url.format("toml")))
    (folder / "pyproject.toml").write_text("[tool.prefect." + table.format(url.format("pyproject")))
    return planted
