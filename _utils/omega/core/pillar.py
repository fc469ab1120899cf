"""What this project reads of a minion's pillar: the site, and the node's secrets. One way for all callers."""

from typing import Any, Optional


def site(pillar: Optional[dict]) -> dict:
    """Return the site file's content as the pillar has it, {} without one."""
    return (pillar or {}).get("rpiomega") or {}


def secrets(pillar: Optional[dict]) -> dict:
    """Return this node's secrets, which the ext_pillar adds: {} for a node that is not in the site file."""
    return (pillar or {}).get("rpiomega_secrets") or {}


def management_token(pillar: Optional[dict]) -> Optional[str]:
    """Return Consul's management token, which only the site's master has; None elsewhere."""
    return secrets(pillar).get("management_token")


def setting(opts: Optional[dict], pillar: Optional[dict], name: str) -> Any:
    """Return what the minion's configuration or else the pillar says, None if neither does."""
    return (opts or {}).get(name) or (pillar or {}).get(name)
