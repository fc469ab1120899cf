"""Finish an update of the formula once no job runs: minions sync their modules, the Salt master is restarted.

Not before: a job that restarts the master it runs for would be called lost by the `salt` command that waits for it, and
an apply must not find half of its modules exchanged. `state.apply NAME` syncs nothing by itself, so without this a node
would run old modules with new states. The state starts this script in a unit of its own (systemd-run(1)) and ends; the
script's words are in that unit's journal.

    python -I omega/formula/finish.py MASTER_CONFIG [SERVICE]
"""

import os
import sys
import time

BOUND_SECONDS = 1800  # as long as a first `state.apply` of slow boards may take
PAUSE_SECONDS = 3
SYNC_SECONDS = 60


def main(master_config, service=""):
    """Wait until two looks in a row find no job, have the minions sync, then become `systemctl restart SERVICE`."""
    deadline, quiet = time.monotonic() + BOUND_SECONDS, 0
    while quiet < 2:
        running = active(master_config)
        quiet = 0 if running else quiet + 1
        if time.monotonic() > deadline:
            print(f"jobs still run after {BOUND_SECONDS} s: {running}; going on all the same")
            break
        print(f"waiting until no job runs: {running or 'none'}", flush=True)
        time.sleep(PAUSE_SECONDS)
    print(f"modules synced on: {', '.join(synced(master_config)) or 'no minion'}", flush=True)
    if service:
        os.execvp("systemctl", ["systemctl", "restart", service])


def active(master_config):
    """Return job ID -> function of the jobs that minions are working on."""
    import salt.config
    import salt.runner

    opts = salt.config.master_config(master_config)
    found = salt.runner.RunnerClient(opts).cmd("jobs.active", [], print_event=False)
    return {jid: job.get("Function", "") for jid, job in found.items()}


def synced(master_config):
    """Have all minions sync modules, states and utils; return the names of those that did. The others are off."""
    import salt.client

    with salt.client.LocalClient(master_config) as client:
        answers = client.cmd("*", "saltutil.sync_all", timeout=SYNC_SECONDS)
    return sorted(name for name, answer in answers.items() if isinstance(answer, dict))


if __name__ == "__main__":
    main(*sys.argv[1:])
