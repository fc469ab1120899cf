"""From boards with SSH to minions that wait for their keys' acceptance: all nodes at once."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from pathlib import Path

from rpiomega import agent, formula, move, prepare, reach
from rpiomega.bulk import Bulk, Row
from rpiomega.cache import Cache
from rpiomega.errors import NodeError, Stopped
from rpiomega.gate import Gate
from rpiomega.keys import SILENT, UNSYNCED, Key, blame, compare, silent, unsynced
from rpiomega.node import job_steps
from rpiomega.node.job_steps import JobStep, ServedFile
from rpiomega.reboot import reboot
from rpiomega.site import Node, Site
from rpiomega.ssh import Pool, Remote, shell

INCOMING = "/srv/rpiomega/incoming"
SALT_INCOMING = "/opt/rpiomega/incoming"
# A board may build Salt before it can get the master's key.
MASTER_BOUND = 5400.0
RESTARTING = {"salt", "formula", "master"}  # steps of the master whose change ends in its restart
KEYS_BOUND = 60.0


@dataclass
class Options:
    """What the user asked for besides the site file."""

    dry_run: bool = False
    new_master: bool = False
    wait: float = 60.0
    renew_identity: bool = False
    reboot: bool = False


class Bootstrap:
    """One run over some nodes of a site."""

    def __init__(self, site: Site, site_file: Path, pool: Pool, cache: Cache, options: Options):
        self.site = site
        self.site_file = site_file
        self.pool = pool
        self.cache = cache
        self.options = options
        self.master_finger: Future = Future()
        self.fingers: dict[str, str] = {}
        self.keys: list[Key] = []
        self.reboots: dict[str, str] = {}
        self.identities = prepare.Identities()
        self.gate = Gate(site, pool, options.wait, options.new_master, options.renew_identity)
        self._failed_builds: dict[str, list[str]] = {}

    def run(self, bulk: Bulk) -> bool:
        """Bootstrap the nodes of `bulk`; return False if interrupted. Each row says how it went."""
        master = self.site.master.name
        if master not in bulk.rows:
            threading.Thread(target=self._ask_master, daemon=True).start()
        self.identities.ask(
            self.pool, self.site, [node for name, node in self.site.nodes.items() if name not in bulk.rows]
        )
        self.gate.open({name: row.log for name, row in bulk.rows.items()})
        finished = bulk.run(self._node, self._stop)
        if finished and not self.options.dry_run and self.fingers and not self.master_finger.exception():
            self._compare(bulk)
        return finished

    def _stop(self) -> None:
        if not self.master_finger.done():
            self.master_finger.set_exception(Stopped())
        self.pool.cancel()

    def _node(self, row: Row) -> None:
        node = self.site.nodes[row.name]
        try:
            self._steps(row, node)
        except BaseException as error:
            if node is self.site.master and not self.master_finger.done():
                self.master_finger.set_exception(error)
            raise

    def _steps(self, row: Row, node: Node) -> None:
        row.start("ssh")
        remote = self.gate.passed(row.name)
        is_master = node is self.site.master
        done = self._job(remote, row, self._first_steps(node))
        done |= self._prepare(remote, row, done["identity"]["data"])
        reasons = [event["data"]["reboot"] for step, event in done.items() if "reboot" in event.get("data", {})]
        if reasons:
            self.reboots[row.name] = "; ".join(reasons)
        if self.site.network.manage:
            remote = self._address(remote, row, node)
        if reasons and self.options.reboot and not self.options.dry_run:
            row.start("reboot")
            row.notes.append(f"rebooted: {self.reboots.pop(row.name)}")
            remote = reboot(remote, node, row.event, self.site.network.manage)
        found = done["inventory"]["data"]
        steps = self._salt(remote, row, found["salt"], is_master)
        if is_master:
            steps.append(self._formula(remote, row, found))
            steps.append(job_steps.Master(found["salt"]["kind"]))
        elif not self.master_finger.done() and steps:
            self._job(remote, row, steps)  # nothing in it needs the master
            steps = []
        finger = "" if is_master else self._wait_for_master(row)
        steps.append(
            job_steps.Minion(
                id=node.name,
                master=self.site.master.address,
                master_finger=finger,
                kind=found["salt"]["kind"],
                new_master=self.options.new_master,
            )
        )
        done = self._job(remote, row, steps)
        self.fingers[row.name] = done["minion"]["data"].get("finger", "")
        if is_master:
            self.master_finger.set_result(done["master"]["data"].get("master_finger", ""))

    def _prepare(self, remote: Remote, row: Row, own: dict) -> dict[str, dict]:
        """Give a copied card an identity of its own, and switch password logins off where the site says so."""

        def job(steps: list[JobStep]) -> dict[str, dict]:
            return self._job(remote, row, steps)

        done, same = {}, self.identities.claim(row.name, own)
        if same or not own["machine_id"] or not own["host_keys"]:
            done["machineid"] = prepare.renew(job, remote, same, self.options.renew_identity)
        if self.site.system.ssh_passwords == "off":
            prepare.harden(job, remote, self.site.users.admin)
        return done

    def _address(self, remote: Remote, row: Row, node: Node) -> Remote:
        """Bring the node to its static address, before Salt gets an address; return the connection there."""
        job = move.step(self.site, node, self.site_file.parent)
        remote, said = move.settle(remote, row.event, job, self.options.dry_run)
        if said:
            row.notes.append(said)
        return remote

    def _first_steps(self, node: Node) -> list[JobStep]:
        site, base = self.site, self.site_file.parent
        ca = (base / Path(site.sources.ca_bundle).expanduser()).read_text() if site.sources.ca_bundle else ""
        nodes = {name: other.address for name, other in site.nodes.items()}
        files = [file for _, file in self._files()] if node is site.master else []
        return [
            job_steps.Hostname(node.name, site.cluster, nodes, self.options.renew_identity),
            job_steps.Cmdline(),
            job_steps.Identity(),
            *prepare.steps(site),
            job_steps.Clock(),
            job_steps.Sources(site.sources.apt_proxy, site.sources.pip_index, ca),
            *prepare.late_steps(site),
            job_steps.Inventory(_salt_wanted(site), files, site.formula.branch),
        ]

    def _job(self, remote: Remote, row: Row, steps: list[JobStep]) -> dict[str, dict]:
        return agent.run(remote, steps, row.event, self.options.dry_run)

    def _salt(self, remote: Remote, row: Row, found: dict, is_master: bool) -> list[JobStep]:
        """Return the steps that install Salt; what others of its kind have built is brought there first."""
        wanted, name = _salt_wanted(self.site), found["key"]
        step = job_steps.Salt(found["kind"], wanted.version, is_master, wanted.repository, name)
        if step.kind == "onedir" or found["installed"] or self.options.dry_run:
            return [step]
        row.start("salt (waiting for another node's build)" if self.cache.lock(name).locked() else "salt")
        with self.cache.lock(name):
            if self.pool.stop.is_set():
                raise Stopped
            build = self.cache.get(name)
            if build is None:
                self._build(remote, row, step)
                return [step]
        row.start("salt (sending)")
        target = f"{SALT_INCOMING}/{name}.tar.gz"
        remote.upload(build.path, target)
        return [replace(step, archive=target, sha256=build.sha256)]

    def _build(self, remote: Remote, row: Row, step: job_steps.Salt) -> None:
        """Build Salt on this node and keep the build. Two nodes that fail speak for all of their kind."""
        failures = self._failed_builds.setdefault(step.key, [])
        if len(failures) >= 2:
            raise NodeError(f"Salt could be built neither on {' nor on '.join(failures)}", "see their errors", "salt")
        row.start("salt (building)")
        try:
            done = self._job(remote, row, [replace(step, pack=True)])
        except NodeError:
            failures.append(row.name)
            raise
        packed = done["salt"]["data"].get("packed")
        if packed:
            self.cache.put(step.key, packed["sha256"], lambda path: remote.download(packed["path"], path))
            remote.run(remote.as_root(shell("rm", "-f", "--", packed["path"])))

    def _files(self) -> list[tuple[Path, ServedFile]]:
        """Return what the master serves to all nodes besides the formula, each with its path here."""
        if not self.site.consul.archive:
            return []
        path = self.site_file.parent / Path(self.site.consul.archive).expanduser()
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return [(path, ServedFile(path.name, digest, path.stat().st_size))]

    def _formula(self, remote: Remote, row: Row, found: dict) -> JobStep:
        """Return the step that places the formula; what the master lacks is brought there first."""
        site = self.site
        files = []
        for path, file in self._files():
            if file.name in found["files"] and not self.options.dry_run:
                row.start(f"sending {file.name}")
                file = replace(file, incoming=f"{INCOMING}/{file.name}")
                remote.upload(path, file.incoming)
            files.append(file)
        text = self.site_file.read_text(encoding="utf-8")
        step = job_steps.Formula(site.formula.branch, text, site.formula.remote, files=files)
        if site.formula.remote:
            return step
        here = formula.find(Path(__file__).parent)
        if here.dirty:
            row.notes.append("the formula has changes that are not committed: the master gets the last commit")
        step = replace(step, commit=here.commit)
        if found["formula"] != here.commit and not self.options.dry_run:
            step = replace(step, bundle=f"{INCOMING}/formula.bundle")
            with tempfile.TemporaryDirectory(prefix="rpiomega-") as folder:
                remote.upload(here.bundle(Path(folder), site.formula.branch), step.bundle)
        return step

    def _wait_for_master(self, row: Row) -> str:
        if not self.master_finger.done():
            row.start("waiting for the master's key")
        name = self.site.master.name
        try:
            finger = self.master_finger.result(timeout=MASTER_BOUND)
        except FutureTimeout:
            cause = f"waited {MASTER_BOUND:.0f} s for the key of the master {name}"
            raise NodeError(cause, f"see the log of {name}") from None
        except NodeError as error:
            cause = f"the master {name} failed ({error.cause})"
            raise NodeError(cause, "repair the master, then run the bootstrap again", "minion") from None
        if not finger and not self.options.dry_run:
            raise NodeError(f"the master {name} has no key yet", f"run `rpiomega bootstrap {name}` first", "minion")
        return finger

    def _ask_master(self) -> None:
        """Learn the master's fingerprint when the master itself is not among the nodes of this run."""
        try:
            remote = reach.board(self.pool, self.site, self.site.master)
            remote.connect(self.options.wait)
            done = agent.run(remote, [job_steps.Inventory(_salt_wanted(self.site))], lambda event: None, True)
            self.master_finger.set_result(done["inventory"]["data"]["master_finger"])
        except BaseException as error:  # noqa: BLE001 - it belongs to those who wait for the result
            self.master_finger.set_exception(error)

    def _compare(self, bulk: Bulk) -> None:
        """Fill `keys`: minion and master side by side; a difference is that node's failure."""
        self.keys = compare(self.pool, self.site, self.fingers, KEYS_BOUND)
        blame(bulk, self.keys, self.site.master, KEYS_BOUND)
        self._reconnected(bulk)

    def _reconnected(self, bulk: Bulk) -> None:
        """Where the master was restarted, let the minions come back to it: the next command reaches them."""
        master = bulk.rows.get(self.site.master.name)
        if master and RESTARTING.intersection(master.changed):
            for name in silent(self.pool, self.site, [key.name for key in self.keys if key.state == "accepted"]):
                bulk.rows[name].notes.append(SILENT)
        if master and "formula" in master.changed:
            for name in unsynced(self.pool, self.site, self.site.nodes):
                bulk.rows.get(name, master).notes.append(UNSYNCED.format(name))


def _salt_wanted(site: Site) -> job_steps.SaltWanted:
    salt = site.salt
    return job_steps.SaltWanted(salt.version, salt.source, job_steps.Repository(**salt.repository.model_dump()))
