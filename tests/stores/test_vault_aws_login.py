"""Vault's AWS login with a role that is assumed: what STS answers is in no log."""

from __future__ import annotations

import logging
from pathlib import Path

from keyturn.domain.inventory import VaultAws
from keyturn.stores.vault.login import Login
from keyturn.stores.vault.transport import Answer

from .aws_server import REGION


class _Adapter:
    """Takes the login; hvac asks nothing else of it."""

    sent = ""

    def login(self, url: str, **more: object) -> Answer:
        self.sent = str(more)
        return Answer(200, {"auth": {"client_token": "not-a-real-token", "lease_duration": 60}})


def test_nothing_of_an_assumed_role_is_logged(aws, monkeypatch, tmp_path: Path, caplog):
    config = tmp_path / "config"
    config.write_text(
        "[profile base]\naws_access_key_id = not-a-real-id\naws_secret_access_key = not-a-real-secret-aws\n"
        "[profile taken]\nrole_arn = arn:aws:iam::123456789012:role/kt\n"
        f"source_profile = base\nregion = {REGION}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "taken")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws)
    caplog.set_level(logging.DEBUG)
    adapter = _Adapter()
    Login("vault", VaultAws(method="aws", role="kt", region=REGION), adapter, tmp_path)()  # type: ignore[arg-type]
    assert "ASIA" in adapter.sent or "iam_request" in adapter.sent, "the role was not assumed"
    assert "SessionToken" not in caplog.text
    assert "SecretAccessKey" not in caplog.text
