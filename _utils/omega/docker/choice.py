"""Who decides an engine's settings: the site, then the owner's file and the unit's flags, then the defaults.

Keys that mean nothing without each other are decided together. No file is read or written.
"""

from omega.core.errors import Failure
from omega.docker import logs

# A key that names a driver, and the one with options for that driver.
COUPLED = {"log-driver": "log-opts", "storage-driver": "storage-opts"}
# Mappings whose entries are replaced whole: half a limit or half a runtime of each side is neither.
WHOLE = ("default-ulimits", "runtimes")


class ChoiceError(Failure):
    """Site and owner name settings that do not fit; the text names both keys and the next step."""


def merge(found, ours, before, deep=True):
    """Return the settings as they should be.

    :param found: what the file contains now
    :param ours: what the site wants; mappings join what is there, everything else replaces it
    :param before: what the site wanted last time: what it no longer wants goes, unless somebody changed it
    :param deep: whether mappings in these mappings join as well
    """
    merged = dict(found)
    for key, value in before.items():
        if key in ours and not (isinstance(ours[key], dict) and isinstance(value, dict)):
            continue
        if deep and isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], ours.get(key, {}), value, key not in WHOLE)
            if not merged[key]:
                del merged[key]
        elif key not in ours and merged.get(key) == value:
            del merged[key]
    for key, value in ours.items():
        both = deep and isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value, {}, key not in WHOLE) if both else value
    return merged


def settle(found, site, defaults, before, flags, path):
    """Return ``(ours, wanted)``: what the site puts into daemon.json, its defaults included, and the whole settings.

    A key that the site sets to null is left to the owner's file, or to the engine.

    :param found: what the file contains now
    :param site: ``docker.daemon`` of the site file and what it has keys of its own for
    :param defaults: settings for where neither site, file nor flags name a key or one coupled with it
    :param before: what the site put there last time, as this function returned it
    :param flags: the settings that the unit's command line gives, as `omega.docker.flags.settings` returns them
    :param path: the file's path, for the messages
    :raises ChoiceError: the site's options are none of the driver that the owner chose
    """
    theirs = merge(found, {}, before)
    ours = {key: _texts(value) if key == "log-opts" else value for key, value in site.items() if value is not None}
    for driver, options in COUPLED.items():
        if driver in ours:
            theirs.pop(driver, None)
            # The options in the file are those of the driver in the file.
            if (found.get(driver) or _implied(driver)) != ours[driver]:
                theirs.pop(options, None)
        elif driver == "log-driver" and options in ours:
            _fits(ours[options], {**theirs, **flags}.get(driver), path)
    if "data-root" in ours:
        theirs.pop("graph", None)  # its name until Docker 17.05; an engine refuses to have both
    for key, value in defaults.items():
        group = _group(key)
        if not any(name in {**theirs, **flags} or site.get(name, 0) is None for name in group):
            ours = _fill(ours, key, value, defaults, group)
    return ours, merge(theirs, ours, {})


def lost(found, wanted, before):
    """Return the owner's keys of `found` that `wanted` no longer has as they were, sorted."""
    theirs = merge(found, {}, before)
    return sorted(key for key, value in theirs.items() if not _within(value, wanted.get(key)))


def _within(value, now):
    if isinstance(value, dict) and isinstance(now, dict):
        return all(_within(one, now.get(key)) for key, one in value.items())
    return value == now


def _group(key):
    return next(({driver, options} for driver, options in COUPLED.items() if key in (driver, options)), {key})


def _implied(driver):
    return logs.DEFAULT if driver == "log-driver" else None


def _fill(ours, key, value, defaults, group):
    """Add a default, if what the site says of its group leaves room for it."""
    others = [name for name in group - {key} if name in ours]
    if any(name in COUPLED and ours[name] != defaults.get(name) for name in others):
        return ours  # options of another driver
    if isinstance(value, dict) and isinstance(ours.get(key, {}), dict):
        return {**ours, key: {**value, **ours.get(key, {})}}
    return {key: value, **ours}


def _texts(options):
    """Return log options as the engine takes them: every value is a text, and YAML makes numbers of some."""
    if not isinstance(options, dict):
        return options  # for the engine to refuse

    def text(value):
        return str(value).lower() if isinstance(value, bool) else str(value)

    return {key: text(value) if isinstance(value, (bool, int)) else value for key, value in options.items()}


def _fits(options, driver, path):
    wrong = logs.unknown(driver or logs.DEFAULT, options) if isinstance(options, dict) else []
    if wrong and driver:
        raise ChoiceError(
            f"docker.daemon.log-opts of the site file: {', '.join(wrong)}: no option of log driver {driver}, which "
            f"{path} or the unit of Docker names on this node: write log-driver beside log-opts in the site file, or "
            "remove it there"
        )
