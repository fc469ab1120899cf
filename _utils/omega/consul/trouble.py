"""What a Consul agent that does not answer says of itself: how its container ended, and the last error in its log."""

from omega.docker import containers
from omega.docker import engine as docker_engine

# What tells an error, the most telling first: after a panic come the stacks of all goroutines.
MARKS = ("panic: ", "fatal error: ", "[ERROR]")
LINES, WIDTH = 200, 300  # of the log: lines looked at, characters shown


def last_error(name, engine=None):
    """Return in one line what ails the agent's container, "" if it runs and its log has no error.

    :param name: the container's name
    :param engine: Docker SDK client; without one the node's own engine is asked
    """
    try:
        found = containers.container(engine or docker_engine.connect(), name)
        if found is None:
            return f"there is no container {name}"
        with docker_engine.asking(f"container {name}: the engine does not give its log"):
            lines = found.logs(tail=LINES).decode(errors="replace").splitlines()
    except docker_engine.EngineError as error:
        return str(error)
    again, state = found.attrs.get("RestartCount"), found.attrs["State"]
    ended = found.status != "running"
    # Between two starts a container that ends again and again runs for a moment.
    text = worst(lines, ended or again)
    how = f"{name} is {found.status}, exit code {state.get('ExitCode')}" if ended else name
    if again and not ended:
        how = f"{name} was started {again} times again"
    return f"{how}; the last error in its log: {text}" if text else how if ended else ""


def worst(lines, ended):
    """Return the most telling line of a log; without any mark, the last line of a program that ended; or "".

    :param lines: of the log, the oldest first
    :param ended: whether the program ended
    """
    lines = [" ".join(line.split()) for line in lines if line.strip()]
    marked = (line for mark in MARKS for line in reversed(lines) if mark in line)
    return next(marked, lines[-1] if ended and lines else "")[:WIDTH]


def explained(error, name):
    """Return a ConsulError as text, with what the agent's container says if the agent did not answer."""
    said = last_error(name) if error.transient else ""
    return f"{error}; {said}" if said else str(error)
