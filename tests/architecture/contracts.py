"""Contract types of our own for import-linter: what a package may import, and folders that nothing names.

A list of what is forbidden passes over all that nobody thought of (`socket` in the domain, say). So these
hold a package to a list of what it may import, and take the venues from their folders.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator

from grimp import ImportGraph
from importlinter.application import output
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck

# The graph knows of another distribution its first name alone (`urllib`); the statement names the module.
_STATEMENT = re.compile(r"\s*(?:from|import)\s+([\w.]+)")


def _named(graph: ImportGraph, importer: str, imported: str) -> Iterator[tuple[str, int]]:
    """Give each module that is imported, as its statement names it, with the line."""
    for detail in graph.get_import_details(importer=importer, imported=imported):
        told = _STATEMENT.match(detail["line_contents"])
        outside = imported not in {"", *graph.modules} or graph.is_module_squashed(imported)
        yield told[1] if told and outside else imported, detail["line_number"]


def _lies_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


class _Contract(Contract):  # type: ignore[misc]
    """A contract that is broken by single imports."""

    @abstractmethod
    def _broken(self, graph: ImportGraph) -> list[str]:
        """Say of each import that breaks the contract which it is."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        broken = sorted(self._broken(graph))
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["broken"]:
            output.print_error(line)


class AllowedContract(_Contract):
    """A package imports itself, and what is on its list with all below it; nothing else.

    Options:
        source_modules: packages, each with all below it.
        allowed_modules: what they may import; of another distribution, as an import statement names it.
    """

    type_name = "allowed"

    source_modules = fields.ListField(subfield=fields.StringField())
    allowed_modules = fields.ListField(subfield=fields.StringField())

    def _broken(self, graph: ImportGraph) -> list[str]:
        allowed = [*self.source_modules, *self.allowed_modules]
        broken = []
        for importer in graph.modules:
            if not any(_lies_in(importer, package) for package in self.source_modules):
                continue
            for imported in graph.find_modules_directly_imported_by(importer):
                for name, line in _named(graph, importer, imported):
                    if not any(_lies_in(name, package) for package in allowed):
                        broken.append(f"{importer} imports {name} (l. {line}), which is not on its list")
        return broken


class FoldersContract(_Contract):
    """Each folder in these packages is imported by what lies in it, and by nothing else.

    So a folder can be added and taken away without a change elsewhere, and none knows another.

    Options:
        packages: whose folders (the packages directly below) are meant.
    """

    type_name = "folders"

    packages = fields.ListField(subfield=fields.StringField())

    def _broken(self, graph: ImportGraph) -> list[str]:
        folders = [
            child
            for package in self.packages
            for child in graph.find_children(package)
            if graph.find_children(child)
        ]
        return [
            f"{importer} imports {module}, which nothing outside {folder} may name"
            for folder in folders
            for module in {folder, *graph.find_descendants(folder)}
            for importer in graph.find_modules_that_directly_import(module)
            if not _lies_in(importer, folder)
        ]
