"""What a power cut in the middle of an installation leaves to dpkg."""

import os

from omega.core import apt, apt_rules, files


def __virtual__():
    return os.path.isdir("/var/lib/dpkg") or (False, "dpkg: this system has no dpkg")


@files.disk_errors_returned
def configured(name):
    """
    Finish what an interrupted dpkg has left: until then apt refuses all work, and every ``pkg`` state fails.

    :param name: of the state; says nothing
    :return: Salt's state return; False with the package that does not let itself be configured and the next step

    .. code-block:: yaml

        packages.dpkg:
          dpkg.configured: []
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "dpkg was not interrupted"}
    if not apt_rules.interrupted():
        return ret
    if __opts__["test"] and apt_rules.in_use():
        return {**ret, "comment": "another dpkg is at work (`pgrep -a dpkg`, `pgrep -a apt`): would wait for it"}
    changes = {"dpkg": {"old": "interrupted", "new": "configured"}}
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": "dpkg was interrupted: would finish its work"}
    try:
        if not apt.repair():
            return {**ret, "comment": "another dpkg was at work, and has ended"}
    except apt.AptError as error:
        return {**ret, "result": False, "comment": f"{__opts__['id']}: {error}"}
    return {**ret, "changes": changes, "comment": "dpkg was interrupted, its work is finished"}
