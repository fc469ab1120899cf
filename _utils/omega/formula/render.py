"""Render a revision of the formula for every node of the site, as their minions would.

Run as a script by Salt's Python, so that nothing of the revision in use is loaded: a JSON request on standard input
(``tree``, ``candidate``, ``master_config``), a JSON list of problems on standard output. Secrets that states read are
made up in a temporary folder; the cluster's own are neither read nor written.
"""

import ast
import copy
import fnmatch
import json
import logging
import os
import pathlib
import sys
import tempfile

MODULE_FOLDERS = ("_modules", "_states", "_utils", "_pillar", "_runners", "_grains")
# Rendered on their own terms: with an event's data, or by the master.
NOT_FOR_MINIONS = ("reactor", "orch", "top")
REQUISITES = [*("require", "require_any", "watch", "watch_any", "onchanges", "onchanges_any", "onfail", "onfail_any")]
REQUISITES += ["prereq", "listen"]


def main():
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    logging.disable(logging.CRITICAL)
    os.nice(10)
    out, sys.stdout = sys.stdout, sys.stderr
    found = problems(request["tree"], request["candidate"], request["master_config"])
    json.dump(found, out)


def problems(tree, candidate, master_config):
    """Return one line for each thing that does not render; nodes in the order of the site file."""
    import salt.config

    found = _syntax(candidate)
    if found:
        return found
    path = list(sys.path)
    master = salt.config.master_config(master_config)
    with tempfile.TemporaryDirectory(prefix="rpiomega-render-") as scratch:
        opts = _options(master, tree, candidate, scratch)
        # Salt puts the folders of what it synced on the path as it reads a configuration.
        sys.path[:] = path
        names, found = _nodes(opts, master)
        for name in names:
            found += [f"{name}: {problem}" for problem in _render(opts, master, name, candidate)]
    return found


def _syntax(candidate):
    found = []
    for folder in MODULE_FOLDERS:
        for path in sorted(pathlib.Path(candidate, folder).rglob("*.py")):
            try:
                ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError) as error:
                found.append(f"{path.relative_to(candidate)}: {error}")
    return found


def _options(master, tree, candidate, scratch):
    """Return a minion's options with the master's paths, those below ``tree`` moved to ``candidate``."""
    import salt.config

    opts = salt.config.minion_config(None)
    for key in ("file_roots", "pillar_roots", "module_dirs", "pillar_dirs", "ext_pillar", "renderer", "state_top"):
        if key in master:
            opts[key] = _moved(copy.deepcopy(master[key]), tree.rstrip("/"), candidate)
    if not any(str(path).startswith(candidate) for path in opts["file_roots"].get("base", [])):
        sys.exit(f"the master's file_roots name nothing below {tree}")
    opts["ext_pillar"] = [_without_secrets(entry, scratch) for entry in opts.get("ext_pillar") or []]
    opts.update(
        root_dir=scratch,
        cachedir=os.path.join(scratch, "cache"),
        # What an earlier run synced must not stand in for what the revision lacks.
        extension_modules=os.path.join(scratch, "none"),
        utils_dirs=[],
        file_client="local",
        master_type="disable",
        local=True,
        test=True,
    )
    return opts


def _moved(value, tree, candidate):
    if isinstance(value, dict):
        return {key: _moved(each, tree, candidate) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_moved(each, tree, candidate) for each in value]
    if isinstance(value, str) and (value == tree or value.startswith(f"{tree}/")):
        return candidate + value[len(tree) :]
    return value


def _without_secrets(entry, scratch):
    if isinstance(entry, dict) and isinstance(entry.get("rpiomega"), dict):
        return {"rpiomega": {**entry["rpiomega"], "secrets": os.path.join(scratch, "secrets")}}
    return entry


def _nodes(opts, master):
    """Return the names of the site's nodes, and problems: the pillar of an unknown minion contains the site."""
    import salt.loader
    import salt.pillar

    grains = salt.loader.grains(opts)
    opts["grains"] = grains
    pillar = salt.pillar.get_pillar(
        {**opts, "id": "rpiomega-render"}, grains, "rpiomega-render", "base"
    ).compile_pillar()
    problems = [f"pillar: {error}" for error in pillar.get("_errors") or []]
    names = list((pillar.get("rpiomega") or {}).get("nodes") or [])
    return names, problems or ([] if names else ["the pillar names no nodes (rpiomega:nodes)"])


def _grains(opts, master, name):
    """Return what the master last heard from a minion; for one it never met, this machine's with another name."""
    import salt.cache
    from salt.exceptions import SaltCacheError

    cache = salt.cache.factory(master)
    # 3008 keeps grains in a bank of their own, older ones in the minion's data.
    for bank, key in (("grains", name), (f"minions/{name}", "data")):
        try:
            found = cache.fetch(bank, key) or {}
        except SaltCacheError:
            continue
        found = found.get("grains", found)
        if found.get("id") == name:
            return found
    return {**opts["grains"], "id": name, "host": name, "nodename": name, "localhost": name, "fqdn": name}


def _render(opts, master, name, candidate):
    import salt.state
    from salt.exceptions import SaltException

    opts = {**copy.deepcopy(opts), "id": name, "grains": _grains(opts, master, name)}
    try:
        high = salt.state.HighState(opts)
        high.push_active()
        errors = list((high.state.opts["pillar"] or {}).get("_errors") or [])
        chunks = high.compile_low_chunks()
        errors += [error for error in chunks if isinstance(error, str)]
        chunks = [chunk for chunk in chunks if isinstance(chunk, dict)]
        if not chunks and not errors:
            errors.append("the top file gives it no state")
        errors += _unknown_functions(high.state.states, chunks, candidate)
        errors += [] if errors else _missing_requisites(chunks)
        rest = sorted(set(_all_states(high)) - {chunk["__sls__"] for chunk in chunks})
        for sls in rest:
            # Without this an ID counts as used twice: once in the highstate, once here.
            high.building_highstate = type(high.building_highstate)()
            errors += high.render_highstate({"base": [sls]})[1]
    except SaltException as error:
        errors = [str(error)]
    except Exception as error:  # noqa: BLE001 - a module of the revision may raise anything
        errors = [f"{type(error).__name__}: {error}"]
    return [" ".join(str(error).split()) for error in errors]


def _missing_requisites(chunks):
    """Return what Salt 3008 finds as it compiles, and 3007 and 3006 only when they run a state."""
    known = {(chunk["state"], chunk[key]) for chunk in chunks for key in ("__id__", "name")}
    known |= {("sls", chunk["__sls__"]) for chunk in chunks}
    known |= {("id", name) for _, name in known}
    found = []
    for chunk in chunks:
        for kind in REQUISITES:
            wanted = chunk.get(kind) or []
            for each in wanted if isinstance(wanted, list) else [wanted]:
                state, name = next(iter(each.items())) if isinstance(each, dict) else ("id", each)
                if not any(state == a and fnmatch.fnmatchcase(str(b), str(name)) for a, b in known):
                    found.append(f"{chunk['__sls__']}: {chunk['__id__']}: {kind}: there is no {state}: {name}")
    return found


def _all_states(high):
    names = high.client.list_states("base")
    return [name for name in names if name.split(".")[0] not in NOT_FOR_MINIONS]


def _unknown_functions(states, chunks, candidate):
    folder = os.path.join(candidate, "_states")
    ours = {name[:-3] for name in os.listdir(folder) if name.endswith(".py")} if os.path.isdir(folder) else set()
    wanted = sorted(
        {(f"{chunk['state']}.{chunk['fun']}", chunk["__sls__"]) for chunk in chunks if chunk["state"] in ours}
    )
    return [f"{sls}: {states.missing_fun_string(fun)}" for fun, sls in wanted if fun not in states]


if __name__ == "__main__":
    main()
