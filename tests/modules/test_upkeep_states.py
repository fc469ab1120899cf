"""What the states of packages, clock, journal, swap, updates and the master's caches become under the site's options.

Salt's own renderer and compiler, with the pillar as the master gives it. Only single files are written, to folders
of the tests' own.
"""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import salt.config
import salt.loader

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODES = {
    "pi1": {"address": "10.0.0.1", "roles": ["master", "manager"]},
    "pi2": {"address": "10.0.0.2", "roles": ["manager"], "packages": ["htop"]},
    "pi3": {"address": "10.0.0.3"},
}


@pytest.fixture
def minion(tmp_path):
    """Salt's execution modules on a node: `minion("pi2", time={…})`."""

    def minion(minion_id="pi1", grains=(), **site):
        opts = salt.config.minion_config(None)
        opts.update(
            id=minion_id,
            file_client="local",
            root_dir=str(tmp_path),
            cachedir=str(tmp_path / "cache"),
            extension_modules=str(tmp_path / "extmods"),
            module_dirs=[str(ROOT)],
            file_roots={"base": [str(ROOT / "salt")]},
            pillar={"rpiomega": {"cluster": "omega", "nodes": NODES, **site}},
        )
        opts["grains"] = {**salt.loader.grains(opts), "id": minion_id, "virtual": "physical", **dict(grains)}
        return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))

    return minion


@pytest.fixture
def render(minion):
    """Compile one SLS for a node: `render("time", "pi2", time={…})` gives `{ID: {option: value}}`."""

    def render(sls, minion_id="pi1", grains=(), **site):
        low = minion(minion_id, grains, **site)["state.show_low_sls"](sls)
        assert all(isinstance(chunk, dict) for chunk in low), low
        return {chunk["__id__"]: chunk for chunk in low}

    return render


def test_packages_come_from_formula_site_role_and_node(render):
    site = {"packages": {"extra": ["tmux"], "roles": {"manager": ["jq"], "worker": ["iotop"]}}}
    wanted = {name: set(render("packages", name, **site)["packages.development"]["pkgs"]) for name in NODES}
    own = {"tmux", "jq", "iotop", "htop"}
    assert {name: found & own for name, found in wanted.items()} == {
        "pi1": {"tmux", "jq"},
        "pi2": {"tmux", "jq", "htop"},
        "pi3": {"tmux", "iotop"},
    }
    assert all("git" in found for found in wanted.values())


def test_each_node_has_times_of_its_own_and_reboots_apart_from_the_others(render):
    updates, reboots = [], []
    for name in NODES:
        found = render("upgrades", name, upgrades={"security": True, "reboot": True, "start": "23:30", "gap": 20})
        updates.append(re.search(r"^OnCalendar=\*-\*-\* (\S+)$", found["upgrades.time"]["contents"], re.MULTILINE)[1])
        reboots.append(found["upgrades.reboot.timer"]["context"]["at"])
    assert updates == ["23:30", "23:50", "00:10"]
    assert reboots == ["23:40", "00:00", "00:20"]


def test_updates_keep_edited_configuration_files_and_apt_by_hand_goes_on_asking(render, tmp_path):
    found = render("upgrades", "pi1", upgrades={"security": True})
    path = found["upgrades.conffiles"]["name"]
    assert f"Environment=APT_CONFIG={path}\n" in found["upgrades.conffiles.unit"]["contents"]
    (tmp_path / "apt.conf").write_text(found["upgrades.conffiles"]["contents"])
    settings = {"APT_CONFIG": str(tmp_path / "apt.conf"), "PATH": os.environ["PATH"]}
    shown = subprocess.run(["apt-config", "dump"], env=settings, capture_output=True, text=True, check=True).stdout
    # What unattended-upgrades looks for before it passes over a package whose file was edited.
    assert 'DPkg::Options:: "--force-confold";' in shown
    gone = render("upgrades", "pi1", upgrades={"security": False})["upgrades.conffiles"]
    assert gone["fun"] == "absent"
    assert gone["name"] in (found["upgrades.conffiles.unit"]["name"], path)


def test_no_cache_is_used_that_is_not_asked_for(render):
    found = render("packages")
    assert found["packages.proxy"]["fun"] == "absent"
    assert "packages.cache" not in found


def test_the_cache_is_the_masters_and_asks_the_sites_proxy(render):
    site = {"cache": {"packages": True}, "sources": {"apt_proxy": "http://10.0.0.9:3142"}}
    assert "Proxy: http://10.0.0.9:3142" in render("packages", **site)["packages.cache.config"]["contents"]
    worker = render("packages", "pi3", **site)
    assert "packages.cache" not in worker
    assert worker["packages.proxy.probe"]["context"] == {"address": "10.0.0.1", "port": 3142}


def test_the_registry_on_the_master_comes_before_other_mirrors(render):
    found = render("docker", "pi3", docker={"mirrors": ["http://mirror.example"]}, cache={"images": True})
    assert "['http://10.0.0.1:5000', 'http://mirror.example']" in str(found)


def test_the_registry_runs_from_a_package_or_from_an_image(render):
    package = render("registry", cache={"images": True})
    assert package["registry.service"]["name"] == "docker-registry"
    image = render("registry", cache={"images": True, "image": "registry:3"})
    assert image["registry.container"]["name"] == "rpiomega-registry"
    assert "registry.service" not in image
    assert image["registry.config"]["dataset"] == package["registry.config"]["dataset"]
    assert not any(name.startswith("registry") for name in render("registry"))


def test_the_journal_goes_where_the_site_says(render):
    assert render("journal")["journal.config"]["fun"] == "absent"
    lines = render("journal", journal={"storage": "volatile", "max_use": "32M"})["journal.config"]["contents"].split()
    assert {"Storage=volatile", "RuntimeMaxUse=32M", "SystemMaxUse=32M"} <= set(lines)
    assert "Storage" not in render("journal", journal={"max_use": "32M"})["journal.config"]["contents"]


@pytest.mark.parametrize("virtual", ["physical", "container"])
def test_a_container_leaves_clock_and_swap_to_its_host(render, virtual):
    grains = {"virtual": virtual}.items()
    clock = render("time", grains=grains, time={"servers": ["10.0.0.8"]})["time.service"]
    assert clock["fun"] == ("enabled" if virtual == "container" else "running")
    assert ("swap.service" in render("swap", grains=grains, system={"swap": "zram"})) is (virtual == "physical")


@pytest.mark.parametrize("program", ["chronyd", "ntpd"])
def test_the_clients_there_are_told_of_the_sites_servers_or_named(render, monkeypatch, program):
    real = os.path.isfile
    there = f"/usr/sbin/{program}"
    monkeypatch.setattr(os.path, "isfile", lambda path: path == there or ("/usr/sbin/" not in str(path) and real(path)))
    servers = render("time", time={"servers": ["10.0.0.8"]})["time.servers"]
    if program == "chronyd":
        assert servers["contents"].splitlines()[-1] == "server 10.0.0.8 iburst"
    else:
        assert servers["fun"] == "fail_without_changes"
        assert servers["name"].startswith("pi1 keeps its clock with ntpd")


@pytest.fixture
def zram(tmp_path):
    """A node's zram-generator.conf, as the site's setting and as a path."""
    path = tmp_path / "zram-generator.conf"
    return {"config": str(path)}, path


@pytest.mark.parametrize("wanted", ["off", "keep"])
def test_compressed_memory_that_is_taken_away_stops_and_does_not_come_back(render, zram, wanted):
    swap, path = zram
    path.write_text(render("swap", swap=swap, system={"swap": "zram"})["swap.config"]["contents"])
    found = render("swap", swap=swap, system={"swap": wanted})
    assert (found["swap.service"]["fun"], found["swap.service"]["name"]) == ("dead", "systemd-zram-setup@zram0")
    assert (found["swap.config"]["fun"], found["swap.config"]["name"]) == ("absent", str(path))
    assert found["swap.service"]["order"] < found["swap.config"]["order"]
    assert "swap.service" not in render(
        "swap", swap=swap, system={"swap": wanted}, grains={"virtual": "container"}.items()
    )


def test_swap_of_somebody_else_is_left_alone(render, zram):
    swap, path = zram
    assert render("swap", swap=swap) == render("swap", swap=swap, system={"swap": "off"}) == {}
    path.write_text("[zram0]\nzram-size = ram\n")
    assert render("swap", swap=swap, system={"swap": "off"}) == {}


@pytest.mark.parametrize(
    ("at", "now", "due"),
    [
        ("02:15", "02:15", True),
        ("02:15", "02:19", True),
        ("02:15", "02:20", False),
        ("02:15", "02:14", False),
        ("08:09", "09:08", False),
        ("23:58", "00:01", True),
        ("00:01", "23:58", False),
    ],
)
def test_a_reboot_is_due_at_the_nodes_own_time_only(tmp_path, at, now, due):
    (tmp_path / "date").write_text(f"#!/bin/sh\necho {now}\n")
    (tmp_path / "date").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DOCKER_HOST": f"unix://{tmp_path}/none"}
    command = ["sh", ROOT / "salt/upgrades/files/can-reboot", at]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    next_question = "no reboot: the state of this node in the swarm is unknown"
    assert (next_question if due else f"no reboot: it is {now}, this node reboots at {at}\n") in done.stderr


class Updates:
    """What the file of state `upgrades` makes of a node's apt: `present`: whether it has unattended-upgrades."""

    def __init__(self, minion, path, monkeypatch):
        self.minion, self.path, self.present = minion, path, False
        real = os.path.isfile
        own = "/usr/bin/unattended-upgrade"
        monkeypatch.setattr(os.path, "isfile", lambda path: self.present if path == own else real(path))

    def applied(self, **upgrades):
        """Write the file as the state does; return what apt-config reads in it, besides the distribution's own."""
        modules = self.minion(upgrades={"config": str(self.path), **upgrades})
        (result,) = modules["state.sls_id"]("upgrades.config", "upgrades").values()
        assert result["result"], result
        system = self.path.with_name("system")
        system.write_text('APT::Periodic::Unattended-Upgrade "1";\n' if self.present else "")
        joined = self.path.with_name("joined")
        joined.write_text(system.read_text() + self.path.read_text())
        empty = self.path.with_name("none")
        empty.mkdir(exist_ok=True)
        settings = {"APT_CONFIG": str(joined), "PATH": os.environ["PATH"]}
        command = ["apt-config", "-o", f"Dir::Etc::parts={empty}", "dump"]
        shown = subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout
        return {line.split()[0]: line.split('"')[1] for line in shown.splitlines() if "::: " not in line}, shown


@pytest.fixture
def updates(minion, tmp_path, monkeypatch):
    return Updates(minion, tmp_path / "60rpiomega-upgrades", monkeypatch)


PERIODIC = "APT::Periodic::Unattended-Upgrade"


@pytest.mark.parametrize("present", [False, True], ids=["it came with the option", "the system has its own"])
def test_updates_that_are_taken_away_end_as_they_began(updates, present):
    updates.present = present
    before, _ = updates.applied()
    assert before.get(PERIODIC) == ("1" if present else None)
    during, _ = updates.applied(security=True)
    assert during[PERIODIC] == "1"
    updates.present = True
    during, _ = updates.applied(security=True, hold=["linux-*"])
    after = [updates.applied()[0] for _ in range(2)]
    assert [found[PERIODIC] for found in after] == ["1" if present else "0"] * 2


@pytest.mark.parametrize("upgrades", [{}, {"security": True}], ids=str)
def test_docker_and_salt_are_held_out_whoever_upgrades(updates, upgrades):
    updates.present = True
    _, shown = updates.applied(**upgrades)
    held = re.findall(r'^Unattended-Upgrade::Package-Blacklist:: "(.*)";$', shown, re.MULTILINE)
    for name in ("docker.io", "docker-ce", "containerd.io", "runc", "salt-minion"):
        assert any(re.match(pattern, name) for pattern in held), (name, held)


@pytest.fixture
def can_reboot(tmp_path):
    """Call can-reboot with this program as the docker command; None: there is none."""

    def call(program, bound=20, lock="/none"):
        probe = tmp_path / "can-reboot"
        text = (ROOT / "salt/upgrades/files/can-reboot").read_text()
        assert "\nbound=60 " in text
        assert "\nbackup=/run/rpiomega/backup/lock\n" in text
        text = text.replace("\nbackup=/run/rpiomega/backup/lock\n", f"\nbackup={lock}\n")
        probe.write_text(text.replace("\nbound=60 ", f"\nbound={bound} "))
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name in ("sh", "grep", "timeout", "cat", "sleep", "stat"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(shutil.which(name))
        (folder / "docker").unlink(missing_ok=True)
        if program is not None:
            (folder / "docker").write_text(f"#!/bin/sh\n{program}\n")
            (folder / "docker").chmod(0o755)
        environment = {"PATH": str(folder)}
        return subprocess.run(["sh", probe], env=environment, capture_output=True, text=True, check=False, timeout=60)

    return call


def test_no_node_reboots_while_its_backup_runs(can_reboot, short_folder):
    lock = short_folder / "lock"
    with lock.open("w") as handle:
        assert can_reboot("echo active false", lock=lock).returncode == 0
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = can_reboot("echo active false", lock=lock)
        assert (done.returncode, done.stdout) == (1, "")
        assert "no reboot: a backup, a drill or a restore of this node runs" in done.stderr
    assert can_reboot("echo active false", lock=lock).returncode == 0


# What `docker info --format` prints, and its exit code, where the engine answers and where it does not.
@pytest.mark.parametrize(
    ("prints", "code", "said"),
    [
        ("active false", 0, ""),
        ("inactive false", 0, ""),
        ("locked false", 0, "is locked false"),
        ("pending true", 0, "is pending true"),
        ("error false", 0, "is error false"),
        ("", 1, "is unknown"),
        ("", 0, "is unknown"),
        (" false", 0, "is unknown"),
        (" false", 1, "is unknown"),
        ("<no value> <no value>", 0, "is unknown"),
        ("active true", 1, "is unknown"),
    ],
)
def test_a_node_reboots_only_by_a_known_state_of_the_swarm(can_reboot, prints, code, said):
    done = can_reboot(f"echo '{prints}'; exit {code}")
    assert (done.returncode, said in done.stderr, bool(done.stderr)) == (int(bool(said)), True, bool(said))


MANAGER = 'if [ "$1" = info ]; then echo active true; exit; fi; '


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ("echo 'a Ready Leader'; echo 'b Ready Reachable'", ""),
        (
            "echo 'a Ready Leader'; echo 'b Down Unreachable'; echo 'c Ready Unreachable'",
            "missing: b Down Unreachable c",
        ),
        ("exit 1", "no leader"),
        ("true", "missing"),
    ],
)
def test_a_manager_reboots_only_beside_all_others(can_reboot, lists, said):
    done = can_reboot(MANAGER + lists)
    assert (done.returncode, said in done.stderr) == (int(bool(said)), True)
    assert done.stderr.count("\n") == int(bool(said))


@pytest.mark.parametrize("program", [None, "exec sleep 600", f"{MANAGER}exec sleep 600"])
def test_a_docker_command_that_is_missing_or_hangs_ends_the_question(can_reboot, program):
    done = can_reboot(program, bound=1)
    assert done.returncode == 1
    assert "no reboot: " in done.stderr
