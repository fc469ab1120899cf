{% from 'rpiomega/map.jinja' import omega with context %}

include:
  - consul

swarm.member:
  swarm.member:
    - name: {{ omega.cluster }}
    - bootstrap_timeout: {{ omega.swarm.bootstrap_timeout }}
    - promote_timeout: {{ omega.swarm.promote_timeout }}
    - require:
      - consul_agent: consul.ready

swarm.tended:
  swarm.tended:
    - name: {{ omega.cluster }}
    - require:
      - swarm: swarm.member
