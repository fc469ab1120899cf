"""Times as restic and other Go programs print them: RFC 3339, with up to nine digits of a second."""

from __future__ import annotations

import re
from datetime import datetime


def seconds(text: str) -> float:
    """Return a time as seconds since 1970.

    :raises ValueError: it is no such time
    """
    # Python before 3.11 reads three or six digits of a second, and no Z.
    text = re.sub(r"(\.\d{1,6})\d*", lambda found: found[1].ljust(7, "0"), text)
    return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).timestamp()
