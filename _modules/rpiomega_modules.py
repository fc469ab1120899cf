"""Which of the formula's modules this node has."""

import omega_modules


def digest():
    """Return the digest of the modules this node holds, to compare with ``rpiomega_modules`` of its pillar.

    :return: hexadecimal string; the same as the pillar's if nothing is to be synced

    CLI Example:

    .. code-block:: bash

        salt '*' rpiomega_modules.digest
        salt '*' pillar.get rpiomega_modules
    """
    return omega_modules.synced(__opts__["extension_modules"])
