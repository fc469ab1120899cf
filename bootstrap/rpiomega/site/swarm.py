"""Sections of the site file about the swarm's own settings and the stacks that run in it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rpiomega.site.values import Duration, NoPassword, SaltFile, Section, StackName, Url


class ExternalCA(Section):
    """A signing endpoint outside of the swarm that signs the nodes' certificates."""

    url: Url = Field(description="Where it is; https only.")
    protocol: Literal["cfssl"] = Field("cfssl", description="What it speaks.")
    options: dict[str, NoPassword] = Field({}, description="Options of its protocol.")
    ca_cert: str = Field("", description="The CA certificate it signs with (PEM), where that is not the swarm's.")


class SwarmSpec(Section):
    """The swarm's own settings. What is not set stays as it is in the swarm."""

    autolock: bool | None = Field(
        None, description="Whether a manager that restarts needs the unlock key; a new swarm has it off."
    )
    unlock: Literal["keep", "never"] = Field(
        "keep", description="With autolock: whether each manager keeps the key, so that it unlocks itself."
    )
    task_history: int | None = Field(
        None, ge=-1, le=10000, description="Finished tasks kept per slot of a service; -1: all."
    )
    heartbeat_tick: int | None = Field(None, ge=1, le=600, description="Seconds between two heartbeats of the leader.")
    election_tick: int | None = Field(
        None, ge=2, le=600, description="Seconds without one until a new leader is elected; above heartbeat_tick."
    )
    snapshot_interval: int | None = Field(
        None, ge=1, le=10_000_000, description="Raft log entries between two snapshots."
    )
    keep_old_snapshots: int | None = Field(None, ge=0, le=1000, description="Older snapshots kept.")
    log_entries_for_slow_followers: int | None = Field(
        None, ge=0, le=10_000_000, description="Raft log entries kept beyond a snapshot."
    )
    dispatcher_heartbeat: Duration | None = Field(None, description="Period of the nodes' heartbeats.")
    cert_expiry: Duration | None = Field(None, description="Life of the nodes' certificates, one hour at least.")
    external_cas: list[ExternalCA] | None = Field(None, description="All signing endpoints there are.")
    ca_force_rotate: int | None = Field(
        None, ge=0, le=1_000_000, description="Counter: each higher number makes the swarm a new CA once."
    )
    labels: dict[str, NoPassword] = Field({}, description="Labels of the swarm itself.")
    labels_state: Literal["merge", "replace"] = Field(
        "merge", description="`merge`: other labels stay; `replace`: these are all."
    )


class Stack(Section):
    """A stack of services, deployed from compose files by one of the managers."""

    state: Literal["present", "absent"] = Field("present", description="Whether it runs; `absent` removes it.")
    compose: SaltFile = Field(description="The compose file: a file in the master's /srv/rpiomega/files.")
    overrides: list[SaltFile] = Field([], description="More such files, each laid over the ones before.")
    env: dict[str, NoPassword] = Field(
        {}, description="Values for `${NAME}` in the files; nothing secret, all nodes see it."
    )
    prune: bool = Field(False, description="Whether services that the files do not name any more are removed.")
    resolve_image: Literal["always", "changed", "never"] = Field(
        "changed", description="When the registry is asked for an image's digest; `never` where there is none."
    )
    with_registry_auth: bool = Field(
        False, description="Whether the nodes get root's registry login of the manager that deploys."
    )
    wait: bool = Field(True, description="Whether the state waits until all services run.")
    timeout: int = Field(300, ge=1, le=86400, description="Seconds it waits.")


Stacks = dict[StackName, Stack]
