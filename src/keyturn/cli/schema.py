"""`keyturn schema`."""

from __future__ import annotations

from keyturn.cli.output import Out


def schema(out: Out) -> None:
    """Print the JSON Schema of keyturn.yaml, for editors."""
    from keyturn.domain.inventory_schema import schema as of_inventory

    out.as_json = True  # it is a JSON document either way
    out.document(of_inventory())
