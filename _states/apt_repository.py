"""A package repository of a vendor, trusted for one signing key whose fingerprint the site knows."""

import http.client
import os
import ssl
import urllib.request

from omega.core import files as core_files
from omega.core import openpgp
from salt.exceptions import CommandExecutionError

KEYRINGS = "/etc/apt/keyrings"
SOURCES = "/etc/apt/sources.list.d"
SECONDS = 30


def __virtual__():
    return os.path.isdir("/etc/apt") or (False, "apt_repository: this system has no apt")


@core_files.told
def present(name, uri, suite, components, key_url, fingerprint, refresh=True):
    """Have a deb822 source signed by exactly one key.

    The key is fetched only when it is not there yet or is another one, and is written only if its fingerprint is
    the pinned one. A source that apt refuses or does not reach is taken back with its key, because with it every
    later `apt-get update` of this node would fail.

    :param name: base name of the source and key files
    :param uri: the repository
    :param suite: the distribution's code name there
    :param components: list
    :param key_url: where the public key is
    :param fingerprint: 40 hex digits of the primary key, spaces allowed
    :param refresh: fetch the package lists after a change
    :return: Salt's state return
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is configured"}
    fingerprint = fingerprint.replace(" ", "").upper()
    key_file, source_file = f"{KEYRINGS}/{name}.asc", f"{SOURCES}/{name}.sources"
    source = (
        f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {' '.join(components)}\n"
        f"Architectures: {__grains__['osarch']}\nSigned-By: {key_file}\n"
    )
    if not _is_key(key_file, fingerprint):
        ret["changes"][key_file] = fingerprint
    if core_files.read(source_file) != source:
        ret["changes"][source_file] = uri
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"would write {', '.join(ret['changes'])}"}
    before = {path: core_files.read(path) for path in (key_file, source_file)}
    if key_file in ret["changes"]:
        problem = _fetch_key(key_url, key_file, fingerprint)
        if problem:
            return {**ret, "result": False, "changes": {}, "comment": f"{name}: {problem}"}
    core_files.write(source_file, source)
    refused = _refresh() if refresh else []
    ours = [line for line in refused if uri.rstrip("/") in line]
    if ours:
        _put_back(before)
        cure = f"check {name}.repository.uri of the site file, and network and clock of this node"
        comment = f"{name}: apt refuses {uri} {suite}: {ours[0]}; {cure}"
        return {**ret, "result": False, "changes": {}, "comment": comment}
    return {**ret, "comment": f"{name} configured{_others(refused)}"}


@core_files.told
def absent(name, refresh=True):
    """Have neither the source nor the key of a repository.

    :param name: base name of the source and key files
    :param refresh: fetch the package lists after a change
    :return: Salt's state return
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is not configured"}
    found = [path for path in (f"{SOURCES}/{name}.sources", f"{KEYRINGS}/{name}.asc") if os.path.exists(path)]
    ret["changes"] = dict.fromkeys(found, "removed")
    if not found:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"would remove {', '.join(found)}"}
    for path in found:
        core_files.remove(path)
    return {**ret, "comment": f"{name} removed{_others(_refresh() if refresh else [])}"}


def _refresh():
    """Fetch the package lists; return lines of what apt refuses or does not reach, mostly none."""
    try:
        __salt__["pkg.refresh_db"](failhard=True)
    except CommandExecutionError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return [line[3:].rstrip(".") for line in lines if line.startswith("E: ")] or lines
    return []


def _others(refused):
    return f", but apt refuses another source: {refused[0]}" if refused else ""


def _put_back(files):
    """Give files ({path: text, None: none}) back what was there before."""
    for path, text in files.items():
        if text is None:
            core_files.remove(path)
        else:
            core_files.write(path, text)
    # apt has dropped the lists of what was there before.
    _refresh()


def _is_key(path, fingerprint):
    text = core_files.read(path)
    try:
        return text is not None and openpgp.primary_fingerprints(os.fsencode(text)) == [fingerprint]
    except openpgp.KeyFileError:
        return False


def _fetch_key(url, path, fingerprint):
    try:
        with urllib.request.urlopen(url, timeout=SECONDS, context=ssl.create_default_context()) as answer:
            data = answer.read(1 << 20)
        found = openpgp.primary_fingerprints(data)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"the signing key cannot be fetched from {url} ({error}); check DNS, clock and proxy of this node"
    except openpgp.KeyFileError as error:
        return f"{url} holds {error}; a captive portal or proxy may have answered instead"
    if found != [fingerprint]:
        return f"the key at {url} has fingerprint {', '.join(found)}, pinned is {fingerprint}: not trusted"
    try:
        core_files.write(path, data.decode("ascii"))
    except UnicodeDecodeError:
        return f"the key at {url} is binary: give the address of the ASCII-armoured one, mostly *.asc"
    return None
