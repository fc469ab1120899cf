"""
ACL policies and tokens of Consul (the system since 1.4), brought to what they should be.

`plan_*` only reads and returns what would change, {} if nothing; `ensure_*` does it. Secrets go into request
bodies and headers only: no SecretID is in what is returned or raised here.

A missing token answers 403 "ACL not found" (measured on 1.8.7) or 404 (newer ones). SecretID and AccessorID may
be chosen when a token is created (Consul's HTTP API, "Create a Token"), and never change afterwards.
"""

from __future__ import annotations

import contextlib
import os
import uuid

from omega.consul import snapshot
from omega.consul.client import ConsulError

CONSISTENT = (("consistent", "1"),)
MISSING = (403, 404)


def read_policy(client, name):
    """Consul's policy called `name` (ID, Name, Description, Rules, ...), None if there is none."""
    found = [policy for policy in list_policies(client) if policy["Name"] == name]
    if not found:
        return None
    path = f"/v1/acl/policy/{found[0]['ID']}"
    return client.request("get", path, CONSISTENT, what=f"reading policy {name}")[1]


def list_policies(client):
    """All policies, without their rules."""
    return client.request("get", "/v1/acl/policies", CONSISTENT, what="listing the policies")[1] or []


def plan_policy(client, name, rules, description=""):
    """What `ensure_policy` would change: {} or {"old": {...} | None, "new": {...}}."""
    new = {"rules": rules.strip(), "description": description}
    policy = read_policy(client, name)
    if policy is None:
        return {"old": None, "new": new}
    old = {"rules": policy.get("Rules", "").strip(), "description": policy.get("Description", "")}
    return {} if old == new else {"old": old, "new": new}


def ensure_policy(client, name, rules, description=""):
    """Create or update the policy `name` with `rules` (HCL or JSON); True if that changed anything."""
    if not plan_policy(client, name, rules, description):
        return False
    policy = read_policy(client, name)
    body = {"Name": name, "Rules": rules.strip() + "\n", "Description": description}
    path = f"/v1/acl/policy/{policy['ID']}" if policy else "/v1/acl/policy"
    client.request("put", path, data=body, what=f"writing policy {name}")
    return True


def delete_policy(client, name):
    """Delete the policy `name`; True if there was one. Tokens lose what it allowed at once."""
    policy = read_policy(client, name)
    if policy is None:
        return False
    client.request("delete", f"/v1/acl/policy/{policy['ID']}", what=f"deleting policy {name}")
    return True


def list_tokens(client):
    """All tokens without their secrets: [{"accessor", "description", "policies": [names]}]."""
    tokens = client.request("get", "/v1/acl/tokens", CONSISTENT, what="listing the tokens")[1]
    return [describe(token) for token in tokens or []]


def describe(token):
    """What may be shown of a token: accessor, description, sorted names of its policies, whether local."""
    return {
        "accessor": token["AccessorID"],
        "description": token.get("Description", ""),
        "policies": sorted(policy["Name"] for policy in token.get("Policies") or []),
        "local": token.get("Local", False),
    }


def read_token(client, accessor):
    """`describe` of the token with this AccessorID, None if there is none."""
    token = _by_accessor(client, accessor)
    return describe(token) if token else None


def plan_token(client, secret_id, accessor=None, description="", policies=()):
    """What `ensure_token` would change: {} or {"old": {...} | None, "new": {...}}, without the secret."""
    return _plan(client, secret_id, accessor, description, policies)[0]


def ensure_token(client, secret_id, accessor=None, description="", policies=()):
    """
    Create or update the token whose SecretID is `secret_id`; True if that changed anything.

    :param secret_id: a UUID chosen by the caller
    :param accessor: AccessorID (a UUID) it has or gets; Consul chooses one if not given. If a token with this
        accessor exists with another secret, it is deleted first: the old secret ends there. So is a token of this
        secret and description that has another accessor.
    :param policies: names of its policies, which must exist
    """
    changes, token = _plan(client, secret_id, accessor, description, policies)
    if not changes:
        return False
    body = {
        "SecretID": secret_id,
        "Description": description,
        "Policies": [{"Name": name} for name in sorted(policies)],
        "Local": False,
    }
    what = f"writing the token of {description or accessor}"
    if token and (token["SecretID"] != secret_id or token["AccessorID"] != (accessor or token["AccessorID"])):
        if token["SecretID"] != secret_id:
            _check_replacement(client, secret_id, policies, what)
        delete_token(client, token["AccessorID"])
        token = None
    if token:
        body["AccessorID"] = token["AccessorID"]
        path = f"/v1/acl/token/{token['AccessorID']}"
    else:
        body.update({"AccessorID": accessor} if accessor else {})
        path = "/v1/acl/token"
    try:
        client.request("put", path, data=body, what=what)
    except ConsulError as error:
        raise ConsulError(error.kind, str(error).replace(secret_id, "[secret]")) from None
    return True


def create_token(client, description, policies, path=None, ttl=None):
    """
    Create a token with a secret of Consul's choice and return its AccessorID.

    :param path: file that gets the secret, root-only; it must not exist. Without it the secret is dropped
    :param ttl: duration after which Consul deletes the token, such as "1h"
    :raises ConsulError: there is no new token then
    """
    _check_place(description, path)
    body = {"Description": description, "Policies": [{"Name": name} for name in policies]}
    body.update({"ExpirationTTL": ttl} if ttl else {})
    token = client.request("put", "/v1/acl/token", data=body, what=f"creating a token of {description}")[1]
    return _keep(client, token, path)


def clone_token(client, accessor, path=None):
    """Create a token with all rights of the token with this AccessorID; `path`, return and errors of `create_token`."""
    _check_place(accessor, path)
    token = client.request("put", f"{_token_path(accessor)}/clone", data={}, what=f"cloning token {accessor}")[1]
    return _keep(client, token, path)


def _check_place(whose, path):
    if path and os.path.exists(path):
        raise ConsulError("conflict", f"token of {whose}: {path} exists; name another file or remove it")
    if path and not os.path.isdir(os.path.dirname(path) or "."):
        raise ConsulError("bad_request", f"token of {whose}: the folder of {path} does not exist")


def _keep(client, token, path):
    """Write a new token's secret to `path`, if there is one; delete the token if that fails. Returns its AccessorID."""
    accessor = token["AccessorID"]
    try:
        if path:
            snapshot.write_private(path, token["SecretID"].encode())
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        delete_token(client, accessor)
        cause = f"its secret cannot be written to {path}: {error.strerror}"
        raise ConsulError("bad_request", f"token {accessor} was deleted again, {cause}; name another file") from None
    return accessor


def update_token(client, accessor, description, policies=None):
    """
    Replace the description of a token and, if given, its policies; its roles, identities and all else stay.

    :raises ConsulError: "not_found" if there is no token with this AccessorID
    """
    token = _by_accessor(client, accessor)
    if token is None:
        raise ConsulError("not_found", f"No token {accessor}.")
    body = {**token, "Description": description}
    del body["SecretID"]  # an update without it keeps the secret
    body.update({} if policies is None else {"Policies": [{"Name": name} for name in policies]})
    client.request("put", _token_path(accessor), data=body, what=f"writing token {accessor}")


def _check_replacement(client, secret_id, policies, what):
    """Raise what would make Consul refuse the new token, before the old one is deleted."""
    try:
        uuid.UUID(secret_id)
    except ValueError:
        raise ConsulError("bad_request", f"{what}: its SecretID is not a UUID") from None
    if _by_secret(client, secret_id):
        raise ConsulError("conflict", f"{what}: its SecretID belongs to another token; choose a new one")
    missing = set(policies) - {policy["Name"] for policy in list_policies(client)}
    if missing:
        raise ConsulError("bad_request", f"{what}: no such policy: {', '.join(sorted(missing))}")


def delete_token(client, accessor):
    """Delete the token with this AccessorID; True if there was one."""
    if _by_accessor(client, accessor) is None:
        return False
    client.request("delete", _token_path(accessor), what=f"deleting token {accessor}")
    return True


def _plan(client, secret_id, accessor, description, policies):
    """(changes, the existing token or None)"""
    token = _by_accessor(client, accessor) if accessor else _by_secret(client, secret_id)
    elsewhere = None
    if token is None and accessor:  # Consul would refuse a second token of this secret
        elsewhere = token = _by_secret(client, secret_id)
        if token and token.get("Description", "") != description:
            raise ConsulError("conflict", f"the secret for {description or accessor} belongs to another token")
    new = {"description": description, "policies": sorted(policies), "secret": "wanted"}
    if token is None:
        return {"old": None, "new": new}, None
    shown = describe(token)
    secret = "wanted" if token["SecretID"] == secret_id else "another"
    old = {"description": shown["description"], "policies": shown["policies"], "secret": secret}
    if elsewhere:
        old["accessor"], new["accessor"] = elsewhere["AccessorID"], accessor
    return ({} if old == new else {"old": old, "new": new}), token


def _token_path(accessor):
    return f"/v1/acl/token/{accessor}"


def _by_accessor(client, accessor):
    return _read(client, _token_path(accessor), f"reading token {accessor}")


def _by_secret(client, secret_id):
    return _read(client.clone(token=secret_id), "/v1/acl/token/self", "looking a token up")


def _read(client, path, what):
    """The token, None if Consul does not know it; a missing permission stays an error."""
    code, answer = client.request("get", path, CONSISTENT, what=what, accept=(200, *MISSING))
    if code == 200:
        return answer
    if code == 404 or "ACL not found" in str(answer):
        return None
    raise client.failure(what, code, str(answer))
