"""The formula on the Salt master follows a branch or tag of its git remote.

A revision is used only if it comes after the one in use, is signed where the site asks for that, and renders for every
node of the site. It is checked out beside the old one, and one rename makes it the one in use: see
`_utils/omega/formula/release.py` for why a power cut cannot leave half of it.
"""

import os
import shutil
import subprocess
import sys

from omega.formula import finish, repository, update

# The master's workers keep these loaded as long as they live.
LOADED_BY_MASTER = ("_pillar/", "_utils/", "_runners/")
LOADED_BY_MINIONS = ("_modules/", "_states/", "_utils/", "_grains/")


def followed(
    name,
    remote,
    rev,
    signers=None,
    allow_rewrite=False,
    master_config="/etc/salt/master",
    master_service="salt-master",
):
    """Have the master's formula at the commit where a branch or tag of its remote is.

    :param name: path of the formula, which the master's file_roots name; a symbolic link after the first update
    :param remote: address of the repository, as git takes it
    :param rev: branch or tag
    :param signers: list of public keys (ssh allowed-signers lines or armored OpenPGP keys), one of which must have
        signed the commit; none: no signature is asked for
    :param allow_rewrite: take a revision that does not come after the one in use
    :param master_config: the master's configuration file; the revision is rendered with its roots
    :param master_service: the master's systemd service. When modules have changed, as soon as no job runs all minions
        sync theirs, and the service is restarted if it keeps one of them loaded; empty: neither
    :return: Salt's state return; ``changes`` maps ``name`` to ``{old, new}`` commits. When anything stands against the
        update, ``result`` is False, the tree is as it was, and the comment says what to do

    .. code-block:: yaml

        repo.formula:
          formula.followed:
            - name: /srv/rpiomega/formula
            - remote: https://example.com/rpiomega.git
            - rev: main
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    test = __opts__["test"]
    try:
        with update.planned(name, remote, rev, signers or (), allow_rewrite, master_config, rehearse=test) as (
            step,
            releases,
        ):
            if step.new is None:
                return {**ret, "comment": f"{name} is at {step.old[:12]}, where {rev} of {remote} is"}
            ret["changes"] = {name: {"old": step.old, "new": step.new}}
            changed = _changed(releases.store, step) if master_service else ()
            restart = master_service if any(path.startswith(LOADED_BY_MASTER) for path in changed) else ""
            sync = any(path.startswith(LOADED_BY_MINIONS) for path in changed)
            if test:
                after = f"; {_todo(restart, 'would ')}" if restart or sync else ""
                return {**ret, "result": None, "comment": f"would switch {name} to {step.new[:12]}{after}"}
            kept = releases.switch(step.path, step.new, rev)
    except repository.FormulaError as error:
        at = repository.head(name)
        stays = f" ({name} stays at {at[:12]})" if at else ""
        return {**ret, "result": False, "changes": {}, "comment": f"{error}{stays}"}
    except (repository.GitFailed, OSError) as error:
        return {
            **ret,
            "result": False,
            "changes": {},
            "comment": f"{name} cannot be updated: {error}; see `df` and git",
        }
    comment = f"{name} switched to {step.new[:12]}"
    if kept:
        comment += f"; the first checkout is kept at {kept}"
    _drop_caches(master_config)
    if restart or sync:
        comment += f"; {_finish_later(restart, master_config, step.new)}"
    return {**ret, "comment": comment}


def _changed(store, step):
    """Return the paths that differ; of a revision that cannot be compared, one in each folder of modules."""
    try:
        return repository.run(store, "diff", "--name-only", step.old, step.new).splitlines()
    except repository.GitFailed:
        return LOADED_BY_MASTER


def _todo(service, would=""):
    restarts = f", {service} {would}restart{'' if would else 's'}" if service else ""
    return f"once no job runs, minions {would}sync their modules{restarts}"


def _drop_caches(master_config):
    """Drop what the master's roots backend remembers of the tree it served before.

    Its list of files lives 20 s (fileserver_list_cache_time). Its hashes are kept with a time stamp read after the
    file: an answer that was being given during the switch would pair the old hash with the new file for good, and
    minions would keep the old one (salt/fileserver/roots.py, file_hash).
    """
    import salt.config
    import salt.fileserver

    opts = salt.config.master_config(master_config)
    salt.fileserver.Fileserver(opts).clear_file_list_cache({"saltenv": None})
    shutil.rmtree(os.path.join(opts["cachedir"], "roots", "hash"), ignore_errors=True)


def _finish_later(service, master_config, commit):
    """Leave what other jobs must not meet to a unit of its own: this very job, and others, still have to return."""
    unit = f"--unit=rpiomega-formula-{commit[:12]}"
    script = [sys.executable, "-I", finish.__file__, master_config, *([service] if service else [])]
    try:
        subprocess.run(
            ["systemd-run", "--quiet", "--collect", unit, *script], check=True, capture_output=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        restart = f", and restart {service}" if service else ""
        return f"old modules are still loaded: `salt '*' saltutil.sync_all`{restart}"
    return _todo(service)
