"""Whether the settings of a drop-in that another state wrote are in force, as the program that uses them reads them."""

import os
import subprocess

from omega.core import dropin

BOUND = 60


def in_force(name):
    """
    Check that no other file overrules a drop-in. Changes nothing, neither with test=True nor without.

    :param name: path of the drop-in: of journald, timesyncd, resolved, apt, chrony or a systemd unit
    :return: Salt's state return; False with the setting that is not in force, the file that sets it and what to do

    .. code-block:: yaml

        journal.in_force:
          dropin.in_force:
            - name: /etc/systemd/journald.conf.d/zz-rpiomega.conf
            - require:
              - file: journal.config
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"every setting of {name} is in force"}
    if not os.path.exists(name):
        return {**ret, "comment": f"{name} does not exist: nothing to check"}
    try:
        lost = dropin.lost(name, _run)
    except (OSError, ValueError) as error:
        comment = f"{__opts__['id']}: the settings of {name} cannot be read back: {error}"
        return {**ret, "result": False, "comment": comment}
    if lost:
        comment = f"{__opts__['id']}: {lost[0].cause(name)}: {lost[0].cure(name)}, then apply again"
        return {**ret, "result": False, "comment": comment}
    return ret


def _run(argv, env):
    done = subprocess.run(
        argv,
        env={**os.environ, "LC_ALL": "C.UTF-8", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    return done.returncode, done.stdout if done.returncode == 0 else f"{done.stdout}\n{done.stderr}"
