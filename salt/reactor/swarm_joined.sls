# A node has joined the swarm as a worker: every manager reconciles the nodes. It decides from the site's roles and the NodeIDs; the event's content is not used.
reconcile_the_swarms_nodes:
  local.swarm.reconcile_nodes:
    - tgt: '*'
