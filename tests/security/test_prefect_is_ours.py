"""The Prefect of `keyturn up` obeys the user who started it: no other user, and no page in a browser.

Whoever may change a deployment (`entrypoint`, `pull_steps`) and start a run has commands run as that user.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NOBODY = 65534
# A name that its owner has moved to this machine, as a page does for DNS rebinding.
REBOUND = "rebound.example"

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(300)]

# What a page can send: with and without CORS, as JSON and as what needs no leave, knowing the string or not.
FROM_A_PAGE = """
async ({api, deployment, auth, change, start}) => {
  const told = [];
  const send = async (path, options) => {
    try {
      const answer = await fetch(api + path, {credentials: 'include', ...options});
      told.push(answer.type === 'opaque' ? 'unseen' : answer.status);
    } catch { told.push('blocked'); }
  };
  const path = `/deployments/${deployment}`;
  for (const mode of ['cors', 'no-cors'])
    for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded'])
      for (const login of [{}, {Authorization: 'Basic ' + btoa(auth)}]) {
        const headers = {'Content-Type': type, ...login};
        await send(path, {mode, headers, method: 'PATCH', body: change});
        await send(path + '/create_flow_run', {mode, headers, method: 'POST', body: start});
      }
  await send('/csrf-token?client=page', {headers: {Authorization: 'Basic ' + btoa(auth)}});
  return told;
}
"""
BY_A_FORM = """
({url, body}) => new Promise(done => {
  const frame = document.createElement('iframe');
  frame.name = 'answer';
  document.body.append(frame);
  const form = document.createElement('form');
  Object.assign(form, {action: url, method: 'POST', enctype: 'text/plain', target: 'answer'});
  const field = document.createElement('input');
  [field.name, field.value] = body.split('=');
  form.append(field);
  document.body.append(form);
  frame.onload = () => done(true);
  form.submit();
})
"""
BY_A_SOCKET = """
url => new Promise(done => {
  const socket = new WebSocket(url, ['prefect']);
  socket.onopen = () => done('open');
  socket.onclose = () => done('refused');
})
"""
AS_OURSELVES = """
async ({deployment, auth}) => {
  const login = {Authorization: 'Basic ' + btoa(auth)};
  const token = await (await fetch('/api/csrf-token?client=us', {headers: login})).json();
  const csrf = {'Prefect-Csrf-Client': 'us', 'Prefect-Csrf-Token': token.token};
  const headers = {...login, ...csrf, 'Content-Type': 'application/json'};
  const path = `/api/deployments/${deployment}`;
  return (await fetch(path, {method: 'PATCH', headers, body: '{"description": "by us"}'})).status;
}
"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><body>a page of somebody else</body>")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The URL of a page of another origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    moved = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", moved])
        yield browser.new_page()
        browser.close()


class Attack:
    """A change of the deployment that turns keys, and a run of it."""

    def __init__(self, town: Any) -> None:
        self.town, self.mark = town, town.folder / "somebody-was-here"
        self.deployment = town.deployment("rotate-credential/rotate")["id"]
        step = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {self.mark}"}}
        self.change = json.dumps({"entrypoint": "somebody.elses", "pull_steps": [step]})
        # With a sign of equality, at which a form parts name and value.
        request = {"credential": "mm-bybit", "reason": "a page asks = for it", "requested_by": "mallory"}
        self.start = json.dumps({"parameters": {"request": request}})
        self.before = self.state()

    def state(self) -> Any:
        told = self.town.deployment("rotate-credential/rotate")
        body = {"flows": {"name": {"any_": ["rotate-credential"]}}}
        runs = {run["id"] for run in self.town.post("/flow_runs/filter", body).json()}
        return told["entrypoint"], told["pull_steps"], told["paused"], told["updated"], runs

    def came_to_nothing(self) -> bool:
        return self.state() == self.before and not self.mark.exists()

    def facts(self) -> dict[str, str]:
        facts = {"deployment": self.deployment, "auth": self.town.auth}
        api = f"http://127.0.0.1:{self.town.port}/api"
        return facts | {"api": api, "change": self.change, "start": self.start}


@pytest.fixture
def attack(town: Any) -> Attack:
    return Attack(town)


def test_a_page_of_another_origin_changes_and_starts_nothing(
    attack: Attack, page: Any, elsewhere: str
) -> None:
    page.goto(elsewhere)
    told = page.evaluate(FROM_A_PAGE, attack.facts())
    assert set(told) <= {"blocked", "unseen"}, told
    url = f"{attack.facts()['api']}/deployments/{attack.deployment}/create_flow_run"
    assert page.evaluate(BY_A_FORM, {"url": url, "body": attack.start})
    assert attack.came_to_nothing()
    for path in ("events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled"):
        assert page.evaluate(BY_A_SOCKET, f"ws://127.0.0.1:{attack.town.port}/api/{path}") == "refused"


def test_a_name_that_was_moved_to_this_machine_reaches_nothing(attack: Attack, page: Any) -> None:
    there = f"http://{REBOUND}:{attack.town.port}"
    assert page.goto(there + "/").status == 421
    # The same origin as that page: nothing is asked for leave.
    told = page.evaluate(FROM_A_PAGE, attack.facts() | {"api": there + "/api"})
    # A browser sends no PATCH that is not to be answered: blocked.
    assert 421 in told
    assert set(told) <= {421, "blocked"}, told
    assert attack.came_to_nothing()


def test_its_own_page_may_do_what_the_others_tried(attack: Attack, page: Any) -> None:
    answer = page.goto(f"http://127.0.0.1:{attack.town.port}/ui-settings")
    assert page.evaluate(AS_OURSELVES, attack.facts()) == 204
    # Another page cannot show it inside of itself, either, and guide a person's clicks.
    assert answer.headers["x-frame-options"] == "DENY"


def as_nobody(work: Callable[[], Any]) -> Any:
    """Do something as another user of this machine, in a child process; give what it found."""
    if os.geteuid() != 0:
        pytest.skip("needs a second user, and root to become it: run the suite as root in a container")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(child, 0)
    return json.loads(text)


def test_another_user_of_this_machine_changes_and_starts_nothing(attack: Attack) -> None:
    town, path = attack.town, f"/api/deployments/{attack.deployment}"
    guesses = ["", "keyturn:", ":", "admin:pass", "keyturn:keyturn"]

    def work() -> list[int]:
        told = []
        for guess in guesses:
            login = {"Authorization": "Basic " + base64.b64encode(guess.encode()).decode()} if guess else {}
            for method, where, body in (
                ("GET", "/api/csrf-token?client=nobody", None),
                ("GET", "/api/admin/settings", None),
                ("PATCH", path, attack.change),
                ("POST", path + "/create_flow_run", attack.start),
                ("POST", "/api/deployments/filter", "{}"),
            ):
                connection = http.client.HTTPConnection("127.0.0.1", town.port, timeout=20)
                headers = {"Content-Type": "application/json", "Prefect-Csrf-Client": "nobody", **login}
                connection.request(method, where, body, headers | {"Prefect-Csrf-Token": "0" * 64})
                told.append(connection.getresponse().status)
                connection.close()
        return told

    told = as_nobody(work)
    assert set(told) <= {401, 403}, told
    assert len(told) == 5 * len(guesses)
    assert attack.came_to_nothing()


def test_another_user_finds_the_string_nowhere(town: Any) -> None:
    kept = town.folder / ".keyturn"
    pids = town.pids("flows.prefect_server") + town.pids("flows.serve")
    assert len(pids) == 2
    places = [kept / "prefect-auth", kept / "logs" / "server.log", kept / "prefect" / "prefect.db"]
    places += [Path(f"/proc/{pid}/environ") for pid in pids]

    def work() -> list[str]:
        readable = []
        for place in places:
            try:
                place.read_bytes()
            except OSError:
                continue
            readable.append(str(place))
        lines = [line.read_text(errors="replace") for line in Path("/proc").glob("[0-9]*/cmdline")]
        return readable + [line for line in lines if town.auth in line]

    assert as_nobody(work) == []


def test_the_file_is_its_users_and_what_stays_holds_no_string(town: Any) -> None:
    file = town.folder / ".keyturn" / "prefect-auth"
    assert file.stat().st_mode & 0o777 == 0o600
    # This town writes to a file; on a terminal the string itself is shown.
    assert town.auth not in town.said()
    assert f"what stands in {file}" in town.said()
    logs = "".join(log.read_text() for log in (town.folder / ".keyturn" / "logs").iterdir())
    assert town.auth not in logs
    assert town.auth.partition(":")[2] not in logs
