"""Run a simulated exchange: see :mod:`keyturn.simulator.server`."""

import sys

from keyturn.simulator.server import main

if __name__ == "__main__":
    sys.exit(main())
