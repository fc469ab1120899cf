"""Restart the Salt master once no job runs, so that every job's return still finds it.

A job that restarts the master it runs for would be called lost by the `salt` command that waits for it. So the state
starts this script in a unit of its own (systemd-run(1)) and ends; the script's words are in that unit's journal.

    python -I omega_formula_restart.py SERVICE MASTER_CONFIG
"""

import os
import sys
import time

BOUND_SECONDS = 1800  # as long as a first `state.apply` of slow boards may take
PAUSE_SECONDS = 3


def main(service, master_config):
    """Wait until two looks in a row find no job, then become `systemctl restart SERVICE`."""
    deadline, quiet = time.monotonic() + BOUND_SECONDS, 0
    while quiet < 2:
        running = active(master_config)
        quiet = 0 if running else quiet + 1
        if time.monotonic() > deadline:
            print(f"jobs still run after {BOUND_SECONDS} s: {running}; {service} is restarted all the same")
            break
        print(f"waiting until no job runs: {running or 'none'}", flush=True)
        time.sleep(PAUSE_SECONDS)
    os.execvp("systemctl", ["systemctl", "restart", service])


def active(master_config):
    """Return job ID -> function of the jobs that minions are working on."""
    import salt.config
    import salt.runner

    opts = salt.config.master_config(master_config)
    found = salt.runner.RunnerClient(opts).cmd("jobs.active", [], print_event=False)
    return {jid: job.get("Function", "") for jid, job in found.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
