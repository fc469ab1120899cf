"""One run of `swarm.cluster` on one node: settings, CA, unlock key, and Consul's copy of the worker token."""

import os

from omega.consul import client
from omega.swarm.api import SwarmError, describe
from omega.swarm.certificate import started_with
from omega.swarm.settings import ca, spec
from omega.swarm.waits import retried

RETRIES = 2  # the update, and once more after a conflict, when the spec has been read again
KEEP, NEVER = "keep", "never"


class Cluster:
    """
    :param engine: omega.swarm.api.Engine
    :param wanted: {name of omega.swarm.settings.spec.NAMES: value}
    :param keyring: omega.swarm.settings.key.Keyring
    :param store: omega.swarm.record.Store
    :param fixed: {name: value} of settings that only `swarm init` or a join takes
    :param addresses: addresses that `data_path_addr` means on this node
    :param signing: (path of a CA certificate, path of its key) on this node, or None
    """

    def __init__(self, engine, wanted, keyring, store, fixed=None, addresses=(), signing=None, **options):
        self.engine, self.wanted, self.keyring, self.store = engine, wanted, keyring, store
        self.fixed, self.addresses, self.signing = fixed or {}, addresses, signing
        self.unlock = options.get("unlock") or KEEP
        self.ca_timeout = options.get("ca_timeout", 600)
        self.even_if_down = options.get("even_if_down", False)
        self.changes, self.warnings = {}, []

    def run(self, test=False):
        """
        (result, comment); what was changed, or with `test` would be, is in `changes`. An engine that restarts and an
        election are waited for.
        """
        try:
            return retried(lambda: self._run(test), self.engine, test)
        finally:
            self.engine.close()

    def _run(self, test):
        if self.unlock not in (KEEP, NEVER):
            raise SwarmError("refused", f"unlock {self.unlock!r}: must be {KEEP} or {NEVER}")
        local = self.engine.local()
        if local.leaderless:
            raise SwarmError("no_leader", describe(local))
        if local.state != "active" and test:
            return None, f"{self.store.node}: once swarm.member has made it a member ({describe(local)})"
        if local.state != "active":
            hint = "; apply swarm.member first" if local.state == "inactive" else ""
            return False, f"{self.store.node}: {describe(local)}{hint}"
        if not local.control:
            self._forget(test)
            return self._result(test, f"{self.store.node} is a worker: the managers keep the swarm's settings")
        authority = self._signing()
        before = ca.fingerprint(ca.root_of(self.engine.cluster()))
        after, rotates = self._predict(authority) if test else self._settle(authority)
        if rotates:
            self.changes["ca"] = {"old": before, "new": ca.fingerprint(authority[0]) if authority else "a new CA"}
        self._key(after, test)  # this node's own, which must not wait for all the others
        # Also what an attempt began that was cut short: the leader renews its certificate, too, and is away meanwhile.
        ends = "ca" in self.changes and not (self.even_if_down and ca.down(self.engine))
        self._token(local, test, rotating=test and ends)
        if not test:
            self._follow(local, ends)
        self.warnings += spec.fixed_differences(self.engine.cluster(), self.fixed, self._data_path())
        return self._result(test, f"swarm {local.cluster_id} has the settings of the site")

    def _result(self, test, settled):
        if not self.changes:
            return True, settled
        names = ", ".join(self.changes)
        return (None, f"{self.store.node} would change: {names}") if test else (True, f"changed: {names}")

    # -- settings and CA -----------------------------------------------------------------------------------

    def _change(self, authority):
        def change(before):
            after = spec.merged(before, self.wanted)
            if authority:
                # Sent twice, as by two managers at once, it is one rotation: the engine compares it with its own.
                certificate, key = authority
                after["CAConfig"] = {**(after.get("CAConfig") or {}), "SigningCACert": certificate, "SigningCAKey": key}
            return after

        return change

    def _signing(self):
        """(certificate, key) to rotate the CA to; None if none is given or the swarm has it."""
        if not self.signing or not any(self.signing):
            return None
        if self.wanted.get("ca_force_rotate") is not None:
            raise SwarmError("refused", "signing_ca_cert and ca_force_rotate: give one of them, each rotates the CA")
        certificate = _read("signing_ca_cert", self.signing[0], "BEGIN CERTIFICATE")
        key = _read("signing_ca_key", self.signing[1], "PRIVATE KEY")
        if os.stat(self.signing[1]).st_mode & 0o077:
            raise SwarmError("refused", f"signing_ca_key {self.signing[1]}: others can read it; chmod 600 it first")
        has = ca.fingerprint(ca.root_of(self.engine.cluster()))
        return None if has == ca.fingerprint(certificate) else (certificate, key)

    def _predict(self, authority):
        attrs = self.engine.cluster()
        after = self._change(None)(attrs["Spec"])
        self.changes.update(spec.differences(attrs["Spec"], after))
        rotates = bool(authority) or self._rotates(attrs["Spec"], after)
        if rotates:
            ca.refuse_if_down(self.engine, self.even_if_down)
        return after, rotates

    def _settle(self, authority):
        """(the swarm's spec, whether this very update made the swarm rotate its CA)."""
        attrs = self.engine.cluster()
        change = self._change(authority)
        if authority or self._rotates(attrs["Spec"], change(attrs["Spec"])):
            ca.refuse_if_down(self.engine, self.even_if_down)
        before, after = self.engine.update_swarm(change, RETRIES)
        self.changes.update(spec.differences(before, after))
        return after, bool(authority) or self._rotates(before, after)

    def _follow(self, local, ends):
        """
        Wait for the rotation of the CA that this run began, if it can end now; of any other say how far it is, for it
        goes on without this run.
        """
        if ends:
            ca.wait(self.engine, self.ca_timeout)
            self.changes["ca"]["new"] = ca.fingerprint(ca.root_of(self.engine.cluster()))
            self._token(local)
        elif self.engine.cluster().get("RootRotationInProgress"):
            hint = "it ends once every node is back or removed (swarm.ca_status), then apply again"
            self.warnings.append(f"{ca.progress(self.engine)[1]}: {hint}")

    @staticmethod
    def _rotates(before, after):
        old, new = ((item.get("CAConfig") or {}).get("ForceRotate") or 0 for item in (before, after))
        return new != old

    # -- unlock key ----------------------------------------------------------------------------------------

    def _key(self, after, test):
        locks = bool((after.get("EncryptionConfig") or {}).get("AutoLockManagers"))
        if not locks or self.unlock == NEVER:
            self._forget(test)
            return
        key = self.engine.unlock_key()
        problem = self.keyring.problem(key) if key else "absent"
        if not problem:
            return
        if not test:
            if not key:
                raise SwarmError("refused", "autolock is on, but the engine gives no unlock key; run again")
            self.keyring.keep(key)
        self.changes["unlock key"] = {"old": problem, "new": f"kept in {self.keyring.path}"}

    def _forget(self, test):
        if self.keyring.exists():
            self.changes["unlock key"] = {"old": f"kept in {self.keyring.path}", "new": "absent"}
            if not test:
                self.keyring.forget()

    # -- Consul's copy of the worker token -----------------------------------------------------------------

    def _token(self, local, test=False, rotating=False):
        try:
            if not ca.token_outdated(self.engine, self.store, local, rotating):
                return
            if test or ca.publish_token(self.engine, self.store, local.cluster_id):
                self.changes["worker token"] = {"old": "outdated", "new": "published"}
        except client.ConsulError as error:
            self.warnings.append(f"whether Consul has the swarm's worker token is not known: {error}")

    # -- what cannot be changed ----------------------------------------------------------------------------

    def _data_path(self):
        """(data path address that the engine runs with, those wanted on this node), None if the first is not known."""
        if not self.fixed.get("data_path_addr"):
            return None
        former = started_with(self.engine.info().get("DockerRootDir") or "")
        return (former.get("DataPathAddr") or "", self.addresses) if former else None


def _read(name, path, holds):
    if not path:
        raise SwarmError("refused", f"{name}: missing; signing_ca_cert and signing_ca_key belong together")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise SwarmError("refused", f"{name} {path}: {getattr(error, 'strerror', None) or 'not text'}") from None
    if holds not in text:
        raise SwarmError("refused", f"{name} {path}: no PEM text with `{holds}`")
    return text
