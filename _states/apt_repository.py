"""A package repository of a vendor, trusted for one signing key whose fingerprint the site knows."""

import http.client
import os
import ssl
import urllib.request

from omega.core import apt, apt_rules, apt_sources, mask, openpgp
from omega.core import files as core_files

KEYRINGS = "/etc/apt/keyrings"
SECONDS = 30


def __virtual__():
    return os.path.isdir("/etc/apt") or (False, "apt_repository: this system has no apt")


@core_files.disk_errors_returned
def present(name, uri, suite, components, key_url, fingerprint, refresh=True, also=()):
    """Have a deb822 source signed by exactly one key, and no other source of the same packages.

    The key is fetched only when it is not there yet or is another one, and nothing but that key is written. Enabled
    entries of other files for the same repository are retired, because apt reads no source at all when two of them
    name different keys; each file that changes is kept as a copy. If apt refuses the source or does not reach it, all
    files are put back, because with it every later `apt-get update` of this node would fail.

    :param name: base name of the source and key files
    :param uri: the repository
    :param suite: the distribution's code name there
    :param components: list
    :param key_url: where the public key is, ASCII-armored or binary
    :param fingerprint: 40 hex digits of the primary key, spaces allowed
    :param refresh: fetch the package lists after a change
    :param also: list of ``host/path`` below which the same packages are offered, such as former addresses
    :return: Salt's state return
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is configured"}
    fingerprint = fingerprint.replace(" ", "").upper()
    key_file = f"{KEYRINGS}/{name}.asc"
    stanza = (
        f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {' '.join(components)}\n"
        f"Architectures: {__grains__['osarch']}\nSigned-By: {key_file}\n"
    )
    have = core_files.read(key_file)
    key = _key_in(have, fingerprint)
    change = _plan(name, stanza, [uri], key_file, also)
    if key is None or key != have:
        ret["changes"][key_file] = fingerprint
    ret["changes"].update({path: _what(path, text, uri) for path, text in change.files.items()})
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        comment = "; ".join([f"would write {', '.join(ret['changes'])}", *change.remarks])
        return {**ret, "result": None, "comment": comment}
    if key is None:
        key, problem = _fetch_key(key_url, fingerprint)
        if problem:
            return {**ret, "result": False, "changes": {}, "comment": f"{name}: {problem}"}
    texts = {key_file: key, **change.files}
    modes = change.modes(texts)
    before = _write(texts, modes)
    output = _refresh() if refresh else ""
    refused = _refused(output, uri)
    if refused:
        _write(before, modes)
        # apt has dropped the lists of what was there before.
        _refresh()
        comment = f"{name}: apt refuses {mask.masked(uri)} {suite}: {refused}; the former files are back"
        return {**ret, "result": False, "changes": {}, "comment": comment}
    return {**ret, "comment": "; ".join([f"{name} configured{_others(output)}", *change.remarks])}


@core_files.disk_errors_returned
def absent(name, refresh=True):
    """Have neither the source nor the key of a repository; entries that others have made stay.

    :param name: base name of the source and key files
    :param refresh: fetch the package lists after a change
    :return: Salt's state return
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is not configured"}
    key_file = f"{KEYRINGS}/{name}.asc"
    change = _plan(name, None, [], key_file, ())
    if os.path.exists(key_file):
        change.files[key_file] = None
    ret["changes"] = {path: "removed" if text is None else "entry removed" for path, text in change.files.items()}
    if not change.files:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"would remove {', '.join(change.files)}"}
    _write(change.files, change.modes(change.files))
    return {**ret, "comment": f"{name} removed{_others(_refresh() if refresh else '')}"}


def _plan(name, stanza, uris, key_file, also):
    """Return the Change of the system's sources."""
    own = f"{apt_sources.PARTS}/{name}.sources"
    return apt_sources.replace(apt_sources.read(), own, stanza, uris, key_file, also)


def _what(path, text, uri):
    if path.endswith(".save"):
        return "the former file"
    return "retired" if text is None else mask.masked(uri)


def _write(files, modes):
    """Write files ({path: text, or None: none}, {path: permissions}); return what they were before, in that form."""
    before = {path: core_files.read(path) for path in files}
    for path, text in files.items():
        if text is None:
            core_files.remove(path)
        else:
            core_files.write(os.path.realpath(path), text, modes[path])
    return before


def _refresh():
    """Fetch the package lists; return what apt printed if it refuses any of them, else ""."""
    try:
        return apt.update()
    except apt.AptError as error:
        return f"E: {error}"


def _refused(output, uri):
    """Return why apt refuses or does not reach this source, with the next step; "" if only others fail, or none."""
    lines = [line for line in output.splitlines() if line.startswith(("E: ", "W: ")) and _names(line, uri)]
    # If apt cannot read the list of sources, no call of apt works, also if another program made the entry.
    if not lines and "list of sources could not be read" not in output:
        return ""
    known = apt_rules.explain("\n".join(lines)) or apt_rules.explain(output)
    if known:
        return "; ".join(known)
    errors = apt_rules.errors("\n".join(lines) or output)
    return f"{errors[0]}; see `apt-get update` on this node"


def _names(line, uri):
    """Tell whether a line of apt's output names this repository or a file in it."""
    normal = apt_sources.normal(uri)
    words = (word.strip("'\",") for word in line.split())
    return any(f"{apt_sources.normal(word)}/".startswith(f"{normal}/") for word in words if ":" in word)


def _others(output):
    if not output:
        return ""
    known = apt_rules.explain(output)
    return f", but apt refuses another source: {'; '.join(known) if known else apt_rules.errors(output)[0]}"


def _key_in(text, fingerprint):
    """Return the text of the key file as it should be, if the pinned key and nothing else is in it; else None."""
    try:
        return openpgp.armored(openpgp.pinned(os.fsencode(text or ""), fingerprint))
    except openpgp.KeyFileError:
        return None


def _fetch_key(url, fingerprint):
    """Return (text of the key file, None), or (None, what went wrong)."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS, context=ssl.create_default_context()) as answer:
            data = answer.read(1 << 20)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return None, f"the signing key cannot be fetched from {url} ({error}); check DNS, clock and proxy of this node"
    try:
        return openpgp.armored(openpgp.pinned(data, fingerprint)), None
    except openpgp.KeyFileError as error:
        cure = "a captive portal or proxy may have answered instead: compare the key with the vendor's install guide"
        return None, f"{url} is not the key that is pinned: {error}; {cure}"
