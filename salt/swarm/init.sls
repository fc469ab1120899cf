{% from 'rpiomega/map.jinja' import omega with context %}

include:
  - consul

swarm.member:
  swarm.member:
    - name: {{ omega.cluster }}
    - require:
      - consul_agent: consul.ready
