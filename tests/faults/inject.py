"""The faults. Each one is undone by `heal`, in reverse order, whatever happened in between."""

from __future__ import annotations

import contextlib

from cluster import Cluster, power
from nodes import FOLDER, HERE, SALT_PYTHON, TROUBLE, Failed, Job, Unsupported

MARK = "rpiomega-faults"
QUEUE = 7  # of netfilter, for delay.py


class Injector:
    """Faults of one row."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._undo: list = []
        self.touched: set[str] = set()  # nodes whose containers may change
        self.operator = False  # True once the row acts as an operator who forces something

    def heal(self) -> list[str]:
        """Undo everything, last first; return what could not be undone."""
        problems = []
        while self._undo:
            what, act = self._undo.pop()
            try:
                act()
            except TROUBLE as error:
                problems.append(f"{what}: {error}")
        return problems

    def undo_later(self, what: str, act) -> None:
        """Let `heal` call `act`."""
        self._undo.append((what, act))

    # -- power ---------------------------------------------------------------------------------------------

    def power_off(self, *nodes: str) -> None:
        """Cut the power of nodes, all in the same moment as nearly as one thread can."""
        self.touched.update(nodes)
        for node in nodes:
            self.undo_later(f"power of {node}", lambda node=node: self.power_on(node))
        for node in nodes:
            self.cluster.container(node).kill()

    def power_on(self, node: str) -> None:
        """Give a node power; wait until it has booted. One that was frozen goes on."""
        self.thaw(node)
        if not self.cluster.is_on(node):
            power(self.cluster, node)

    def freeze(self, node: str) -> None:
        """Stop all processes of a node, as a board does that hangs; nothing of it answers, no connection is closed."""
        self.cluster.container(node).pause()
        self.undo_later(f"thaw {node}", lambda: self.thaw(node))

    def thaw(self, node: str) -> None:
        """Let a frozen node go on."""
        if self.cluster.container(node).status == "paused":
            self.cluster.container(node).unpause()

    # -- processes -----------------------------------------------------------------------------------------

    def consul_pid(self, node: str) -> str:
        """Return the process ID of a node's Consul agent."""
        return self.cluster.run(node, "docker inspect -f '{{.State.Pid}}' rpiomega-consul").out

    def kill_consul(self, node: str) -> None:
        """Kill a node's agent, for the engine to start again."""
        self.cluster.run(node, f"kill -9 {self.consul_pid(node)}")

    def stop_consul(self, *nodes: str) -> None:
        """Kill the agents of nodes and keep them off."""
        for node in nodes:
            self.undo_later(f"Consul of {node}", lambda node=node: self.start_consul(node))
        for node in nodes:
            self.cluster.run(node, "docker kill rpiomega-consul")

    def start_consul(self, node: str) -> None:
        """Start a node's agent."""
        self.cluster.run(node, "docker start rpiomega-consul")

    def freeze_consul(self, node: str) -> None:
        """Stop the process of a node's agent without ending it."""
        pid = self.consul_pid(node)
        self.cluster.run(node, f"kill -STOP {pid}")
        self.undo_later(f"thaw Consul of {node}", lambda: self.cluster.run(node, f"kill -CONT {pid}", check=False))

    def restart_docker(self, node: str, wait: bool = True) -> None:
        """Restart a node's engine."""
        self.touched.add(node)
        self.cluster.run(node, "systemctl restart docker" if wait else "systemctl restart --no-block docker", 120)

    def stop_unit(self, node: str, unit: str) -> None:
        """Stop a systemd unit until the fault is healed."""
        self.undo_later(f"{unit} of {node}", lambda: self.cluster.run(node, f"systemctl start {unit}", 120))
        self.cluster.run(node, f"systemctl stop {unit}", 120)

    # -- network -------------------------------------------------------------------------------------------

    def rule(self, node: str, rule: str) -> None:
        """Add an iptables rule at the head of a chain: `INPUT -s 192.0.2.1 -j DROP`."""
        chain, _, rest = rule.partition(" ")
        text = f"-m comment --comment {MARK} {rest}"
        self.undo_later(f"rule of {node}", lambda: self._forget(node, f"{chain} {text}"))
        self.cluster.run(node, f"iptables -w -I {chain} 1 {text}")

    def _forget(self, node: str, rule: str) -> None:
        # A node that lost its power has lost its rules as well.
        self.cluster.run(node, f"iptables -w -D {rule}", check=False)

    def partition(self, node: str, others: list[str], direction: str = "both") -> None:
        """Cut a node off from others: `both`, `in` (it hears nothing of them) or `out` (they hear nothing of it)."""
        self.touched.add(node)  # to the swarm's leader it may be down, and its tasks are started again
        for other in others:
            address = self.cluster.address(other)
            if direction in ("both", "in"):
                self.rule(node, f"INPUT -s {address} -j DROP")
            if direction in ("both", "out"):
                self.rule(node, f"OUTPUT -d {address} -j DROP")

    def block(self, node: str, protocol: str, port: int) -> None:
        """Drop what comes in at a port."""
        self.rule(node, f"INPUT -p {protocol} --dport {port} ! -i lo -j DROP")

    def lose(self, node: str, share: float) -> None:
        """Lose a share of the packets that come in from the network."""
        self.rule(node, f"INPUT ! -i lo -m statistic --mode random --probability {share} -j DROP")

    def weather(self, mean: float, jitter: float, loss: float, seconds: float) -> None:
        """Hold back what comes in from other nodes for `mean` +- `jitter` seconds and lose a share, as bad Wi-Fi does.

        It ends when healed, or after `seconds`. By delay.py, because a kernel may lack netem; Unsupported if it lacks
        NFQUEUE as well.
        """
        self.touched.update(self.cluster.names)
        for node in self.cluster.names:
            self.cluster.put(node, f"{FOLDER}/delay.py", (HERE / "delay.py").read_text())
            words = f"{QUEUE} {mean} {jitter} {loss} {seconds}"
            job = self.cluster.later(node, f"exec python3 {FOLDER}/delay.py {words}")
            self.undo_later(f"delay of {node}", lambda job=job: job.signal("TERM"))
            self.cluster.wait("the delay to be in place", 20, job.read)
        for node in self.cluster.names:
            for other in (name for name in self.cluster.names if name != node):
                source = self.cluster.address(other)
                try:
                    self.rule(node, f"INPUT -s {source} -j NFQUEUE --queue-num {QUEUE} --queue-bypass")
                except Failed as error:
                    raise Unsupported(f"neither netem nor NFQUEUE in this kernel: {error}") from None

    def join_network_again(self) -> None:
        """Remove every rule of this kind on all nodes."""
        script = f"iptables-save | grep -- '--comment {MARK}' | sed 's/^-A/-D/'"
        for node in self.cluster.on():
            with contextlib.suppress(Failed):
                self.cluster.run(node, f"{script} | while read -r rule; do iptables -w $rule; done")

    # -- locks ---------------------------------------------------------------------------------------------

    def holder(self, node: str, key: str, hold: float = 300, wait: float = 300, ttl: int = 15, delay: int = 15) -> Job:
        """Contend for a lock of Consul on a node with the product's own code (holder.py)."""
        words = f"{key} {node} {ttl} {delay} {hold} {wait}"
        job = self.cluster.later(node, f"exec {SALT_PYTHON} {FOLDER}/holder.py {words}")
        self.undo_later(f"lock holder of {node}", lambda: self.cluster.is_on(node) and job.signal("KILL"))
        return job

    # -- exact places --------------------------------------------------------------------------------------

    def pause_at(self, node: str, place: str, after: bool = False) -> Pause:
        """Make a Pause at a function of the product's utils, such as `omega.swarm.record.Store.write_record`."""
        return Pause(self.cluster, node, place, after)


class Pause:
    """A place in a run where it stops until it is let go: before the function (or `after` it) that `place` names.

    `patch` is Python for `Cluster.call_later`; a run can also be killed while it stands there.
    """

    def __init__(self, cluster: Cluster, node: str, place: str, after: bool) -> None:
        self.cluster, self.node = cluster, node
        self.base = f"{FOLDER}/pause"
        cluster.run(node, f"rm -f {self.base}.*")
        parts = place.split(".")
        class_at = next((i for i, part in enumerate(parts) if part[0].isupper()), len(parts) - 1)
        module, function = ".".join(parts[:class_at]), ".".join(parts[class_at:])
        calls = "result = real(*a, **k); stop(); return result" if after else "stop(); return real(*a, **k)"
        self.patch = (
            f"import {module}, os, time\n"
            f"real = {module}.{function}\n"
            "def stop():\n"
            f"    open('{self.base}.reached', 'w').write(str(os.getpid()))\n"
            f"    while not os.path.exists('{self.base}.go'):\n"
            "        time.sleep(0.05)\n"
            "def paused(*a, **k):\n"
            f"    {calls}\n"
            f"{module}.{function} = paused\n"
        )

    def wait(self, bound: float = 120) -> None:
        """Wait until a run stands here."""

        def reached():
            return self.cluster.run(self.node, f"test -e {self.base}.reached", 10, check=False).code == 0

        self.cluster.wait("the run to reach its place", bound, reached)

    def go(self) -> None:
        """Let it go on."""
        self.cluster.run(self.node, f"touch {self.base}.go")

    def kill(self) -> None:
        """Kill the process that stands here."""
        self.cluster.run(self.node, f"kill -9 $(cat {self.base}.reached)")
