"""Which of the formula's modules this node has."""

from omega.core import modules


def digest():
    """
    A digest of the modules that this node has, to compare with ``rpiomega_modules`` of its pillar.

    :return: hexadecimal string; the pillar's if nothing is to be synced

    CLI Example:

    .. code-block:: bash

        salt '*' rpiomega_modules.digest
    """
    return modules.synced(__opts__["extension_modules"])
