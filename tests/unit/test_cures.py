"""Every command that the product prints, or its documentation shows, exists and takes the options it is given.

Texts are read from the sources: a command begins with its program's name, in backticks or not. What follows it in a
sentence is not looked at. That a command is right in its situation is tested where the situation is real.
"""

import ast
import functools
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from rpiomega.cli import main
from rpiomega.commands.lab import lab

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bootstrap/rpiomega", "_utils", "_states", "_modules", "_pillar")
GRAINS = {"kernel": "Linux", "os": "Debian", "os_family": "Debian", "osmajorrelease": 13, "osrelease": "13"}
# In a text: what a value stands for.
VALUE = "VALUE"
SWARM = ("swarm", "node", "service", "stack", "secret", "config")
END = r"(?=[`;\n]| && |   |$)"


def texts():
    """Give (file, text) of every string in the sources that is no docstring, and of every line of documentation."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skip = set()
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                skip.add(node.body[0].value)
            if isinstance(node, ast.JoinedStr):
                skip.update(node.values)
        for node in ast.walk(tree):
            if node in skip:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path.relative_to(ROOT), node.value
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else VALUE for part in node.values]
                yield path.relative_to(ROOT), "".join(parts)
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


@functools.cache
def commands(program):
    """Give (file, words) of every command of a program in the texts."""
    found = []
    for path, text in texts():
        for match in re.finditer(rf"(?<![\w/.$-]){program} ([a-zA-Z'\"*-][^`;\n]*?){END}", text):
            found.append((str(path), match[1].split()))
    return found


def fails(problems):
    assert not problems, "\n".join(sorted({f"{where}: {what}" for where, what in problems}))


def options(words):
    """Give the long options before anything that ends a command in a sentence."""
    kept = []
    for word in words:
        if word.startswith(("(", "#", "|", ">")):
            break
        kept.append(word)
        if word.endswith((",", ":", ")", ".")) and not word.startswith("-"):
            break
    return [word.rstrip(",.):").partition("=")[0] for word in kept if re.match(r"--[a-z]", word)]


def test_rpiomegas_own_commands():
    known = {**main.commands, "lab": lab}
    problems, seen = [], 0
    for path, words in commands("rpiomega"):
        name = words[0].rstrip(",.:")
        if name not in known:
            # The project's name in a sentence.
            if re.fullmatch(r"[a-z]+", name) and (len(words) > 1 and words[1].startswith("--")):
                problems.append((path, f"rpiomega has no command {name}"))
            continue
        command, rest, seen = known[name], words[1:], seen + 1
        if isinstance(command, click.Group) and rest:
            sub = rest[0].rstrip(",.:;)")
            if sub in command.commands:
                command, rest = command.commands[sub], rest[1:]
            elif re.fullmatch(r"[a-z]+", sub) and name == "backup":
                problems.append((path, f"rpiomega {name} has no command {sub}"))
        taken = {opt for parameter in command.params for opt in [*parameter.opts, *parameter.secondary_opts]}
        problems += [
            (path, f"rpiomega {name} takes no {opt}") for opt in options(rest) if opt not in taken | {"--help"}
        ]
    fails(problems)
    assert seen > 50


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Salt's functions and states of a minion with ours: (modules, states)."""
    import salt.config
    import salt.loader

    folder = tmp_path_factory.mktemp("minion")
    opts = salt.config.minion_config(None)
    opts.update(
        id="node", file_client="local", root_dir=str(folder), cachedir=str(folder / "cache"), module_dirs=[str(ROOT)]
    )
    opts.update(extension_modules=str(folder / "extmods"), utils_dirs=[str(ROOT / "_utils")], pillar={}, grains=GRAINS)
    utils = salt.loader.utils(opts)
    modules = salt.loader.minion_mods(opts, utils=utils)
    return modules, salt.loader.states(opts, modules, utils, None)


def _refused(function, words):
    """Why a function does not take arguments as they are on a command line; empty if it does."""
    signature = inspect.signature(inspect.unwrap(function))
    given = [word.strip("'\"").partition("=")[0] for word in words if re.match(r"'?[a-z_]+=", word)]
    free = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    unknown = [name for name in given if name not in signature.parameters and not free]
    return f"takes no {', '.join(unknown)}" if unknown else ""


def test_salts_commands(loaded):
    modules, states = loaded
    problems, seen = [], 0
    for program in ("salt", "salt-call"):
        for path, words in commands(program):
            at = next(
                (i for i, word in enumerate(words) if re.fullmatch(r"[a-z_0-9]+\.[a-z_]+", word.strip(",.)"))), None
            )
            # `salt '*' ...`: the function is the first word behind target and options.
            if at is None or at > 6 or (program == "salt" and at == 0):
                continue
            name, rest = words[at].strip(",.)"), []
            for word in words[at + 1 :]:
                if word.startswith(("(", "#", "|")):
                    break
                rest.append(word.rstrip(",.)"))
            seen += 1
            if name not in modules:
                problems.append((path, f"{program} {name}: there is no such function"))
            elif name == "state.single":
                state = rest[0]
                if state not in states:
                    problems.append((path, f"there is no state {state}"))
                elif _refused(states[state], [word for word in rest[1:] if not word.startswith("test=")]):
                    problems.append((path, f"state {state} {_refused(states[state], rest[1:])}"))
            elif name == "state.apply" and rest and re.fullmatch(r"[a-z][a-z_.,]*", rest[0]):
                for sls in rest[0].split(","):
                    where = ROOT / "salt" / sls.replace(".", "/")
                    if not (where.with_suffix(".sls").exists() or (where / "init.sls").exists()):
                        problems.append((path, f"state.apply {sls}: there is no such SLS"))
            elif _refused(modules[name], rest):
                problems.append((path, f"{name} {_refused(modules[name], rest)}"))
    fails(problems)
    assert seen > 30


def test_orchestrations_and_runners_exist():
    problems, seen = [], 0
    for path, words in commands("salt-run"):
        if len(words) > 1 and words[0] in ("state.orch", "state.orchestrate"):
            seen += 1
            where = ROOT / "salt" / words[1].replace(".", "/")
            if not (where.with_suffix(".sls").exists() or (where / "init.sls").exists()):
                problems.append((path, f"salt-run state.orch {words[1]}: there is no such SLS"))
    fails(problems)
    assert seen


@functools.cache
def _docker_help(*words):
    done = subprocess.run(["docker", *words, "--help"], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout


def _docker_has(*words):
    """Whether a help lists the last word as a command. That of newer releases hides what only a swarm's member can."""
    if re.search(rf"^\s+{re.escape(words[-1])}\*?\s", _docker_help(*words[:-1]), re.MULTILINE):
        return True
    usage = f"Usage:  docker {' '.join(words)}"
    return words[0] in SWARM and len(words) > 1 and usage in re.sub(r"^Usage:\s+", "Usage:  ", _docker_help(*words))


@pytest.mark.skipif(not shutil.which("docker"), reason="there is no docker command")
def test_dockers_commands():
    problems, seen = [], 0
    for path, words in commands("docker"):
        chain = []
        for word in words[:2]:
            # Only what the help of the level above lists is a command; all else is a sentence or an argument.
            if not _docker_has(*chain, word):
                break
            chain.append(word)
        if not chain:
            continue
        seen += 1
        if re.search(r"^Usage:.* COMMAND$", _docker_help(*chain), re.MULTILINE) and len(words) > 1:
            if re.fullmatch(r"[a-z-]+", words[1]) and len(words) > 2 and words[2].startswith("-"):
                problems.append((path, f"docker {' '.join(chain)} has no command {words[1]}"))
            continue
        known = set(re.findall(r"(--[a-z][a-z-]*)", _docker_help(*chain)))
        problems += [(path, f"docker {' '.join(chain)} takes no {opt}") for opt in options(words) if opt not in known]
    fails(problems)
    assert seen > 10
