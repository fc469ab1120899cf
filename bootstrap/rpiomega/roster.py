"""The site file as a roster for salt-ssh."""

from __future__ import annotations

import shlex
from pathlib import Path

from rpiomega.site import Site


def roster(site: Site, base: Path) -> dict[str, dict]:
    """Return node -> target, as docs.saltproject.io's "Salt rosters" has it; `base` is the site file's folder."""
    users = site.users
    login: dict = {"user": users.admin, "port": users.port}
    if users.admin != "root":
        login["sudo"] = True
    # Without `priv` salt-ssh makes a key of its own; this word leaves keys to ssh, and forwards no agent (Salt 3008).
    login["priv"] = _quoted("", base / Path(users.identity).expanduser()) if users.identity else "agent-forwarding"
    if users.known_hosts:
        login["ssh_options"] = [_quoted("UserKnownHostsFile=", base / Path(users.known_hosts).expanduser())]
    return {name: {"host": node.address, **login} for name, node in site.nodes.items()}


def _quoted(option: str, path: Path) -> str:
    """Return a file's name as it gets whole through salt-ssh's shell to ssh, which splits names at spaces as well."""
    return shlex.quote(f'{option}"{path}"') if " " in str(path) else f"{option}{path}"
