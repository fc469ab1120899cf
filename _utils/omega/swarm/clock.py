"""
Whether this node's clock can be trusted before its engine makes or takes certificates.

Swarm certificates begin an hour before they are made (swarmkit ca/certificates.go: CertBackdate), so a clock that is
further behind refuses them. A Raspberry Pi has no battery: it starts with the time of its last shutdown.
"""

import datetime

TOLERANCE = datetime.timedelta(minutes=30)  # well below the hour by which certificates are backdated


def behind(now, seen):
    """
    Return which of the moments `seen` is ahead of this node's clock by more than TOLERANCE, "" if none.

    :param now: this node's time, with a time zone
    :param seen: {who wrote it: ISO 8601 time}; what is no time is passed over
    """
    late = {who: when for who, when in ((who, _moment(text)) for who, text in seen.items()) if when}
    if not late:
        return ""
    who, when = max(late.items(), key=lambda item: item[1])
    return f"{who} wrote to Consul at {when:%Y-%m-%d %H:%M:%S} UTC" if when - now > TOLERANCE else ""


def later(facts):
    """Return which other node's entry or record in Consul is of a later time than this clock's, "" if none is."""
    seen = {name: entry.at for name, entry in facts.published.items() if name != facts.node}
    if facts.record and facts.record.by != facts.node:
        seen = {facts.record.by: facts.record.at, **seen}
    return behind(facts.now, seen)


def doubt(facts, confirmed):
    """
    Return why this node's clock cannot be trusted, "" if it can.

    :param facts: omega.swarm.member.facts.Facts
    :param confirmed: what `synchronised` returned; a clock that is synchronised is right whatever others wrote
    """
    if confirmed:
        return ""
    late, says = later(facts), f"it says {facts.now:%Y-%m-%d %H:%M:%S} UTC"
    if late:
        return f"{says}, and {late}"
    return f"{says}, and no time server has confirmed that" if confirmed is False else ""


def _moment(text):
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone(datetime.timezone.utc) if found.tzinfo else None
