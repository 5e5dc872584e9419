"""What a rotation would take from a bot, or give it, is shown, and nothing is taken without a word."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace

import pytest

from tests.cli.processes import terminal

from .conftest import CREDENTIAL, SUBACCOUNT, Home, Run, Venue, key_document

WHY = ("--reason", "quarterly rotation")


@pytest.fixture
def trading(home: Home, venue: Venue) -> Home:
    """A bot that trades derivatives with a key from two addresses; its inventory never said so."""
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.edit("grace: 24h", "grace: 0s")
    home.edit("    # ip_allowlist: [203.0.113.7] # the bot's address; then drop the next line\n", "")
    home.edit(
        "no_ip_allowlist_reason: keyturn init did not know the bot's address", "ip_allowlist: [127.0.0.1]"
    )
    able = ["Spot.SpotTrade", "ContractTrade.Order", "ContractTrade.Position"]
    venue.bot = venue.sim.add_key("bot", able, ips=["127.0.0.1", "198.51.100.7"])
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    home.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
    return home


def _minted(venue: Venue) -> int:
    return len(venue.sim.calls(match="create-sub-api"))


def test_plan_and_dry_run_show_the_difference(trading: Home, venue: Venue) -> None:
    for command in (("plan", CREDENTIAL), ("rotate", CREDENTIAL, "--dry-run")):
        told = trading.run(*command).ok().out
        assert "    - trade_derivatives\n    - 198.51.100.7\n" in told
        assert "2 to take away, 0 to add, 0 to change." in told
        assert f'keyturn rotate {CREDENTIAL} --reason "..." --accept-loss' in told
        assert venue.bot.key_ref not in told
        assert venue.bot.secret not in told
    [line] = trading.json("plan")["plan"]
    assert line["difference"]["to_accept"] == ["198.51.100.7", "trade_derivatives"]
    assert line["difference"]["told_by"] == "the manager key's list"
    assert _minted(venue) == 0


def test_many_credentials_have_a_line_each_unless_asked(trading: Home, venue: Venue) -> None:
    text = trading.inventory.read_text()
    entry = text[text.index("  mm-bybit:\n    account") : text.index("\nconsumers:")]
    second = entry.replace("mm-bybit", "second").replace("consumers: [second]", "consumers: []")
    trading.inventory.write_text(text.replace(entry, f"{entry}{second}"))
    told = trading.run("plan").ok().out
    lines = [line for line in told.splitlines() if line.startswith(("mm-bybit", "second"))]
    assert len(lines) == 2
    assert "To be accepted: 198.51.100.7, trade_derivatives." in lines[0]
    assert "there is no key before this one" in lines[1]
    assert "1. mint" not in told
    assert "1. mint" in trading.run("plan", "--steps").ok().out


def test_a_rotation_that_would_take_rights_parks_before_it_mints(trading: Home, venue: Venue) -> None:
    parked = trading.run("rotate", CREDENTIAL, *WHY)
    assert parked.code == 9
    assert "would lack what the living key has: 198.51.100.7, trade_derivatives" in parked.err
    assert f"keyturn resume {CREDENTIAL} --accept-loss" in parked.err
    assert _minted(venue) == 0
    again = trading.run("rotate", CREDENTIAL, *WHY, "--accept-loss")
    assert again.code == 3
    assert f"keyturn resume {CREDENTIAL} --accept-loss" in again.err
    assert trading.run("resume", CREDENTIAL).code == 9
    done = trading.run("resume", CREDENTIAL, "--accept-loss").ok()
    assert "lacks what the living key has: 198.51.100.7, trade_derivatives" in done.err
    story = trading.run("history", CREDENTIAL).ok().out
    assert "given up: 198.51.100.7, trade_derivatives" in story
    assert not venue.sim.is_live(venue.bot.key_ref)


def test_the_sweep_parks_and_names_the_command_that_leads_on(trading: Home, venue: Venue) -> None:
    trading.edit("rotate_every: 60d", "outside_30_90_reason: a test of the sweep\n    rotate_every: 1s")
    trading.edit("grace: 0s", "grace: 0.5s")
    time.sleep(1.1)
    swept = trading.run("sweep")
    assert swept.code == 9
    assert f"keyturn resume {CREDENTIAL} --accept-loss" in swept.out + swept.err
    assert _minted(venue) == 0


def test_accepting_beforehand_shows_what_is_given_up_and_rotates(trading: Home, venue: Venue) -> None:
    done = trading.run("rotate", CREDENTIAL, *WHY, "--accept-loss").ok()
    assert "lacks what the living key has: 198.51.100.7, trade_derivatives" in done.err
    [rotation] = trading.json("history", CREDENTIAL)["rotations"]
    assert rotation["accepted_loss"] == ["198.51.100.7", "trade_derivatives"]
    assert not venue.sim.is_live(venue.bot.key_ref)


def test_on_a_terminal_a_no_accepts_nothing(trading: Home, venue: Venue) -> None:
    typed = [("[y/N]", "n")]
    said = terminal(trading.folder, "rotate", CREDENTIAL, *WHY, "--accept-loss", types=typed)
    assert said.code == 3
    assert "May it go without?" in said.out
    assert trading.json("history", CREDENTIAL)["rotations"] == []


def test_what_is_not_known_is_not_accepted(trading: Home, venue: Venue) -> None:
    venue.stop()
    said = trading.run("rotate", CREDENTIAL, *WHY, "--accept-loss")
    assert said.code == 3
    assert "is not known" in said.err
    told = trading.run("plan", CREDENTIAL).ok().out
    assert "Nothing is compared: what the living key may do is not known" in told


def test_the_inventory_accepts_by_name_and_with_a_reason(trading: Home, venue: Venue) -> None:
    field = "    accept_loss: [trade_derivatives, 198.51.100.7/32]\n"
    trading.edit("    path: bots/mm-bybit\n", f"{field}    path: bots/mm-bybit\n")
    assert "accept_loss_reason: is missing" in trading.run("check").err
    reason = "    accept_loss_reason: the bot trades spot alone since May\n"
    trading.edit(field, f"{field}{reason}")
    assert "Accepted: 198.51.100.7, trade_derivatives." in trading.run("plan", CREDENTIAL).ok().out
    trading.run("rotate", CREDENTIAL, *WHY).ok()
    assert "by the inventory: the bot trades spot alone" in trading.run("history", CREDENTIAL).ok().out


def test_the_plan_of_an_open_rotation_tells_what_is_still_to_come(trading: Home, venue: Venue) -> None:
    trading.edit("grace: 0s", "grace: 24h")
    trading.run("rotate", CREDENTIAL, *WHY, "--accept-loss").ok()
    told = trading.run("plan", CREDENTIAL).ok().out
    assert "is open (grace); still to come:" in told
    assert "- trade_derivatives" in told
    assert "1. revoke the old key (" in told
    assert "mint a key" not in told


# What Bybit adds by itself.


@pytest.fixture
def unified(home: Home, venue: Venue) -> Home:
    """The sub-account is a unified one."""
    venue.sim.accounts["bot"].adds = frozenset({"Derivatives.DerivativesTrade"})
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.edit("grace: 24h", "grace: 0s")
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    home.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
    return home


def test_a_right_that_the_venue_adds_is_told_beforehand_and_parks(unified: Home, venue: Venue) -> None:
    assert "Derivatives.DerivativesTrade by itself" in unified.run("check").ok().out
    assert "accepts: [Derivatives.DerivativesTrade]" in unified.run("plan", CREDENTIAL).ok().out
    parked = unified.run("rotate", CREDENTIAL, *WHY)
    assert parked.code == 9
    assert "write `accepts: [Derivatives.DerivativesTrade]`" in parked.err
    assert _minted(venue) == 0
    unified.edit(
        "    path: bots/mm-bybit\n",
        "    accepts: [Derivatives.DerivativesTrade]\n    path: bots/mm-bybit\n",
    )
    assert "+ trade_derivatives" in unified.run("plan", CREDENTIAL).ok().out
    unified.run("resume", CREDENTIAL).ok()
    [key] = venue.sim.truth()["bot"]
    assert key.permissions == {"Spot.SpotTrade", "Derivatives.DerivativesTrade"}


def test_a_right_that_the_declared_ones_hold_already_needs_no_word(unified: Home, venue: Venue) -> None:
    unified.edit("permissions: [read, trade_spot]", "permissions: [read, trade_spot, trade_derivatives]")
    unified.run("rotate", CREDENTIAL, *WHY).ok()


def test_another_right_of_the_venues_own_is_not_let_pass(unified: Home, venue: Venue) -> None:
    unified.edit(
        "    path: bots/mm-bybit\n",
        "    accepts: [Derivatives.DerivativesTrade]\n    path: bots/mm-bybit\n",
    )
    bot = venue.sim.accounts["bot"]
    bot.adds = bot.adds | {"Earn.Earn"}
    undone = unified.run("rotate", CREDENTIAL, *WHY)
    assert undone.code == 11
    assert "it can also Earn.Earn" in undone.err
    assert venue.live_keys() == [venue.bot.key_ref]
    assert unified.run("rotate", CREDENTIAL, *WHY).code == 9
    assert _minted(venue) == 1
    unified.edit("[Derivatives.DerivativesTrade]", "[Derivatives.DerivativesTrade, Earn.Earn]")
    unified.run("resume", CREDENTIAL).ok()


def test_a_key_that_is_bound_to_the_bots_address_leaves_it_to_the_manager_key(
    unified: Home, venue: Venue
) -> None:
    key = venue.sim.accounts["bot"].keys[venue.bot.key_ref]
    key.rules.change(replace(key.rules.value, ips=("198.51.100.7",)), 0, 0)
    main = venue.sim.accounts["main"]
    main.adds = frozenset({"Derivatives.DerivativesTrade"})
    unified.edit("    # ip_allowlist: [203.0.113.7] # the bot's address; then drop the next line\n", "")
    unified.edit(
        "no_ip_allowlist_reason: keyturn init did not know the bot's address", "ip_allowlist: [198.51.100.7]"
    )
    parked = unified.run("rotate", CREDENTIAL, *WHY)
    assert "accepts: [Derivatives.DerivativesTrade]" in parked.err
    assert _minted(venue) == 0


def test_only_what_a_venue_adds_can_be_accepted(home: Home) -> None:
    home.edit("    path: bots/mm-bybit\n", "    accepts: [Wallet.Withdraw]\n    path: bots/mm-bybit\n")
    refused = home.run("check")
    assert refused.code == 2
    assert "write some of: Derivatives.DerivativesTrade, Earn.Earn" in refused.err


# init.


def test_init_takes_what_the_key_may_do(cli: Run, tmp_path) -> None:
    options = ("--exchange", "bybit", "--subaccount", SUBACCOUNT)
    rights = ("--permission", "read", "--permission", "trade_options", "--accept", "Earn.Earn")
    made = cli("init", tmp_path / "x", *options, *rights, "--json").ok().document
    text = (tmp_path / "x" / "keyturn.yaml").read_text()
    assert "permissions: [read, trade_options]" in text
    assert "accepts: [Earn.Earn]" in text
    assert [n for n in made["notes"] if "Derivatives.DerivativesTrade" in n]
    assert not [n for n in made["notes"] if "Earn.Earn by itself" in n]


def test_init_writes_no_right_that_nobody_said_and_gives_the_command_that_says_them(
    cli: Run, tmp_path
) -> None:
    options = ("--exchange", "bybit", "--subaccount", SUBACCOUNT, "--ip", "127.0.0.1", "--ip", "127.0.0.2")
    refused = cli("init", tmp_path / "x y", *options)
    assert refused.code == 2
    assert "Nobody said what the bot's key may do" in refused.err
    assert not (tmp_path / "x y").exists()
    told = " ".join(refused.err.split()).partition("keyturn init ")[2].partition(" (others are")[0]
    cli("init", *shlex.split(told)).ok()
    text = (tmp_path / "x y" / "keyturn.yaml").read_text()
    assert "permissions: [read, trade_spot]" in text
    assert "127.0.0.1" in text
    assert "127.0.0.2" in text
    assert SUBACCOUNT in text


@pytest.mark.parametrize("wrong", [("--permission", "fly"), ("--accept", "Wallet.Withdraw")])
def test_init_refuses_rights_that_are_none(cli: Run, tmp_path, wrong) -> None:
    options = ("--exchange", "bybit", "--subaccount", SUBACCOUNT, "--permission", "read")
    refused = cli("init", tmp_path / "x", *options, *wrong)
    assert refused.code == 2
    assert not (tmp_path / "x").exists()
