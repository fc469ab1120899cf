"""
Execution functions for Consul's ACLs and snapshots.

No function returns a SecretID: what a function returns stays in the master's job cache. Where one is made, it
is written to a root-only file on the minion if `path` says so; otherwise only its AccessorID is known.
"""

from __future__ import annotations

from omega.consul import acl
from omega.consul.client import ConsulError
from omega.consul.exec.common import data, done, need, refused, want

MANAGEMENT = "global-management"


def acl_policy_list(client):
    """
    Names, IDs and descriptions of the policies.

    :return: ``{"res": True, "data": ...}``: list of ``{"ID", "Name", "Description", ...}``

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_policy_list
    """
    return data(acl.list_policies(client))


def acl_policy_read(client, name=None):
    """
    A policy with its rules.

    :param name: of the policy
    :return: ``{"res": True, "data": ...}``: ``{"ID", "Name", "Description", "Rules", ...}``;
        ``res`` False if there is none

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_policy_read name=rpiomega-node-pi1
    """
    need(name=name)
    policy = acl.read_policy(client, name)
    return data(policy) if policy else refused(f"No policy {name}.", "not_found")


def acl_policy_create(client, name=None, rules=None, description=""):
    """
    Create a policy, or give an existing one these rules.

    :param name: of the policy
    :param rules: in HCL or JSON
    :param description: a text for people
    :return: ``{"res": True, "message": ..., "changed": bool}``

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_policy_create name=reader rules='key_prefix "web/" { policy = "read" }'
    """
    need(name=name, rules=rules)
    changed = acl.ensure_policy(client, name, rules, description)
    return done(f"Policy {name} {'written' if changed else 'is as asked for'}.", changed=changed)


def acl_policy_delete(client, name=None):
    """
    Delete a policy; tokens lose what it allowed at once.

    :param name: of the policy
    :return: ``{"res": True, "message": ..., "changed": bool}``; what is not there is no change

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_policy_delete name=reader
    """
    need(name=name)
    existed = acl.delete_policy(client, name)
    return done(f"Policy {name} {'deleted' if existed else 'does not exist'}.", changed=existed)


def acl_token_list(client):
    """
    Tokens without their secrets: accessor, description, policies.

    :return: ``{"res": True, "data": ...}``: list of ``{"accessor", "description", "policies", "local"}``

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_token_list
    """
    return data(acl.list_tokens(client))


def acl_token_read(client, accessor=None):
    """
    A token without its secret.

    :param accessor: its AccessorID
    :return: ``{"res": True, "data": ...}``: ``{"accessor", "description", "policies", "local"}``;
        ``res`` False if there is none

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_token_read accessor=6a1253d2-1785-24fd-91c2-f8e78c745511
    """
    need(accessor=accessor)
    token = acl.read_token(client, accessor)
    return data(token) if token else refused(f"No token {accessor}.", "not_found")


def acl_token_create(client, description="", policies=None, path=None, ttl=None):
    """
    Create a token.

    :param description: a text for people
    :param policies: names of existing policies
    :param path: file on this minion that gets the secret (new, mode 0600); without it the secret is thrown away
        and can only be read with a management token
    :param ttl: duration after which Consul deletes it ("1h"); never by default
    :return: ``{"res": True, "message": ..., "accessor": AccessorID}``

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_token_create description=ci policies='[reader]' path=/root/ci.token
    """
    accessor = acl.create_token(client, description, policies or [], path, ttl)
    return done(f"Token {accessor} created.", accessor=accessor)


def acl_token_delete(client, accessor=None):
    """
    Delete a token.

    :param accessor: its AccessorID
    :return: ``{"res": True, "message": ..., "changed": bool}``; what is not there is no change

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_token_delete accessor=6a1253d2-1785-24fd-91c2-f8e78c745511
    """
    need(accessor=accessor)
    existed = acl.delete_token(client, accessor)
    return done(f"Token {accessor} {'deleted' if existed else 'does not exist'}.", changed=existed)


def acl_create(client, name=None, type="client", rules=None, path=None):
    """
    As in Salt's former module, on the ACL system that Consul has since 1.4: a policy ``name`` with ``rules``
    and a token of it.

    :param name: of the policy, and the token's description
    :param type: client, or management: all rights, no rules
    :param rules: in HCL or JSON; a token without any rights if not given
    :param path: as in ``consul.acl_token_create``
    :return: ``{"res": True, "message": ..., "ID": AccessorID}``

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_create name=reader rules='key_prefix "web/" { policy = "read" }'
    """
    need(name=name)
    accessor = acl.create_token(client, name, _policies_of(client, name, type, rules) or [], path)
    return done(f"ACL {name} created.", ID=accessor)


def _policies_of(client, name, type, rules):
    """Names of the policies that were asked for, None if nothing was."""
    if type not in ("client", "management"):
        raise ConsulError("bad_request", "Consul ACL: type must be client or management")
    if type == "management":
        return [MANAGEMENT]
    if rules:
        acl.ensure_policy(client, name, rules)
        return [name]
    return None


def acl_update(client, id=None, name=None, type="client", rules=None):
    """
    Give the token with the AccessorID ``id`` the description ``name`` and, with ``rules``, the policy ``name`` in place
    of its policies. All else stays: its roles and identities, and its policies where no ``rules`` are given.

    :param id: AccessorID of the token
    :param name: of the policy, and the token's description
    :param type: client, or management: all rights, no rules
    :param rules: in HCL or JSON
    :return: ``{"res": True, "message": ...}``; ``res`` False if there is none

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_update id=6a12... name=reader rules='key_prefix "web/" { policy = "write" }'
    """
    want(id=id)
    need(name=name)
    if acl.read_token(client, id) is None:
        return refused(f"No token {id}.", "not_found")
    acl.update_token(client, id, name, _policies_of(client, name, type, rules))
    return done(f"ACL {name} updated.")


def acl_delete(client, id=None):
    """
    Delete the token with the AccessorID ``id``.

    :param id: AccessorID of the token
    :return: ``{"res": True, "message": ...}``; ``res`` False if there is none

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_delete id=6a1253d2-1785-24fd-91c2-f8e78c745511
    """
    want(id=id)
    if acl.delete_token(client, id):
        return done(f"ACL {id} deleted.")
    return refused(f"No token {id}.", "not_found")


def acl_info(client, id=None):
    """
    The token with the AccessorID ``id``, without its secret.

    :param id: AccessorID of the token
    :return: as ``consul.acl_token_read``, in a list of one, as Consul's former ACLs gave it

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_info id=6a1253d2-1785-24fd-91c2-f8e78c745511
    """
    want(id=id)
    answer = acl_token_read(client, id)
    return data([answer["data"]]) if answer["res"] else answer


def acl_clone(client, id=None, path=None):
    """
    Create a token with the same policies, roles and identities as the token with the AccessorID ``id``.

    :param id: AccessorID of the token
    :param path: as in ``consul.acl_token_create``
    :return: ``{"res": True, "message": ..., "ID": AccessorID of the new one}``

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_clone id=6a1253d2-1785-24fd-91c2-f8e78c745511
    """
    want(id=id)
    if acl.read_token(client, id) is None:
        return refused(f"No token {id}.", "not_found")
    return done(f"ACL {id} cloned.", ID=acl.clone_token(client, id, path))


def acl_list(client):
    """
    Tokens without their secrets.

    :return: as ``consul.acl_token_list``

    CLI Example:

    .. code-block:: bash

        salt master consul.acl_list
    """
    return acl_token_list(client)


FUNCTIONS = (
    acl_policy_list,
    acl_policy_read,
    acl_policy_create,
    acl_policy_delete,
    acl_token_list,
    acl_token_read,
    acl_token_create,
    acl_token_delete,
    acl_create,
    acl_update,
    acl_delete,
    acl_info,
    acl_clone,
    acl_list,
)
