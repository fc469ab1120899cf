"""All steps by name; a job names them in the order it wants them."""

from rpiomega.node.step import Step
from rpiomega.node.steps.backup import BackupFollow, BackupList, BackupStart, BackupState
from rpiomega.node.steps.backup_secrets import BackupKit, BackupSecrets
from rpiomega.node.steps.clock import Clock
from rpiomega.node.steps.cluster import ClusterStatus
from rpiomega.node.steps.cmdline import Cmdline
from rpiomega.node.steps.doctor import Connect, Examine, Hold, Listen
from rpiomega.node.steps.formula import Formula, SiteFile
from rpiomega.node.steps.hostname import Hostname
from rpiomega.node.steps.inventory import Inventory
from rpiomega.node.steps.keys import Accept, Answering, Finger, Keys, Synced
from rpiomega.node.steps.locale import Locale
from rpiomega.node.steps.machineid import Identity, MachineId
from rpiomega.node.steps.master import Master
from rpiomega.node.steps.master_restore import MasterRestore
from rpiomega.node.steps.minion import Minion
from rpiomega.node.steps.modules import Modules
from rpiomega.node.steps.network import Confirm, Network, Status
from rpiomega.node.steps.restore import RestoreFollow, RestoreStart
from rpiomega.node.steps.rootfs import Rootfs
from rpiomega.node.steps.salt import Salt
from rpiomega.node.steps.sources import Sources
from rpiomega.node.steps.sshd import Sshd
from rpiomega.node.steps.standing import Standing
from rpiomega.node.steps.swap import Swap
from rpiomega.node.steps.timezone import Timezone

STEPS: dict[str, type[Step]] = {
    step.name: step
    for step in (Hostname, Cmdline, Clock, Sources, Inventory, Salt, Formula, Master, Minion, Keys, Finger, Accept)
}
STEPS |= {step.name: step for step in (Network, Confirm, Status)}
# The doctor's: the first four change nothing.
STEPS |= {step.name: step for step in (Listen, Examine, Hold, Connect, Modules)}
STEPS |= {step.name: step for step in (Identity, MachineId, Rootfs, Swap, Timezone, Locale, Sshd)}
STEPS |= {step.name: step for step in (BackupState, BackupStart, BackupFollow, BackupList, RestoreStart, RestoreFollow)}
STEPS |= {step.name: step for step in (ClusterStatus, SiteFile, Answering, Synced, Standing)}
STEPS |= {step.name: step for step in (BackupSecrets, BackupKit, MasterRestore)}
