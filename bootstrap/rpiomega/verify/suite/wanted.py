"""What a site wants: its file over the formula's defaults, as salt/rpiomega/map.jinja gives it to the states."""

import pathlib

import yaml

# Links into salt/rpiomega; a wheel has copies.
HERE = pathlib.Path(__file__).parent


def over(below, above):
    """Return settings laid over others: mappings join at every depth, all else replaces."""
    both = isinstance(below, dict) and isinstance(above, dict)
    return {**below, **{key: over(below.get(key), value) for key, value in above.items()}} if both else above


def read_site(path):
    """Return a site file over the formula's defaults: what map.jinja calls `omega`, and each node with its defaults."""
    defaults = yaml.safe_load((HERE / "site.yaml").read_text())
    own = yaml.safe_load(pathlib.Path(path).read_text())["rpiomega"]
    formula = yaml.safe_load((HERE / "defaults.yaml").read_text())
    merged = over(over(defaults["site"], formula), own)
    merged["nodes"] = {name: over(defaults["node"], entry) for name, entry in own["nodes"].items()}
    return merged


def docker_of(site, node):
    """Return Docker's settings on a node: what map.jinja calls `docker`."""
    found = dict(site["docker"])
    if site["cache"]["images"]:
        found["mirrors"] = [registry_of(site), *found["mirrors"]]
    if node["docker"]["source"] != "site":
        found["source"] = node["docker"]["source"]
    if node["docker"]["data_root"]:
        found["data_root"] = node["docker"]["data_root"]
    return found


def registry_of(site):
    """Return the address of the master's registry."""
    master = next(entry for entry in site["nodes"].values() if "master" in entry["roles"])
    return f"http://{master['address']}:{site['cache']['registry']['port']}"
