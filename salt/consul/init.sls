{% from 'rpiomega/map.jinja' import omega, roles with context %}

include:
  - docker
  - consul.health
  - consul.resolver
  {#- The timer's salt-call finds our modules where a master has put them. #}
  {% if 'master' in roles and opts.file_client != 'local' %}
  - consul.snapshots
  {% endif %}

consul.image:
  container.image_present:
    - name: {{ omega.consul.image | json }}
    {% if omega.consul.archive %}
    - archive: {{ ('salt://' ~ (omega.consul.archive.split('/') | last)) | json }}
    {% endif %}
    - require:
      - service: docker.service

consul.version:
  consul_agent.upgradable:
    - name: {{ omega.consul.container }}
    - image: {{ omega.consul.image | json }}
    - allow: {{ omega.consul.allow_unsupported_upgrade }}
    - require:
      - container: consul.image

consul.config:
  consul_agent.configured:
    - name: {{ omega.consul.config_dir }}
    - image: {{ omega.consul.image | json }}
    - marker: {{ omega.consul.marker }}
    - raft_multiplier: {{ omega.consul.raft_multiplier }}
    - require:
      - consul_agent: consul.version

consul.agent:
  consul_agent.running:
    - name: {{ omega.consul.container }}
    - image: {{ omega.consul.image | json }}
    - config_dir: {{ omega.consul.config_dir }}
    - volume: {{ omega.consul.volume }}
    - timeout: {{ omega.consul.ready_timeout }}
    - require:
      - container: consul.image
      - consul_agent: consul.config

{% if 'master' in roles %}
consul.tokens:
  consul_acl.cluster_tokens:
    - name: consul
    - marker: {{ omega.consul.marker }}
    - config_dir: {{ omega.consul.config_dir }}
    - timeout: {{ omega.consul.ready_timeout }}
    - container: {{ omega.consul.container }}
    - require:
      - consul_agent: consul.agent
    - require_in:
      - consul_agent: consul.ready
{% endif %}

consul.ready:
  consul_agent.ready:
    - name: {{ omega.consul.container }}
    - timeout: {{ omega.consul.ready_timeout }}
    - require:
      - consul_agent: consul.agent
