"""
The swarm's own settings: from names and values of the site file to the engine's complete spec. Pure.

Facts of the engine that shape this file (measured on 20.10):

- An update fills what is left out with defaults (moby daemon/cluster/swarm.go, Update), so the spec that is sent
  is the one that was read, with the wanted values put in. What is not set stays whatever it is.
- The swarm's name must be "default"; a certificate must live an hour at least. Both are refused by the engine.
- An election tick that is not above the heartbeat tick is taken by the engine, though Raft cannot work with it:
  refused here.
- The engine never returns a signing key, and answers an external CA's certificate only as far as it knows it.
"""

import copy
import re

from omega.swarm.api import SwarmError
from omega.swarm.settings import node as labels_of

NANO = 10**9
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(\d+d)?(\d+h)?(\d+m)?(\d+s)?")

# name -> (where it is in the spec, least value); what is not set in the site is not touched.
NUMBERS = {
    "task_history": (("Orchestration", "TaskHistoryRetentionLimit"), -1),
    "snapshot_interval": (("Raft", "SnapshotInterval"), 1),
    "keep_old_snapshots": (("Raft", "KeepOldSnapshots"), 0),
    "log_entries_for_slow_followers": (("Raft", "LogEntriesForSlowFollowers"), 0),
    "heartbeat_tick": (("Raft", "HeartbeatTick"), 1),
    "election_tick": (("Raft", "ElectionTick"), 2),
    "ca_force_rotate": (("CAConfig", "ForceRotate"), 0),
}
DURATIONS = {
    "dispatcher_heartbeat": (("Dispatcher", "HeartbeatPeriod"), 1),
    "cert_expiry": (("CAConfig", "NodeCertExpiry"), 3600),
}
AUTOLOCK = ("EncryptionConfig", "AutoLockManagers")
EXTERNAL_CAS = ("CAConfig", "ExternalCAs")
NAMES = ("autolock", *NUMBERS, *DURATIONS, "external_cas", "labels", "labels_state", "labels_to_remove")
# Settings that only `swarm init` takes: name -> key of the engine's description of the swarm.
FIXED = {"data_path_port": "DataPathPort", "default_addr_pool": "DefaultAddrPool", "subnet_size": "SubnetSize"}


def seconds(name, value):
    """
    Return a duration in whole seconds: an int is seconds, a text is like "90d", "2160h" or "1h30m".

    :raises SwarmError: "refused" naming the setting
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _DURATION.fullmatch(str(value))
    if not value or not match:
        raise SwarmError("refused", f'{name} {value!r}: not a duration; write "90d", "2160h", "1h30m" or "5s"')
    return sum(int(part[:-1]) * UNITS[part[-1]] for part in match.groups() if part)


def shown(name, value):
    """Return a value of the spec as it is shown in changes: durations as text, all else as it is."""
    if name not in DURATIONS or not value:
        return value
    rest, text = divmod(value, NANO)[0], ""
    for unit in ("h", "m", "s"):
        count, rest = divmod(rest, UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or f"{value}ns"


def _whole(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int):
        raise SwarmError("refused", f"{name} {value!r}: must be a whole number")
    if value < least:
        raise SwarmError("refused", f"{name} {value}: must be {least} or more")
    return value


def _get(spec, path):
    for key in path:
        spec = (spec or {}).get(key)
    return spec


def _put(spec, path, value):
    spec[path[0]] = {**(spec.get(path[0]) or {}), path[1]: value}


def merged(spec, wanted):
    """
    Return a copy of the decoded spec with the wanted settings put in; all else as it is.

    :param wanted: {name of NAMES: value}; None means not set
    :raises SwarmError: "refused" naming the setting that is wrong
    """
    after = copy.deepcopy(spec)
    unknown = sorted(set(wanted) - set(NAMES))
    if unknown:
        raise SwarmError("refused", f"unknown setting {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    given = {name: value for name, value in wanted.items() if value is not None}
    for name, (path, least) in NUMBERS.items():
        if name in given:
            _put(after, path, _whole(name, given[name], least))
    for name, (path, least) in DURATIONS.items():
        if name in given:
            _put(after, path, _whole(name, seconds(name, given[name]), least) * NANO)
    if "autolock" in given:
        if not isinstance(given["autolock"], bool):
            raise SwarmError("refused", f"autolock {given['autolock']!r}: must be true or false")
        _put(after, AUTOLOCK, given["autolock"])
    if "external_cas" in given:
        _put_external(after, given["external_cas"])
    _put_labels(after, given)
    _check_ticks(after, given)
    _check_counter(spec, after)
    return after


def _put_labels(after, given):
    about = {name: given[name] for name in ("labels", "labels_state", "labels_to_remove") if name in given}
    wrong = labels_of.problem(**about)
    if wrong:
        raise SwarmError("refused", wrong)
    if "labels" in about or "labels_to_remove" in about:
        after["Labels"] = labels_of.merged_labels(after.get("Labels"), **about)


def _put_external(after, wanted):
    before = _get(after, EXTERNAL_CAS) or []
    made = [_external(number, item) for number, item in enumerate(wanted)]
    if [_comparable(item) for item in made] == [_comparable(item) for item in before]:
        return
    if made:
        _put(after, EXTERNAL_CAS, made)
    elif before:
        del after["CAConfig"]["ExternalCAs"]


def _external(number, item):
    if not isinstance(item, dict) or not str(item.get("url") or "").startswith("https://"):
        raise SwarmError("refused", f"external_cas.{number}: needs `url`, an https:// address of its signing endpoint")
    unknown = sorted(set(item) - {"protocol", "url", "options", "ca_cert"})
    if unknown:
        allowed = "allowed: protocol, url, options, ca_cert"
        raise SwarmError("refused", f"external_cas.{number}: unknown key {unknown[0]}; {allowed}")
    protocol = item.get("protocol") or "cfssl"
    if protocol != "cfssl":
        raise SwarmError("refused", f"external_cas.{number}: protocol {protocol!r}: the engine knows cfssl only")
    made = {"Protocol": protocol, "URL": str(item["url"])}
    if item.get("options"):
        made["Options"] = {str(key): str(value) for key, value in item["options"].items()}
    if item.get("ca_cert"):
        made["CACert"] = item["ca_cert"].strip() + "\n"
    return made


def _comparable(item):
    return {**item, "Options": item.get("Options") or {}, "CACert": (item.get("CACert") or "").strip()}


def _check_ticks(after, given):
    heartbeat, election = (_get(after, NUMBERS[name][0]) or 0 for name in ("heartbeat_tick", "election_tick"))
    if {"heartbeat_tick", "election_tick"} & set(given) and election <= heartbeat:
        raise SwarmError(
            "refused",
            f"election_tick {election} must be above heartbeat_tick {heartbeat}: a manager could not elect a leader",
        )


def _check_counter(before, after):
    old, new = (_get(spec, NUMBERS["ca_force_rotate"][0]) or 0 for spec in (before, after))
    if new < old:
        raise SwarmError(
            "refused",
            f"ca_force_rotate {new}: the swarm is at {old} already, and each other number rotates the CA; write {old} "
            f"to leave it, {old + 1} to rotate it",
        )


def differences(before, after):
    """Return {setting: {"old": .., "new": ..}} of two decoded specs, by the names of the site file."""
    paths = {name: path for name, (path, _) in {**NUMBERS, **DURATIONS}.items()}
    paths.update(autolock=AUTOLOCK, external_cas=EXTERNAL_CAS)
    found = {}
    for name, path in paths.items():
        old, new = _get(before, path), _get(after, path)
        if (old or None) != (new or None):
            found[name] = {"old": shown(name, _told(name, old)), "new": shown(name, _told(name, new))}
    if (before.get("Labels") or {}) != (after.get("Labels") or {}):
        found["labels"] = {"old": before.get("Labels") or {}, "new": after.get("Labels") or {}}
    return found


def _told(name, value):
    return [item["URL"] for item in value or []] if name == "external_cas" else value


def fixed_differences(attrs, wanted, data_path=None):
    """
    Return one line for each setting that differs from the swarm's and cannot be changed any more.

    :param attrs: the engine's description of the swarm
    :param wanted: {name: value} of FIXED and data_path_addr; empty values are not looked at
    :param data_path: (the data path address this node joined with, the addresses that `data_path_addr` means
        here), None if unknown
    """
    lines = []
    for name, key in FIXED.items():
        has, want = attrs.get(key), wanted.get(name)
        if want and has is not None and _same_kind(want) != _same_kind(has):
            lines.append(f"{name} is {_as_text(has)} in this swarm, the site says {_as_text(want)}: {_ONLY_INIT}")
    if wanted.get("data_path_addr") and data_path and data_path[0] not in data_path[1]:
        has = data_path[0] or "the advertised address"
        lines.append(
            f"data_path_addr is {has} on this node, the site says {wanted['data_path_addr']}: a node takes it only "
            "when it joins; swarm.absent and the next apply make it join again"
        )
    return lines


_ONLY_INIT = "only `swarm init` takes it, so this needs a new swarm; write what is, or live with the difference"


def _same_kind(value):
    return sorted(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


def _as_text(value):
    return ", ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)
