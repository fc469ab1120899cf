"""Edits of files a board boots with: one line stays one line, nothing is lost, a second edit changes nothing."""

import subprocess

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as some

from rpiomega.node import kernel_line
from rpiomega.node.boot_files import edit_armbian, edit_cmdline
from rpiomega.node.kernel_line import FLAGS
from rpiomega.node.steps.hostname import BEGIN, END, edit_hosts

WORDS = some.text(some.characters(codec="ascii", min_codepoint=33, exclude_characters='"'), min_size=1, max_size=12)
QUOTED = some.builds('{}="{}"'.format, WORDS.filter(lambda w: w != "--"), some.sampled_from(["a b", "x", " "]))
LINES = some.lists(WORDS | QUOTED, max_size=12)


OTHERS = some.lists(some.text(some.characters(codec="utf-8"), max_size=30), max_size=3)


ENDS = some.sampled_from(["", "\n", "\r\n", "\0\n"])


@given(words=LINES, gap=some.sampled_from([" ", "  ", "\t"]), end=ENDS, others=OTHERS)
@example(words=["root=/dev/mmcblk0p2", "rootwait"], gap=" ", end="\n", others=["#console=tty1 root=/dev/old"])
def test_cmdline_gets_both_flags_in_its_first_line_and_keeps_all_else(words, gap, end, others):
    assume(words and (end or not others))
    rest = "\n".join(others)
    text = edit_cmdline(gap.join(words) + end + rest)
    _, line, after = kernel_line.split(text)
    assert after == (end + rest or "\n")
    kept = [word for word in words if not word.startswith("cgroup_disable=")]
    assert line.startswith(gap.join(kept[: kept.index("--") if "--" in kept else None]))
    found = kernel_line.words(line)
    assert [word for word in found if word not in FLAGS] == [word for word in kept if word not in FLAGS]
    assert all(kernel_line.holds(found, flag) for flag in FLAGS)
    assert edit_cmdline(text) == text


def test_cmdline_flags_are_added_once_and_understood_in_lists():
    assert edit_cmdline("root=a") == f"root=a {' '.join(FLAGS)}\n"
    assert edit_cmdline("cgroup_enable=cpuset,memory cgroup_memory=1").count("cgroup_enable") == 1
    assert edit_cmdline("cgroup_memory=0 cgroup_memory=1 cgroup_enable=memory").count("cgroup_memory=1") == 1
    # The last one counts for the kernel.
    assert edit_cmdline("cgroup_memory=1 cgroup_memory=0").split()[-2:] == ["cgroup_enable=memory", "cgroup_memory=1"]


def test_cmdline_keeps_inits_arguments_behind_the_dashes():
    assert edit_cmdline("quiet -- single").endswith("-- single\n")
    assert edit_cmdline("quiet -- single").startswith("quiet cgroup_enable=memory")


def test_cmdline_no_longer_switches_the_memory_cgroup_off():
    assert "cgroup_disable" not in edit_cmdline("a cgroup_disable=memory b")
    # A list keeps what else it switches off; the kernel takes a dash for an underscore, and quotes around a value.
    assert "cgroup_disable=cpu " in edit_cmdline("a cgroup_disable=cpu,memory b")
    assert "disable" not in edit_cmdline('a cgroup-disable="memory" b')


def test_cmdline_flags_do_not_become_part_of_an_unfinished_quote():
    assert edit_cmdline('root=a note="b c') == f'root=a {" ".join(FLAGS)} note="b c\n'


def test_armbian_adds_to_extraargs_and_leaves_the_rest():
    old = "verbosity=1\nextraargs=net.ifnames=0\nrootdev=UUID=1\n"
    new = edit_armbian(old)
    assert new.splitlines() == ["verbosity=1", f"extraargs=net.ifnames=0 {' '.join(FLAGS)}", "rootdev=UUID=1"]
    assert edit_armbian(new) == new
    assert edit_armbian("verbosity=1\n") == f"verbosity=1\nextraargs={' '.join(FLAGS)}\n"


HOSTS = some.lists(
    some.sampled_from(
        [
            "127.0.0.1 localhost",
            "127.0.1.1 raspberrypi",
            "127.0.1.1\traspberrypi.lan raspberrypi # mine",
            "::1 localhost ip6-localhost",
            "# a remark",
            "",
            "10.0.0.9 nas files",
            BEGIN,
            END,
        ]
    ),
    max_size=10,
)
OTHERS = some.dictionaries(some.sampled_from(["pi2", "pi3"]), some.just("192.168.1.12"))


@given(lines=HOSTS, others=OTHERS)
def test_hosts_name_the_node_once_keep_all_else_and_settle(lines, others):
    text = edit_hosts("\n".join(lines) + "\n", "pi1", "raspberrypi", others)
    entries = [line.partition("#")[0].split() for line in text.splitlines()]
    assert sum(words[:1] == ["127.0.1.1"] and "pi1" in words for words in entries) == 1
    assert not any("raspberrypi" in words for words in entries)
    for line in ("10.0.0.9 nas files", "# a remark", "::1 localhost ip6-localhost"):
        assert text.splitlines().count(line) == lines.count(line)
    assert all([address, name] in entries for name, address in others.items())
    assert edit_hosts(text, "pi1", "pi1", others) == text


def test_hosts_keep_other_aliases_and_remarks_of_the_nodes_own_line():
    text = edit_hosts("127.0.1.1 raspberrypi pihole # mine\n", "pi1", "raspberrypi", {})
    assert text == "127.0.1.1 pi1 pihole # mine\n"


HOSTS_EDITS = {
    "the full name stays the first": ("127.0.1.1 box.lan box\n", "127.0.1.1 box.lan box\n"),
    "tabs and remarks stay": ("127.0.1.1\t\tbox.lan\tbox # mine\n", "127.0.1.1\t\tbox.lan\tbox # mine\n"),
    "the short name first stays so": ("127.0.1.1 box box.lan\n", "127.0.1.1 box box.lan\n"),
    "the old name's domain stays": ("127.0.1.1 old.lan old nas\n", "127.0.1.1 box.lan box nas\n"),
    "a full name alone gets its short one": ("127.0.1.1 old.lan\n", "127.0.1.1 box.lan box\n"),
    "capitals are the same name": ("127.0.1.1 Box.lan Box\n", "127.0.1.1 Box.lan Box\n"),
    "names of others stay on their line": ("127.0.1.1 nas.lan nas\n", "127.0.1.1\tbox\n127.0.1.1 nas.lan nas\n"),
    "the second line loses the short name only": (
        "127.0.1.1 box\n127.0.1.1 box.lan box\n",
        "127.0.1.1 box\n127.0.1.1 box.lan\n",
    ),
    "the domain is that of another loopback line": (
        "127.0.0.1 old.lan old localhost\n",
        "127.0.0.1 box.lan box localhost\n127.0.1.1\tbox.lan box\n",
    ),
    "IPv6 as well": (
        "127.0.1.1 old\n::1 old.lan old ip6-localhost\n",
        "127.0.1.1 box\n::1 box.lan box ip6-localhost\n",
    ),
    "a name that only begins like the old one": ("127.0.1.1 old older old-nas\n", "127.0.1.1 box older old-nas\n"),
    "no name is made of a remark": ("127.0.1.1 old #old\n", "127.0.1.1 box #old\n"),
}


@pytest.mark.parametrize(("old", "new"), HOSTS_EDITS.values(), ids=HOSTS_EDITS)
def test_hosts_keep_canonical_names_order_and_domains(old, new):
    assert edit_hosts(old, "box", "old", {}) == new
    assert edit_hosts(new, "box", "box", {}) == new


def test_the_domain_of_a_full_host_name_is_kept():
    assert edit_hosts("127.0.0.1 localhost\n", "box", "old.lan", {}) == "127.0.0.1 localhost\n127.0.1.1\tbox.lan box\n"
    assert edit_hosts("127.0.0.1 localhost\n", "box", "localhost", {}) == "127.0.0.1 localhost\n127.0.1.1\tbox\n"


@pytest.mark.parametrize(
    "line", ["127.0.1.1 box.lan box", "127.0.1.1 old.lan old", "127.0.1.1 old.lan", "::1 old.lan old"]
)
def test_the_system_finds_the_full_name(tmp_path, line):
    hosts, switch = tmp_path / "hosts", tmp_path / "nsswitch.conf"
    hosts.write_text(edit_hosts(f"127.0.0.1 localhost\n{line}\n", "box", "old", {}))
    switch.write_text("hosts: files\n")
    script = (
        f"mount --bind {hosts} /etc/hosts && mount --bind {switch} /etc/nsswitch.conf && hostname box && hostname -f"
    )
    done = subprocess.run(["unshare", "-mu", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("box.lan\n", "")


def test_a_line_of_the_owner_with_an_old_address_of_a_node_comes_after_the_nodes():
    old = "127.0.0.1\tlocalhost\n127.0.1.1\tpi-1\n192.168.1.99 NAS pi-2 # by hand\n10.0.0.1 router\n"
    new = edit_hosts(old, "pi-1", "pi-1", {"pi-2": "192.168.1.11", "pi-3": "192.168.1.12"})
    lines = new.splitlines()
    assert lines.index("192.168.1.11\tpi-2") < lines.index("192.168.1.99 NAS pi-2 # by hand")
    assert [line for line in old.splitlines() if line not in lines] == []
    assert edit_hosts(new, "pi-1", "pi-1", {"pi-2": "192.168.1.11", "pi-3": "192.168.1.12"}) == new


@pytest.mark.parametrize("line", ["192.168.1.11 pi-2.lan pi-2", "fd00::11 pi-2", "# 192.168.1.99 pi-2", ""])
def test_a_line_that_agrees_leaves_the_nodes_at_the_end(line):
    new = edit_hosts(f"127.0.0.1 localhost\n127.0.1.1 pi-1\n{line}\n", "pi-1", "pi-1", {"pi-2": "192.168.1.11"})
    assert new.endswith(f"{END}\n")
