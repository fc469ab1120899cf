"""`python -m rpiomega.lab.consul binary` prints the path of a Consul binary that runs on this machine."""

from __future__ import annotations

import sys

from rpiomega.lab.consul import binary
from rpiomega.lab.engine import LabError

if __name__ == "__main__":
    if sys.argv[1:] != ["binary"]:
        sys.exit(__doc__)
    try:
        print(binary.ensure().path)
    except LabError as err:
        sys.exit(f"consul: {err}")
