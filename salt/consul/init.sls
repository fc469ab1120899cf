{% from 'rpiomega/map.jinja' import omega, roles with context %}

include:
  - docker

consul.image:
  container.image_present:
    - name: {{ omega.consul.image }}
    {% if omega.consul.archive %}
    - archive: salt://{{ omega.consul.archive.split('/') | last }}
    {% endif %}
    - require:
      - service: docker.service

consul.config:
  consul_agent.configured:
    - name: {{ omega.consul.config_dir }}
    - image: {{ omega.consul.image }}
    - marker: {{ omega.consul.marker }}

consul.agent:
  container.running:
    - name: {{ omega.consul.container }}
    - image: {{ omega.consul.image }}
    - entrypoint: [consul]
    - command: [agent, -config-dir=/etc/consul]
    - network_mode: host
    - user: '0'
    - cap_drop: [ALL]
    - volumes:
      - {{ omega.consul.config_dir }}:/etc/consul:ro
      - {{ omega.consul.volume }}:/var/lib/consul
    - config: [{{ omega.consul.config_dir }}]
    - require:
      - container: consul.image
      - consul_agent: consul.config

{% if 'master' in roles %}
consul.tokens:
  consul_acl.cluster_tokens:
    - name: consul
    - marker: {{ omega.consul.marker }}
    - timeout: {{ omega.consul.ready_timeout }}
    - require:
      - container: consul.agent
    - require_in:
      - consul_agent: consul.ready
{% endif %}

consul.ready:
  consul_agent.ready:
    - name: {{ omega.consul.container }}
    - timeout: {{ omega.consul.ready_timeout }}
    - require:
      - container: consul.agent
