"""Run the stand-in for B2 as a program: `python -m rpiomega.lab.b2 --address A --port P --admin-key-file FILE`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from rpiomega.lab.b2.server import Server, new_key


def main() -> int:
    """Serve until a signal. The account's key is read from the file, or made and written to it (mode 0600)."""
    parser = argparse.ArgumentParser(prog="python -m rpiomega.lab.b2", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
    parser.add_argument("--port", type=int, default=0, help="Port; 0: a free one (default).")
    parser.add_argument("--url", default="", help="The address that clients use, if it is another one.")
    parser.add_argument("--admin-key-file", required=True, type=Path, help="File of the account's key.")
    given = parser.parse_args()
    key_id, key = _key(given.admin_key_file)
    server = Server(given.address, given.port, given.url, key_id, key)
    print(f"stand-in for B2 at {server.url}, all in memory; key in {given.admin_key_file}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    return 0


def _key(path: Path) -> tuple[str, str]:
    if not path.exists():
        key_id, key = new_key()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(f'key_id: "{key_id}"\nkey: "{key}"\n')
    fields = dict(line.split(": ", 1) for line in path.read_text(encoding="utf-8").splitlines() if ": " in line)
    return fields["key_id"].strip('"'), fields["key"].strip('"')


if __name__ == "__main__":
    sys.exit(main())
