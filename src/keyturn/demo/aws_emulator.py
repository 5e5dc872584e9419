"""`python -m keyturn.demo.aws_emulator`: AWS on loopback for one demo, by moto; ends with stdin."""

from __future__ import annotations

import json
import socket
import sys
import warnings
from functools import cache
from threading import Thread

from keyturn.demo.cast import ADDRESS


def main() -> int:
    """Serve until stdin ends, and return the exit status."""
    import uvicorn
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package that does the same
        from uvicorn.middleware.wsgi import WSGIMiddleware  # type: ignore[attr-defined]

    application = DomainDispatcherApplication(create_backend_app)
    # For each request it lists moto's two hundred folders, and lets one request in at a time meanwhile: three
    # quarters of what the emulator did (moto 5.2, seen 2026-11-21).
    application.get_backend_for_host = cache(application.get_backend_for_host)  # type: ignore[method-assign]
    # Not moto's own server: it ends the connection with every answer, which AWS does not.
    server = uvicorn.Server(
        uvicorn.Config(
            WSGIMiddleware(application, workers=32), loop="asyncio", log_level="warning", lifespan="off"
        )
    )
    with socket.create_server((ADDRESS, 0)) as listening:
        Thread(target=server.run, args=([listening],), daemon=True).start()
        url = f"http://{ADDRESS}:{listening.getsockname()[1]}"
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
        server.should_exit = True
    return 0


if __name__ == "__main__":
    sys.exit(main())
