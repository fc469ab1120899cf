"""State repo on a master under systemd: the schedule, the master's restart, and what is not followed."""

import json

import pytest
import yaml

from rpiomega.lab import demo, remote

pytestmark = pytest.mark.long
SCHEDULED = 180  # a minute, up to half a minute's splay, and the run itself on a busy machine
PERSON = "/root/person"
PROBE = {"_modules/probe.py": "import omega_probe\n\ndef answer():\n    return omega_probe.ANSWER\n"}


class Master:
    """The lab's master, and a person who pushes to the repository it follows."""

    def __init__(self, lab):
        self.lab, self.name = lab, lab.node_names()[0]
        self.run(
            f"rm -rf {PERSON}; git clone -q /srv/rpiomega/formula.git {PERSON}; cd {PERSON}"
            " && git config user.name P && git config user.email p@example.com"
        )

    def run(self, script, check=True):
        return remote.run(self.lab, self.name, f"sudo sh -c {remote.quote(script)}", bound=300, check=check)

    def push(self, files, *options):
        """Commit files, push the commit, return it."""
        for name, text in files.items():
            self.run(f"printf %s {remote.quote(text)} > {PERSON}/{name}")
        script = f"cd {PERSON} && git add -A && git commit -q --allow-empty {' '.join(options)} -m change"
        return self.run(f"{script} && git push -q --force origin main && git rev-parse HEAD")

    def head(self):
        return self.run("git -C /srv/rpiomega/formula rev-parse HEAD")

    def pid(self):
        return self.run("systemctl show -P MainPID salt-master")

    def apply(self):
        """Apply state repo by the `salt` command; return its states' results."""
        text = self.run(f"salt --out=json --static {self.name} state.apply repo", check=False)
        answer = json.loads(text)[self.name]
        assert isinstance(answer, dict), answer
        return {state["__id__"]: state for state in answer.values()}

    def site(self, formula):
        """Bring a site file with this section `formula` to the master, as a person does."""
        site = yaml.safe_load(self.lab.site_file.read_text())
        site["rpiomega"]["formula"] = formula
        self.lab.site_file.write_text(yaml.safe_dump(site, sort_keys=False))
        self.run(f"printf %s {remote.quote(self.lab.site_file.read_text())} > /srv/rpiomega/pillar/site.sls")


@pytest.fixture(scope="module")
def master(finished):
    before = finished.site_file.read_text()
    master = Master(finished)
    yield master
    finished.site_file.write_text(before)
    master.site({})
    master.apply()
    demo.bootstrap(finished)
    assert master.run(f"git -C {PERSON} log -1 --format=%s") == "change"


def test_the_job_that_has_the_master_restarted_returns_first(master, wait):
    before = master.pid()
    commit = master.push({**PROBE, "_utils/omega_probe.py": "ANSWER = 1\n"})
    states = master.apply()
    assert states["repo.formula"]["changes"]["/srv/rpiomega/formula"]["new"] == commit
    assert "once no job runs" in states["repo.formula"]["comment"]
    assert "salt-master restarts" in states["repo.formula"]["comment"]
    assert states["repo.modules"]["result"] is True
    assert master.head() == commit
    wait("salt-master to be restarted", 120, lambda: master.pid() not in (before, "0"))
    demo.wait_connected(master.lab)
    others = master.lab.node_names()
    answers = json.loads(master.run(f"salt --out=json --static -L {','.join(others)} probe.answer"))
    assert answers == dict.fromkeys(others, 1), "minions that have applied nothing since"


def test_a_commit_is_followed_by_the_schedule_alone(master, wait):
    master.site({"every": 1})
    assert master.apply()["repo.schedule"]["result"] is True
    before = master.pid()
    commit = master.push({"_utils/omega_probe.py": "ANSWER = 2\n"})
    wait(f"the schedule to bring {commit[:12]}", SCHEDULED, lambda: master.head() == commit)
    wait("salt-master to be restarted", 120, lambda: master.pid() not in (before, "0"))
    demo.wait_connected(master.lab)
    assert json.loads(master.run(f"salt --out=json {master.name} probe.answer"))[master.name] == 2

    def returned():
        """Return what the master kept of the scheduled run: its return came through."""
        found = master.run(f"grep -rlasE 'switched to {commit[:12]}' /var/cache/salt/master/jobs", check=False)
        return found.splitlines()

    wait("the job's return in the master's job cache", 60, returned)
    master.site({})
    master.apply()
    assert "rpiomega-formula" not in master.run("cat /etc/salt/minion.d/_schedule.conf", check=False)


def test_what_is_broken_rewritten_or_unsigned_stays_out(master):
    used, pid = master.head(), master.pid()

    def refused(word):
        state = master.apply()["repo.formula"]
        assert (state["result"], state["changes"]) == (False, {}), state
        assert word in state["comment"], state["comment"]
        assert (master.head(), master.pid()) == (used, pid)

    master.push({"salt/packages/init.sls": "{% if %}\n"})
    refused("does not render")
    master.run(f"cd {PERSON} && git reset -q --hard HEAD~2")
    master.push({"salt/other.txt": "another past"})
    refused("was rewritten")
    master.run(f"cd {PERSON} && git reset -q --hard {used}")
    master.push({"salt/packages/README": "later\n"})
    key = master.run(
        "rm -f /root/k /root/k.pub; ssh-keygen -q -t ed25519 -N '' -f /root/k; cat /root/k.pub; rm /root/k*"
    )
    master.site({"signers": [f"p@example.com {key}"]})
    refused("no signature of an allowed signer")
    master.site({})
    assert master.apply()["repo.formula"]["result"] is True


def test_a_bootstrap_that_brings_another_formula_leaves_no_old_modules(master):
    nodes = ",".join(master.lab.node_names())
    demo.bootstrap(master.lab)
    answers = json.loads(master.run(f"salt --out=json --static -L {nodes} sys.list_functions probe"))
    assert answers == dict.fromkeys(master.lab.node_names(), [])
