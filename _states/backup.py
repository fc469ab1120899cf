"""What a node needs for its backups: restic, the files in /etc/rpiomega/backup, and on the master the repositories.

Secrets come from the node's own pillar and are in no state file, return or log; changes name files. ``test=True`` comes
from the same decisions and writes nothing.
"""

import os

from omega.backup import configured as backup_files
from omega.backup import install, repositories, restic
from omega.core import apt, pillar
from omega.core import files as core_files
from omega.docker import packages

FOLDER = restic.FOLDER


def _ret(name, comment):
    return {"name": name, "result": True, "changes": {}, "comment": comment}


def _failed(ret, comment, changes=None):
    return {**ret, "result": False, "changes": changes or {}, "comment": str(comment)}


def _would(ret, comment):
    return {**ret, "result": None, "comment": comment}


@core_files.disk_errors_returned
def restic_installed(
    name,
    source="auto",
    version=install.NEWEST_TESTED,
    sha256=None,
    mirror="",
    program=install.PROGRAM,
    stamp=install.STAMP,
):
    """Have a restic that is new enough on the PATH.

    :param name: any text
    :param source: ``distribution``: its package; ``vendor``: the vendor's binary; ``auto``: the package where it is new
        enough, else the binary
    :param version: of the vendor's binary
    :param sha256: {architecture (amd64, arm64, arm): SHA-256 of the vendor's .bz2 file}, for a version that the formula
        does not know
    :param mirror: address that has the vendor's releases; empty: GitHub
    :param program: where the vendor's binary goes; one that somebody else put there is kept as a copy
    :param stamp: file that says which binary this state wrote
    :return: Salt's state return

    .. code-block:: yaml

        backup.restic:
          backup.restic_installed:
            - source: auto
    """
    ret = _ret(name, "restic is installed")
    try:
        distribution = source != "vendor"
        facts = install.look(program, stamp, distribution)
        if distribution and not facts.packaged and not facts.offered and not __opts__["test"]:
            apt.update()  # a node that was just set up has no lists
            facts = install.look(program, stamp)
        made = install.plan(source, version, sha256 or {}, mirror, facts)
        if not made.changes:
            return ret
        ret["changes"] = made.changes
        if __opts__["test"]:
            return _would(ret, f"would install restic: {', '.join(made.changes.values())}")
        install.carry_out(made, program, stamp)
    except (install.InstallError, apt.AptError, packages.PackageError) as error:
        return _failed(ret, f"restic: {error}")
    return {**ret, "comment": f"restic: {', '.join(made.changes.values())}"}


@core_files.disk_errors_returned
def configured(name=FOLDER, settings=None):
    """Have the files of this node's backups: address, password, key and settings; on the master those of the upkeep.

    :param name: the folder, of mode 0700; its files get mode 0600
    :param settings: the site's section ``backup`` over the defaults, without secrets
    :return: Salt's state return; ``changes`` maps a path to written, mode or removed

    .. code-block:: yaml

        backup.files:
          backup.configured:
            - name: /etc/rpiomega/backup
            - settings: {keep: {daily: 7}}
    """
    ret = _ret(name, f"{name} is as the site file says")
    try:
        wanted = backup_files.contents(
            __opts__["id"], pillar.site(__pillar__), pillar.secrets(__pillar__), settings or {}
        )
    except backup_files.NoSecretsError as error:
        return _failed(ret, error)
    ret["changes"] = backup_files.differences(name, wanted)
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return _would(ret, f"would change {len(ret['changes'])} files of {name}")
    backup_files.apply(name, wanted, ret["changes"])
    return {**ret, "comment": f"changed {len(ret['changes'])} files of {name}"}


@core_files.disk_errors_returned
def unconfigured(name=FOLDER):
    """Take away what `configured` wrote: the node saves no more. Repository and local state stay.

    :param name: the folder; files of other names in it stay
    :return: Salt's state return
    """
    ret = _ret(name, "the node has no backups set up")
    ret["changes"] = backup_files.differences(name, {}) if os.path.isdir(name) else {}
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return _would(ret, f"would remove {len(ret['changes'])} files of {name}")
    backup_files.apply(name, {}, ret["changes"])
    return {**ret, "comment": f"removed {len(ret['changes'])} files of {name}; the repository stays in the bucket"}


@core_files.disk_errors_returned
def repositories_present(name=FOLDER, program="restic"):
    """Have a repository for each node of the site, which the recovery passphrase opens, too; on the master.

    A repository that is there is never overwritten, and none of its keys removed. One that was there and is gone is
    not made again. A node's problem does not stop the others.

    :param name: the folder that `configured` wrote
    :param program: restic
    :return: Salt's state return; ``changes`` maps a node to what was done

    .. code-block:: yaml

        backup.repositories:
          backup.repositories_present:
            - name: /etc/rpiomega/backup
    """
    ret = _ret(name, "each node has its repository")
    recovery = os.path.join(name, backup_files.MAINTENANCE, "recovery")
    try:
        restic.version(program)
        known = repositories.known(name, program)
    except restic.ResticError as error:
        if __opts__["test"] and error.kind in ("missing", "version", "bad_request"):
            # The run that this one predicts installs restic and writes the files first.
            return _would(ret, f"would make what is missing once restic and its files are there ({error})")
        return _failed(ret, error)
    problems, there, before = [], [], repositories.seen(name)
    for node, repository in known.items():
        try:
            found = repositories.look(repository, recovery)
            if not found.there and repository.url in before:
                raise repositories.lost(repository, name)
            if found.missing and not __opts__["test"]:
                repositories.make(repository, recovery, found)
            there.append(repository.url)
        except restic.ResticError as error:
            problems.append(f"{node}: {error}")
            if error.transient or error.kind == "killed":
                break  # the store would not answer for the others either, each after a bound of minutes
            continue
        if found.missing:
            ret["changes"][node] = found.missing
    if not __opts__["test"]:
        repositories.note(name, there)
    if problems:
        return _failed(ret, "\n".join(problems), {} if __opts__["test"] else ret["changes"])
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return _would(ret, f"would set up the repository of {', '.join(ret['changes'])}")
    return {**ret, "comment": f"set up the repository of {', '.join(ret['changes'])}"}
