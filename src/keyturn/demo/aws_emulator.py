"""`python -m keyturn.demo.aws_emulator`: AWS on loopback for one demo, by moto's server; ends with stdin."""

from __future__ import annotations

import json
import sys

from keyturn.demo.cast import ADDRESS


def main() -> int:
    """Serve until stdin ends, and return the exit status."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=ADDRESS, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    sys.stdout.write(json.dumps({"url": f"http://{ADDRESS}:{port}"}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
