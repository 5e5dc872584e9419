"""Recipients and groups of bots: what `keyturn check` says of them."""

from __future__ import annotations

import pytest

from keyturn.domain.recipients import declared_recipient

# Public keys of identities that were drawn for this file and thrown away.
MINE = "age1ty9lr54l3at52uzwr2jwdgr3u3wsahwc76s7j4jhsh3c65r5ha0sdc7w46"
BOT = {"kind": "client"}


def test_a_recipient_is_taken(try_with):
    assert try_with({"consumers.bot": {**BOT, "recipient": MINE}}).warnings == ()
    webhook = {"kind": "webhook", "url": "https://bot.example/", "hmac_key": {"env": "K"}, "recipient": MINE}
    assert try_with({"consumers.bot": webhook}).warnings == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ", "keys of ssh"),
        ("age1yubikey1q2w3e4r", "plugins"),
        (MINE[:-1], "wrong or missing"),
        (MINE[:-1] + "q", "wrong or missing"),
        (MINE.upper(), "age-keygen"),
    ],
)
def test_a_recipient_that_nothing_could_be_encrypted_for_is_refused_and_not_repeated(
    told, try_with, given, words
):
    told.refused({"consumers.bot": {**BOT, "recipient": given}}, "consumers.bot.recipient", words)
    assert given not in try_with({"consumers.bot": {**BOT, "recipient": given}}).problems[0]


def test_every_letter_of_a_recipient_counts():
    assert declared_recipient(MINE) == MINE
    for at in range(4, len(MINE)):
        with pytest.raises(ValueError, match="wrong or missing"):
            declared_recipient(MINE[:at] + ("q" if MINE[at] != "q" else "p") + MINE[at + 1 :])


def test_an_identity_in_the_place_of_a_recipient_is_told_as_a_secret(try_with):
    identity = "AGE-SECRET-KEY-1" + "Q" * 58
    (problem,) = try_with({"consumers.bot": {**BOT, "recipient": identity}}).problems
    assert "secret" in problem
    assert identity not in problem


def test_one_recipient_of_two_bots_is_warned_of(try_with):
    two = {"bot": {**BOT, "recipient": MINE}, "second": {**BOT, "recipient": MINE}}
    warnings = try_with({"consumers": two, "credentials.mm.consumers": ["bot", "second"]}).warnings
    assert [w for w in warnings if "opens the other's key" in w]


def test_a_recipient_without_age_files_is_warned_of(try_with):
    aws = {"kind": "aws_secrets_manager", "region": "eu-central-1"}
    warnings = try_with(
        {"stores.aws": aws, "credentials.mm.store": "aws", "consumers.bot": {**BOT, "recipient": MINE}}
    ).warnings
    assert [w for w in warnings if "age_files" in w]


def test_consumers_of_one_key_have_one_group(told, try_with):
    two = {"bot": {**BOT, "group": "desk"}, "second": {**BOT, "group": "arb"}}
    told.refused(
        {"consumers": two, "credentials.mm.consumers": ["bot", "second"]},
        "credentials.mm.consumers",
        "groups differ",
    )
    told.refused({"consumers.bot": {**BOT, "group": "a b"}}, "consumers.bot.group", "name of a group")
    assert try_with({"consumers.bot": {**BOT, "group": "1234"}}).warnings == ()
