# A node has joined the swarm as a worker: every manager is asked to look. What is done then, and to whom, is decided
# there, from the site's roles and the NodeIDs; the event's content is not used.
look_after_the_swarm:
  local.swarm.look_after:
    - tgt: '*'
