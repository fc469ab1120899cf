"""`rpiomega remove`: take a node out of the cluster, or clear the way for a new board under a dead one's name.

Every step looks first and says in one line what it did, or that there was nothing to do: a run that was cut short is
resumed by the same command. What acts is Salt on the master; no node is touched that the quorum of the swarm or of
Consul needs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpiomega import agent, gate
from rpiomega.errors import NodeError
from rpiomega.node import job_steps
from rpiomega.site import Site
from rpiomega.site.document import TOP, Document
from rpiomega.ssh import Remote

KEYS = "/etc/salt/pki/master"
APPLY = "on the master: sudo salt '*' state.apply"
# Seconds for the answers of minions that only look, and of those that act.
LOOK, ACT = 20, 300


@dataclass(frozen=True)
class Options:
    """force_dead: the node is lost for ever; replace: a new board gets its name; dry_run: look only."""

    force_dead: bool = False
    replace: bool = False
    dry_run: bool = False


@dataclass
class Known:
    """What is known of the node before anything is done."""

    key: bool = False
    answers: bool = False
    manager: str = ""  # the manager that acts
    swarm: dict = field(default_factory=dict)
    consul: dict = field(default_factory=dict)

    @property
    def ready(self) -> list[dict]:
        """Return the swarm's entries of the node that answer the managers."""
        return [entry for entry in self.swarm.get("entries", []) if entry["state"] == "ready"]

    @property
    def nothing(self) -> bool:
        """Return whether nobody knows the node any more."""
        swarm = self.swarm.get("entries") or self.swarm.get("published") is not None
        consul = self.consul["consul"] != "absent" or self.consul["token"] or self.consul["policy"]
        return not (self.key or swarm or consul or self.consul["secrets"])


def in_site(site: Site, site_file: Path, name: str) -> str:
    """Return the line that keeps a node in the site file ("FILE:LINE"), empty if it is not there."""
    if name not in site.nodes:
        return ""
    line = Document(site_file.read_text(encoding="utf-8")).line((TOP, "nodes", name))
    return f"{site_file}:{line}"


class Master:
    """The Salt master over SSH."""

    def __init__(self, remote: Remote, name: str):
        self.remote, self.name = remote, name

    def root(self, *command: str, timeout: float = 60) -> str:
        """Run a command as root; return what it prints, whatever its exit code."""
        done = self.remote.run(self.remote.as_root(shlex.join(command)), timeout=timeout)
        return done.stdout.decode(errors="replace")

    def ask(self, targets: list[str], function: str, *arguments: str, bound: int = LOOK) -> dict[str, object]:
        """Call an execution function; return node -> answer of those that gave one."""
        command = ["salt", "--out=json", "--static", f"--timeout={bound}", "-L", ",".join(targets), function]
        text = self.root(*command, *arguments, timeout=bound + 90)
        try:
            answers = json.loads(text[text.index("{") :])
        except ValueError:
            return {}
        silent = ("Minion did not return", "No minions matched")
        return {
            name: answer
            for name, answer in answers.items()
            if answer is not False and not (isinstance(answer, str) and answer.startswith(silent))
        }

    def do(self, target: str, function: str, *arguments: str) -> Any:
        """Call a function on one node that has to succeed; return its answer. Raise NodeError with what it said."""
        answers = self.ask([target], function, *arguments, bound=ACT)
        if target not in answers:
            raise NodeError(f"{target} gave no answer to {function} within {ACT} s", f"rpiomega doctor {target}")
        answer = answers[target]
        if isinstance(answer, str) and (answer.startswith(("ERROR", "The minion function")) or "Traceback" in answer):
            raise NodeError(_last(answer), "correct that, then run the same command again")
        if isinstance(answer, str) and "is not available" in answer:
            raise NodeError(f"{target} does not know {function} yet", APPLY)
        return answer


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].removeprefix("ERROR: ").strip()


class Removal:
    """One run. `say` gets each line for the user."""

    def __init__(self, site: Site, site_file: Path, name: str, options: Options, master: Master, say: Callable):
        self.site, self.site_file, self.name, self.options = site, site_file, name, options
        self.master, self._say = master, say

    def say(self, text: str) -> None:
        """Say one line about the node."""
        self._say(f"{self.name}: {text}")

    def run(self) -> Known:
        """Do all steps; return what was known before. Raise NodeError at the first that cannot be done."""
        if not self.options.replace:
            self._refuse_site()
        known = self.look()
        if known.nothing:
            self.say("nobody knows it: nothing to do")
            return known
        self.check(known)
        if not self.options.replace:
            self._site_file()
        if self.options.dry_run:
            self._foretell(known)
            return known
        if known.answers and not self.options.replace:
            self._leave(known)
        if not self.options.replace:
            self._drop(known)
        for line in self.master.do(self.master.name, "rpiomega.forget", self.name) or [
            "Consul and secrets: nothing left"
        ]:
            self.say(str(line))
        self._key(known)
        return known

    # -- looking -------------------------------------------------------------------------------------------

    def look(self) -> Known:
        """Ask the managers, Consul and the master what they hold of the node. Changes nothing."""
        known = Known(bool(self.master.root("find", KEYS, "-path", f"{KEYS}/minions*/{self.name}").strip()))
        consul = self.master.do(self.master.name, "rpiomega.removal", self.name)
        known.consul = consul if isinstance(consul, dict) else {}
        if self.site.swarm.enabled:
            views = self.master.ask([node.name for node in self.site.managers], "swarm.removal", self.name)
            good = {name: view for name, view in views.items() if isinstance(view, dict)}
            if not good:
                said = "; ".join(_last(str(view)) for view in views.values()) or "none answers"
                raise NodeError(f"no manager can act: {said}", "rpiomega status says what is wrong with the swarm")
            known.manager = next(iter(good))
            known.swarm = good[known.manager]
        if known.key:
            known.answers = self.master.ask([self.name], "test.ping", bound=10).get(self.name) is True
        return known

    def check(self, known: Known) -> None:
        """Raise NodeError if the node must stay, or if the user has to say more."""
        alive = known.consul["consul"] == "alive"
        signs = ["its minion answers"] * known.answers + ["the swarm sees it as ready"] * bool(known.ready)
        signs += ["Consul sees it alive"] * alive
        if self.options.replace and signs:
            raise NodeError(f"it is not dead: {', '.join(signs)}", "switch the old board off, then run this again")
        needed = [entry["refused"] for entry in known.swarm.get("entries", []) if entry["refused"]]
        needed += [known.consul["refused"]] * bool(known.consul["refused"])
        if needed and not self.options.replace:
            raise NodeError(f"it has to stay: {needed[0]}", "rpiomega status shows both quorums")
        if known.consul["refused"]:
            raise NodeError(f"Consul needs it: {known.consul['refused']}", "rpiomega status shows both quorums")
        if self.options.replace or known.answers:
            return
        if signs:
            cure = "start salt-minion there, or switch the board off and give --force-dead"
            raise NodeError(f"its minion does not answer, but {' and '.join(signs)}", cure)
        left = known.swarm.get("published") in (None, "") and known.consul["consul"] in ("absent", "left")
        if not left and not self.options.force_dead:
            cure = "switch it on, so that it can leave in good order; if it is lost for ever, give --force-dead"
            raise NodeError("it does not answer", cure)

    def _foretell(self, known: Known) -> None:
        if known.answers:
            self.say("would leave the swarm (drained and demoted first, if it is a manager) and Consul")
            self.say("its boot would no longer wait for a synchronised clock")
        entries = [entry["id"] for entry in known.swarm.get("entries", []) if entry["recorded"]]
        if entries and not self.options.replace:
            self.say(f"its entry {', '.join(entries)} would be removed from the swarm")
        if known.consul["consul"] not in ("absent", "alive"):
            self.say(f"would be taken out of Consul, where it is {known.consul['consul']}")
        what = [word for word in ("token", "policy", "secrets") if known.consul[word]]
        if what:
            self.say(f"would lose its {', '.join(what)} on the master and in Consul")
        if known.key:
            self.say("its Salt key would be deleted")

    # -- steps ---------------------------------------------------------------------------------------------

    def _refuse_site(self) -> None:
        """Raise NodeError if this site file may not reach the master for another reason than this removal."""
        name = self.site.master.name
        found = gate.refusals(self.site, {name: gate.standing(self.master.remote)}, leaving=[self.name])
        for error, _ in found.values():
            raise error

    def _site_file(self) -> None:
        """Bring the master this site file: as long as its own names the node, the states would take it in again."""
        step = job_steps.SiteFile(self.site_file.read_text(encoding="utf-8"))
        done = agent.run(self.master.remote, [step], lambda event: None, self.options.dry_run)["site"]
        if done["diff"]:
            would = "would be brought" if self.options.dry_run else "brought"
            self.say(f"{self.site_file} {would} to the master")

    def _leave(self, known: Known) -> None:
        if self.site.swarm.enabled:
            arguments = ("state.single", "swarm.absent", f"name={self.site.cluster}")
            state = self.master.do(self.name, *arguments)
            result = next(iter(state.values())) if isinstance(state, dict) else {"result": False, "comment": str(state)}
            if not result.get("result"):
                raise NodeError(str(result.get("comment")), "correct that, then run the same command again")
            self._say(str(result["comment"]))
        said = self.master.do(self.name, "rpiomega.leave_consul")
        self.say(str(said) or "has no Consul agent any more")
        removed = self.master.do(self.name, "rpiomega.leave_clock")
        self.say(f"removed {', '.join(removed)}" if removed else "waits for no clock any more")
        if self.master.do(self.name, "rpiomega.leave_backup"):
            self.say("saves no more: its timers of backups are off, its key is removed; its repository stays")
        self.master.do(self.name, "service.disable", "salt-minion")
        self.master.root("salt", "--async", "-L", self.name, "service.stop", "salt-minion", "no_block=True")
        self.say("salt-minion switched off")

    def _drop(self, known: Known) -> None:
        if not known.manager:
            return
        dead = [] if known.answers else ["dead=True"]
        removed = self.master.do(known.manager, "swarm.drop", self.name, *dead)
        self.say(f"entry {', '.join(removed)} removed from the swarm" if removed else "the swarm has no entry of it")
        others = [entry["id"] for entry in known.swarm["entries"] if entry["id"] not in removed]
        if others:
            self.say(f"left alone in the swarm, because it never published them: {', '.join(others)}")

    def _key(self, known: Known) -> None:
        if known.key:
            self.master.root("salt-key", "--yes", "-d", self.name, timeout=120)
        if self.master.root("find", KEYS, "-path", f"{KEYS}/minions*/{self.name}").strip():
            raise NodeError("its Salt key is still there", f"on the master: sudo salt-key -d {self.name}")
        self.say("its Salt key is deleted" if known.key else "has no Salt key")

    def left_to_do(self, known: Known) -> list[str]:
        """Return what remains for the user, one line each."""
        if self.options.replace:
            file = self.site_file.parent / Path(self.site.users.known_hosts).expanduser()
            option, port = f" -f {shlex.quote(str(file))}" if self.site.users.known_hosts else "", self.site.users.port
            names = [at if port == 22 else f"'[{at}]:{port}'" for at in self.site.nodes[self.name].reach]
            return [
                *(f"ssh-keygen -R {name}{option}   # forget the dead board's host key" for name in names),
                f"rpiomega bootstrap {self.name} && rpiomega accept {self.name}",
                f"{APPLY}   # its labels come back, its old entry goes",
            ]
        lines = ["rpiomega bootstrap   # the others forget its name", APPLY]
        if known.answers:
            lines.append(
                "switch the board off and wipe its card: it holds the cluster's gossip key and its certificate"
            )
        return lines
