"""What a finished lab costs: `python -m tests.bench.cluster [--name demo]`, after `make demo`.

Prints Markdown: time and CPU of `state.apply` with nothing to do, and the memory of each part on each node. CPU is
what the nodes' own control groups counted, so other work on this machine is not in it.
"""

from __future__ import annotations

import json
import statistics
import time

import click

from rpiomega.lab import remote, state

RUNS = 3
APPLY = "sudo salt '*' state.apply"
CPU = "cat /sys/fs/cgroup/cpu.stat"
# Proportional set size: shared pages are counted once among those who share them (kernel: smaps_rollup).
MEMORY = r"""
sudo python3 - <<'PY'
import glob, json, re

PARTS = (("salt-master", r"salt-master"), ("salt-minion", r"salt-minion"), ("consul", r"consul agent|^consul$"),
         ("dockerd", r"dockerd"), ("containerd", r"containerd"))
found = dict.fromkeys([name for name, _ in PARTS], 0)
for folder in glob.glob("/proc/[0-9]*"):
    try:
        with open(folder + "/cmdline") as file:
            line = file.read().replace("\0", " ")
        with open(folder + "/smaps_rollup") as file:
            size = int(re.search(r"^Pss: +(\d+)", file.read(), re.M).group(1))
    except (OSError, AttributeError):
        continue
    if "smaps_rollup" in line:  # the shell that runs this very script
        continue
    name = next((name for name, pattern in PARTS if re.search(pattern, line)), None)
    if name:
        found[name] += size
print(json.dumps(found))
PY
"""


@click.command()
@click.option("--name", default="demo", show_default=True, help="Which lab.")
def main(name: str) -> None:
    """Measure a finished lab."""
    lab = state.load(name)
    if lab is None:
        raise click.ClickException(f"there is no lab {name}: make demo")
    seconds, cpu = [], []
    for _ in range(RUNS):
        before = _cpu(lab)
        began = time.monotonic()
        remote.run(lab, lab.node_names()[0], APPLY, bound=300)
        seconds.append(time.monotonic() - began)
        cpu.append(_cpu(lab) - before)
    nodes = len(lab.node_names())
    click.echo(f"| `state.apply` with nothing to do, {nodes} nodes, median of {RUNS} | seconds |\n|---|---|")
    click.echo(f"| wall time | {statistics.median(seconds):.1f} |")
    click.echo(f"| CPU of all nodes together | {statistics.median(cpu):.1f} |\n")
    memory = {node: json.loads(text) for node, text in remote.run_everywhere(lab, MEMORY).items()}
    parts = list(next(iter(memory.values())))
    click.echo("| memory, MB (PSS) | " + " | ".join(memory) + " |\n|---|" + "---|" * nodes)
    for part in parts:
        click.echo(f"| {part} | " + " | ".join(f"{memory[node][part] / 1024:.0f}" for node in memory) + " |")
    click.echo("| all | " + " | ".join(f"{sum(memory[node].values()) / 1024:.0f}" for node in memory) + " |")


def _cpu(lab) -> float:
    texts = remote.run_everywhere(lab, CPU)
    values = (dict(line.split() for line in text.splitlines()) for text in texts.values())
    return sum(int(value["usage_usec"]) for value in values) / 1e6


if __name__ == "__main__":
    main()
