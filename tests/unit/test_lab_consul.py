"""The lab's Consul when several tests ask for it at once."""

import os
import subprocess
import sys

GO = """#!/bin/sh
while [ "$1" != -o ]; do [ "$1" != get ] || exit 0; shift; done
ls go.mod > /dev/null && echo built >> "$LOG" && cp /bin/true "$2"
"""


def test_who_needs_a_build_at_the_same_time_gets_the_same_one(tmp_path):
    """With a stand-in for the Go toolchain, which takes minutes."""
    (tmp_path / "go").write_text(GO)
    (tmp_path / "go").chmod(0o755)
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RPIOMEGA_CACHE": str(tmp_path / "cache")}
    environment = {**os.environ, **own, "RPIOMEGA_CONSUL_FROM_SOURCE": "1", "LOG": str(tmp_path / "log")}
    command = [sys.executable, "-m", "rpiomega.lab.consul", "binary"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, env=environment, **pipes) for _ in range(3)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert {out for out, _ in said} == {said[0][0]}
    assert (tmp_path / "log").read_text() == "built\n"


def ask(tmp_path, program):
    """What the lab says of a program that is given."""
    environment = {**os.environ, "RPIOMEGA_CACHE": str(tmp_path / "cache"), "RPIOMEGA_CONSUL": str(program)}
    code = "from rpiomega.lab.consul import binary; found = binary.ensure(); print(found.path, found.version)"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_program_that_is_given_is_taken_with_the_release_that_it_says(tmp_path):
    program = tmp_path / "consul"
    program.write_text("#!/bin/sh\necho 'Consul v1.22.7+ent'\n")
    program.chmod(0o755)
    assert ask(tmp_path, program).stdout == f"{program} 1.22.7\n"


def test_a_given_program_that_is_not_consul_is_named(tmp_path):
    for program, said in (("/bin/true", "RPIOMEGA_CONSUL=/bin/true is not Consul"), ("/none", "/none does not run")):
        done = ask(tmp_path, program)
        assert said in done.stderr, done
