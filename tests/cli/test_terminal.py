"""What a person at a terminal sees: questions, hidden prompts, a moving line."""

from __future__ import annotations

from tests.cli.processes import terminal

from .conftest import CREDENTIAL, Home, Venue

_WHY = ("--reason", "quarterly rotation")


def test_a_rotation_moves_on_a_terminal_and_tells_the_same(live: Home, venue: Venue) -> None:
    result = terminal(live.folder, "rotate", CREDENTIAL, *_WHY, TERM="xterm")
    assert result.code == 0
    assert "verified" in result.out
    assert "is dead: a call signed with it was refused" in result.out
    assert not venue.sim.is_live(venue.bot.key_ref)


def test_an_incident_rotation_asks_first_and_no_means_no(live: Home, venue: Venue) -> None:
    result = terminal(live.folder, "rotate", CREDENTIAL, *_WHY, "--now", types=[("[y/N]", "n")])
    assert result.code == 3
    assert "Not confirmed" in result.out
    asked = " ".join(result.out.split())
    assert "The old key dies at once; no proof comes from mm-bybit: calls fail there until" in asked
    assert venue.live_keys() == [venue.bot.key_ref]
    assert live.json("history", CREDENTIAL)["rotations"] == []
    result = terminal(live.folder, "rotate", CREDENTIAL, *_WHY, "--now", types=[("[y/N]", "y")])
    assert result.code == 0
    assert not venue.sim.is_live(venue.bot.key_ref)


def test_yes_is_the_answer_beforehand(live: Home) -> None:
    assert terminal(live.folder, "rotate", CREDENTIAL, *_WHY, "--now", "--yes").code == 0


def test_a_plain_rotation_does_not_ask(live: Home) -> None:
    assert "[y/N]" not in terminal(live.folder, "rotate", CREDENTIAL, *_WHY).out


def test_rolling_back_asks_first(live: Home) -> None:
    live.edit("grace: 0s", "grace: 24h")
    live.run("rotate", CREDENTIAL, *_WHY).ok()
    result = terminal(live.folder, "rollback", CREDENTIAL, *_WHY, types=[("[y/N]", "")])
    assert result.code == 3
    assert live.json("status")["credentials"][0]["state"] == "grace"


def test_a_key_is_typed_without_being_shown(home: Home, venue: Venue) -> None:
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    typed = [("api key (hidden):", venue.manager.key_ref), ("secret (hidden):", venue.manager.secret)]
    result = terminal(home.folder, "put", "--manager", "main", types=typed, script=True)
    assert result.code == 0, result.out
    assert "The manager key of main is in the store" in result.out
    assert venue.manager.key_ref not in result.out
    assert venue.manager.secret not in result.out


def test_init_asks_for_a_sub_account_where_the_venue_needs_one(home: Home) -> None:
    options = ("--exchange", "bybit", "--credential", "second")
    typed = [("your bot:", "4711"), ("Rights:", ""), ("[y/N]", "n"), ("[y/N]", "n")]
    result = terminal(home.folder, "init", "other", *options, types=typed)
    assert result.code == 0, result.out
    assert 'subaccount: "4711"' in (home.folder / "other" / "keyturn.yaml").read_text()


def test_init_asks_what_the_key_may_do_and_what_the_venue_may_add(home: Home) -> None:
    options = ("--exchange", "bybit", "--credential", "second", "--subaccount", "4711")
    typed = [("Rights:", "read trade_options"), ("[y/N]", "y"), ("[y/N]", "no")]
    result = terminal(home.folder, "init", "other", *options, types=typed)
    assert result.code == 0, result.out
    text = (home.folder / "other" / "keyturn.yaml").read_text()
    assert "permissions: [read, trade_options]" in text
    assert "accepts: [Derivatives.DerivativesTrade]" in text
    assert "Earn.Earn" in result.out


def test_put_offers_to_declare_what_the_living_key_may_do(home: Home, venue: Venue) -> None:
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    able = venue.sim.add_key("bot", ["Spot.SpotTrade", "Wallet.AccountTransfer"])
    typed = [("api key (hidden)", able.key_ref), ("secret (hidden)", able.secret), ("[y/N]", "y")]
    result = terminal(home.folder, "put", "mm-bybit", types=typed)
    assert result.code == 0, result.out
    assert "permissions: [read, trade_spot, transfer]" in home.inventory.read_text()
