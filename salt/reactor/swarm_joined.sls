# A node has joined the swarm as a worker and waits to be promoted: every manager is asked to look. Which nodes are
# promoted is decided there, from the site's roles and the NodeIDs; the event's content is not used.
promote_waiting:
  local.swarm.promote_waiting:
    - tgt: '*'
