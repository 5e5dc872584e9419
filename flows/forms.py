"""The forms: what a person or a schedule may say to a flow. They take no secret.

Prefect keeps form answers as plain text for ever, and a validation error would copy them into its logs.
So the models refuse every field that is not theirs, and errors name fields, never values.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keyturn.domain.errors import KeyturnError
from keyturn.domain.inventory import NAME_PATTERN
from keyturn.domain.inventory_secrets import looks_secret, sentence_holds_secret
from tasks.boundary import PlainRefusalError
from tasks.world import inventory

_F = TypeVar("_F", bound="Form")
# What a field of a form can be called; anything else is a value that landed in the wrong place.
_FIELD_NAME = re.compile(r"[a-z][a-z_]{0,30}")


class Form(BaseModel):
    """Base of the forms."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _offer_names(schema: dict[str, Any]) -> None:
    """Make the field a drop-down of the inventory's names, as they are when this is deployed.

    Without an inventory it stays a text field; either way the flow asks the live inventory again. A flow
    run has no form to draw, so it does not read the inventory for one.
    """
    if flow_run.id is not None:
        return
    try:
        names = sorted(inventory().inventory.credentials)
    except KeyturnError:
        return
    if names:
        schema.pop("pattern", None)
        schema["enum"] = names


class RotateRequest(Form):
    """What to rotate, why, and for whom."""

    credential: Annotated[str, Field(pattern=NAME_PATTERN, json_schema_extra=_offer_names)] = Field(
        title="Credential", description="A name from the inventory."
    )
    reason: str = Field(
        min_length=3,
        max_length=500,
        title="Reason",
        description="Why, for the journal. Prefect keeps this text as it is: never a key or a secret.",
    )
    requested_by: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}$",
        title="Requested by",
        description="Who asks for it, for the journal.",
    )
    dry_run: bool = Field(False, title="Dry run", description="Only say what would be done.")
    accept_loss: str = Field(
        "",
        max_length=2000,
        pattern=r"^[A-Za-z0-9_.:/*, -]*$",
        title="Give up",
        description="Rights and addresses of the living key that the new one may lack, with commas between"
        " them: those behind `-` in a dry run, or that a parked rotation names. It then goes on.",
    )
    confirmed: str = Field(
        "",
        max_length=500,
        pattern=r"^[A-Za-z0-9_., -]*$",
        title="Confirmed by me",
        description="Consumers of the open rotation that you have seen run on the new key, with commas"
        " between them. Your word stands in the journal in the place of their proof: the old key is revoked"
        " by it.",
    )
    now: bool = Field(
        False,
        title="After an incident",
        description="Revoke the old key at once: no window and no grace. The proofs stay; consumers that"
        " prove nothing lose their calls until somebody moves them.",
    )


class SweepRequest(Form):
    """How much a sweep may take on."""

    limit: int | None = Field(
        None, ge=1, title="Limit", description="The most new rotations to begin; none: all that are due."
    )
    at_once: int = Field(
        32, ge=1, le=256, title="At once", description="How many are worked on at the same time."
    )


def filled(form: type[_F], answers: object) -> _F:
    """Read a form.

    Raises:
        PlainRefusalError: it is not filled in as it must be; says which fields, and no value.
    """
    if isinstance(answers, form):
        return answers
    problems: list[str] = []
    try:
        read = form.model_validate(answers)
    except ValidationError as error:
        problems = [_problem(e["type"], e["loc"], e["msg"]) for e in error.errors(include_input=False)]
    else:
        if not any(_holds_secret(name, v) for name, v in read.model_dump().items() if isinstance(v, str)):
            return read
        problems = ["a field holds something in the form of a secret; treat it as leaked: Prefect keeps it"]
    raise PlainRefusalError(
        f"The form is not filled in as it must be: {'; '.join(problems)}.\n"
        "Now: nothing was changed.\n"
        "Do: start a new run; if the form itself is out of date, deploy again."
    )


def _holds_secret(field: str, value: str) -> bool:
    # A credential's name is held against the inventory's; people choose strange ones.
    return looks_secret(value) if field == "credential" else sentence_holds_secret(value)


def _problem(kind: str, place: tuple[int | str, ...], text: str) -> str:
    known = [str(p) for p in place if _FIELD_NAME.fullmatch(str(p))]
    name = ".".join(known) if known and len(known) == len(place) else ""
    if kind == "extra_forbidden":
        return f"there is no field {name}" if name else "there is a field that the form does not have"
    if kind == "string_pattern_mismatch":
        text = "has characters that it must not have"
    return f"{name}: {text[:1].lower()}{text[1:]}" if name else "it is not a set of fields"
