"""Prefect's UI in a real browser: the form offers the inventory's names, and the run shows its steps."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]


@pytest.fixture
def page(town: Any) -> Any:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1400})
        page.set_default_timeout(20_000)
        yield page
        browser.close()


def test_a_person_chooses_a_name_starts_the_run_and_sees_every_step(town: Any, page: Any) -> None:
    outside: list[str] = []
    page.on("request", lambda r: None if f"127.0.0.1:{town.port}" in r.url else outside.append(r.url))
    (before,) = town.live()["mm-bybit"]
    deployment = town.deployment("rotate-credential/rotate")["id"]
    # The page asks for the line that `keyturn up` printed.
    page.goto(f"http://127.0.0.1:{town.port}/")
    page.get_by_placeholder("admin:pass").fill(town.auth)
    page.get_by_role("button", name="Login").click()
    page.wait_for_url(lambda url: "/login" not in url)
    page.goto(f"http://127.0.0.1:{town.port}/deployments/deployment/{deployment}/run")

    page.get_by_text("A name from the inventory.").wait_for()
    page.locator(".p-select-button__icon").first.click()
    for name in town.house.uids:
        page.get_by_role("option", name=name).wait_for()
    page.get_by_role("option", name="mm-bybit").click()
    # The others hold what a person gives up, or confirms for a bot: nothing here.
    reason, requested_by, *_ = page.locator("textarea").all()
    reason.fill("a person clicks")
    requested_by.fill("alice")
    run = submitted(town, page)
    # The page that it goes to draws the run as it goes, on a core of its own.
    page.goto("about:blank")
    assert town.ended(run)["name"] == "Completed"
    page.goto(f"http://127.0.0.1:{town.port}/runs/flow-run/{run}")
    page.get_by_text("Task Runs", exact=True).first.click()
    for step in ("mint", "verify", "promote", "notify", "confirm", "revoke old key of"):
        page.get_by_text(re.compile(f"^\\s*{step} mm-bybit\\s*$")).first.wait_for()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("rotation-mm-bybit").first.wait_for()
    assert before not in town.live()["mm-bybit"]
    assert outside == []


def runs(town: Any) -> set[str]:
    body = {"flows": {"name": {"any_": ["rotate-credential"]}}}
    return {run["id"] for run in town.post("/flow_runs/filter", body).json()}


def submitted(town: Any, page: Any) -> str:
    """Press the button; Prefect on SQLite sometimes says 503, and then a person presses it again."""
    before = runs(town)
    for _ in range(5):
        with page.expect_response(re.compile("/create_flow_run$")) as response:
            page.get_by_role("button", name="Submit").click()
        if response.value.status != 503:
            break
    assert response.value.ok, response.value.text()
    (run,) = runs(town) - before
    return str(run)
