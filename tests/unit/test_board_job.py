"""The board's part as a whole: its zip archive, run by a bare Python over a folder that looks like a board."""

import json
import subprocess
import sys
from pathlib import Path

import commands
import pytest

from rpiomega import agent
from rpiomega.node import job_steps
from rpiomega.node.board import Board
from rpiomega.node.steps import STEPS as STEPS_OF_THE_BOARD
from rpiomega.node.steps.sources import Sources

PI_CMDLINE = "console=tty1 root=PARTUUID=deadbeef-02 rootwait\n"
TREE = {
    "etc/hostname": "raspberrypi\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 raspberrypi\n",
    "etc/cloud/cloud.cfg": "preserve_hostname: false\n",
    "boot/firmware/cmdline.txt": PI_CMDLINE,
    "proc/cmdline": PI_CMDLINE,
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n",
    "etc/os-release": 'ID=debian\nVERSION_CODENAME=trixie\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
}
STEPS = [
    {"step": "hostname", "args": {"name": "pi1", "nodes": {"pi1": "10.0.0.1", "pi2": "10.0.0.2"}}},
    {"step": "cmdline", "args": {}},
    {"step": "sources", "args": {"apt_proxy": "http://user:hush@cache:3142", "pip_index": "http://cache:5000/simple/"}},
]


@pytest.fixture
def board(tmp_path):
    """Give the root of a board."""
    root = tmp_path / "board"
    for name, text in TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def run(tmp_path):
    """Give a function that runs a job; returns its events and exit code."""
    program = tmp_path / "node.pyz"
    program.write_bytes(agent.zipapp())

    def call(root, steps=STEPS, dry_run=False, python=sys.executable):
        job = {"root": str(root), "steps": steps, "dry_run": dry_run}
        # -I: nothing of this machine's packages, as on a board; the zip archive is the job's whole world.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen([python, "-I", "-S", program], text=True, **pipes) as process:
            # Input stays open to the end: its end means that the workstation is gone.
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            events = [json.loads(line) for line in process.stdout]
            assert process.stderr.read() == ""
        return events, process.returncode

    return call


def snapshot(root):
    """Return everything below a folder."""
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def outcomes(events):
    """Return step -> status."""
    return {event["step"]: event["status"] for event in events if event["event"] == "done"}


def test_dry_run_shows_true_diffs_and_touches_nothing(board, run):
    before = snapshot(board)
    events, code = run(board, dry_run=True)
    assert code == 0
    assert snapshot(board) == before
    assert set(outcomes(events).values()) == {"would change"}
    diff = next(event["diff"] for event in events if event.get("step") == "cmdline" and event["event"] == "done")
    assert diff[0] == "--- /boot/firmware/cmdline.txt"
    assert f"-{PI_CMDLINE.strip()}" in diff
    assert f"+{PI_CMDLINE.strip()} cgroup_enable=memory cgroup_memory=1" in diff


def test_a_run_does_what_the_dry_run_said_and_the_next_one_nothing(board, run):
    said, _ = run(board, dry_run=True)
    did, code = run(board)
    assert code == 0
    diffs = [[event["diff"] for event in events if event["event"] == "done"] for events in (said, did)]
    assert diffs[0] == diffs[1]
    assert (board / "etc/hostname").read_text() == "pi1\n"
    assert "127.0.1.1 pi1\n" in (board / "etc/hosts").read_text()
    assert "10.0.0.2\tpi2\n" in (board / "etc/hosts").read_text()
    assert "preserve_hostname: true" in (board / "etc/cloud/cloud.cfg.d/99-rpiomega-hostname.cfg").read_text()
    assert (board / "boot/firmware/cmdline.txt.before-rpiomega").read_text() == PI_CMDLINE
    before = snapshot(board)
    again, _ = run(board)
    assert set(outcomes(again).values()) == {"ok"}
    assert snapshot(board) == before
    assert not list(board.rglob("*.rpiomega"))


def test_the_reboot_the_flags_need_is_asked_for_until_they_are_effective(board, run):
    def reboot():
        events, _ = run(board)
        return next(event["data"] for event in events if event["event"] == "done" and event["step"] == "cmdline")

    assert "reboot" in reboot()
    assert "reboot" in reboot()  # written, yet the running kernel does not know
    (board / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n", encoding="utf-8")
    assert reboot() == {"memory_cgroup": True}


def test_a_container_is_not_asked_to_reboot(board, run):
    (board / "run/systemd").mkdir(parents=True)
    (board / "run/systemd/container").write_text("docker\n", encoding="utf-8")
    events, _ = run(board)
    done = next(event for event in events if event["event"] == "done" and event["step"] == "cmdline")
    assert "reboot" not in done["data"]
    assert "the host's kernel decides" in done["notes"][0]


def test_cloud_init_that_writes_hosts_itself_gets_our_text_to_write(board, run):
    (board / "boot/firmware/user-data").write_text("hostname: raspberrypi\nmanage_etc_hosts: true\n", encoding="utf-8")
    run(board)
    template = (board / "etc/cloud/templates/hosts.debian.tmpl").read_text()
    assert template == "## template:jinja\n" + (board / "etc/hosts").read_text()


def test_a_source_taken_out_of_the_site_file_goes_from_the_board(board, run):
    run(board)
    proxy, pip = board / "etc/apt/apt.conf.d/80rpiomega-proxy", board / "etc/xdg/pip/pip.conf"
    assert "trusted-host = cache" in pip.read_text()
    assert proxy.exists()
    run(board, [{"step": "sources", "args": {"apt_proxy": "", "pip_index": ""}}])
    assert not proxy.exists()
    assert not pip.exists()


def test_authorities_that_an_interrupted_run_left_out_of_the_bundle_are_seen(board):
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    step = Sources(Board(str(board)), {"ca": f"the site's\n{pem}\n"})
    step.apply()
    bundle = board / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert step.check().lines == ["build the bundle of certificate authorities"]
    bundle.write_text(bundle.read_text() + pem + "\n")
    assert step.check().lines == []


def test_somebody_elses_pip_configuration_stays(board, run):
    path = board / "etc/xdg/pip/pip.conf"
    path.parent.mkdir(parents=True)
    path.write_text("[global]\nno-color = 1\n", encoding="utf-8")
    events, _ = run(board, [{"step": "sources", "args": {"apt_proxy": "", "pip_index": ""}}])
    assert outcomes(events) == {"sources": "ok"}


def test_credentials_in_a_sources_address_reach_no_event(board, run):
    events, _ = run(board, dry_run=True)
    assert "hush" not in json.dumps(events)
    assert "http://***@cache:3142" in json.dumps(events)


def test_a_file_that_cannot_be_written_ends_the_step_with_a_cure(board, run):
    blocked = board / "etc/apt"
    blocked.write_text("a file where a folder should be", encoding="utf-8")
    events, code = run(board)
    assert code == 1
    failed = events[-1]
    assert (failed["event"], failed["step"]) == ("failed", "sources")
    assert "80rpiomega-proxy cannot be written" in failed["cause"]
    assert failed["cure"]


def test_armbian_without_memory_cgroup_gets_its_own_file_edited(board, run):
    (board / "boot/firmware/cmdline.txt").unlink()
    (board / "boot/armbianEnv.txt").write_text("verbosity=1\n", encoding="utf-8")
    run(board)
    assert "extraargs=cgroup_enable=memory cgroup_memory=1" in (board / "boot/armbianEnv.txt").read_text()


def test_an_unknown_board_is_told_what_to_do_by_hand(board, run):
    (board / "boot/firmware/cmdline.txt").unlink()
    events, code = run(board, [STEPS[1]])
    assert code == 0
    note = next(event["notes"][0] for event in events if event["event"] == "done")
    assert "Raspberry Pi 4 Model B Rev 1.5 has no known boot file: add cgroup_enable=memory cgroup_memory=1" in note


def test_the_same_sources_give_the_same_archive_and_no_cache_files():
    agent.zipapp.cache_clear()
    first = agent.zipapp()
    agent.zipapp.cache_clear()
    assert agent.zipapp() == first
    assert b"__pycache__" not in first


def test_an_old_python_gets_a_sentence():
    text = (Path(agent.__file__).parent / "node/__main__.py").read_text()
    program = f"import sys; sys.version_info = (3, 7, 3); exec({text!r})"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.returncode == 1
    assert json.loads(process.stdout)["cause"] == "Python 3.7 is too old, 3.9 is needed"


def test_a_workstation_that_is_gone_ends_the_job_between_two_steps(board, tmp_path):
    program = tmp_path / "node.pyz"
    program.write_bytes(agent.zipapp())
    job = {"root": str(board), "steps": STEPS * 500, "dry_run": True}
    command = [sys.executable, "-I", "-S", program]
    options = {"capture_output": True, "text": True, "timeout": commands.BOUND}
    process = subprocess.run(command, input=json.dumps(job) + "\n", **options)
    assert process.returncode == 1
    assert json.loads(process.stdout.splitlines()[-1])["event"] == "cancelled"


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"step": "polish"}, "there is no step polish"),
        ({"step": "hostname", "args": {}}, "step hostname: missing: name"),
        ({"step": "swap", "args": {"swpa": "off"}}, "step swap: unknown: swpa"),
        ({"step": "hostname", "args": {"name": "pi1", "nodes": {"pi2": 2}}}, "step hostname, nodes.pi2: int where str"),
        ({"step": "keys", "args": {"fingers": {}, "bound": "60"}}, "step keys, bound: str where float"),
        (
            {"step": "network", "args": {"address": "10.0.0.1", "prefix": 24, "wifi": {"ssid": "a"}}},
            "wifi: missing: psk",
        ),
    ],
)
def test_a_job_that_is_not_one_is_refused_before_its_first_step(board, run, item, said):
    before = snapshot(board)
    events, code = run(board, [*STEPS, item])
    assert (code, snapshot(board)) == (1, before)
    assert [event["event"] for event in events] == ["facts", "failed"]
    assert said in events[-1]["cause"]


def test_what_the_workstation_sends_is_what_the_board_reads():
    repository = job_steps.Repository("http://salt", "http://salt/key", "AB")
    wifi = job_steps.Wifi("home", "ab" * 32, "GB")
    steps = [
        job_steps.Clock(1),
        job_steps.Network("10.0.0.1", 24, dns=["10.0.0.2"], wifi=wifi, others={"pi2": "10.0.0.2"}),
        job_steps.Inventory(job_steps.SaltWanted("3008", "auto", repository), [job_steps.ServedFile("a", "b", 1)]),
        job_steps.Connect([job_steps.Target("pi2", "10.0.0.2", "tcp", 22, True)]),
    ]
    assert [job_steps.read(json.loads(json.dumps(step.item()))) for step in steps] == steps
    assert set(job_steps.KINDS) == set(STEPS_OF_THE_BOARD)
