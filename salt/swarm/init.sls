{% from 'rpiomega/map.jinja' import omega, roles with context %}
{% set swarm = omega.swarm %}
{#- Fixed once the node is in the swarm: `swarm.member` takes them, `swarm.cluster` warns of a later difference. -#}
{% macro fixed() %}
    {%- for key in ['data_path_addr', 'data_path_port', 'default_addr_pool', 'subnet_size'] if swarm[key] %}
    - {{ key }}: {{ swarm[key] | json }}
    {%- endfor %}
{%- endmacro %}

include:
  - consul

swarm.member:
  swarm.member:
    - name: {{ omega.cluster | json }}
    - bootstrap_timeout: {{ omega.swarm.bootstrap_timeout }}
    - promote_timeout: {{ omega.swarm.promote_timeout }}
    - min_free_mb: {{ omega.swarm.min_free_mb }}
    - readdress: {{ omega.swarm.readdress }}
    {{- fixed() }}
    - require:
      - consul_agent: consul.ready

swarm.nodes_managed:
  swarm.nodes_managed:
    - name: {{ omega.cluster | json }}
    - require:
      - swarm: swarm.member

swarm.cluster:
  swarm.cluster:
    - name: {{ omega.cluster | json }}
    {%- for key, value in swarm.spec.items() if value is not none %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
    {{- fixed() }}
    - require:
      - swarm: swarm.member
{% for name, stack in swarm.stacks.items() if 'manager' in roles %}
swarm.stack.{{ name }}:
  {% if stack.get('state') == 'absent' %}
  swarm.stack_absent:
    - name: {{ name | json }}
    - timeout: {{ stack.get('timeout', 300) }}
  {% else %}
  swarm.stack:
    - name: {{ name | json }}
    - compose: {{ ([stack.compose] + stack.get('overrides', [])) | json }}
    {%- for key in ['env', 'prune', 'resolve_image', 'with_registry_auth', 'wait', 'timeout'] if key in stack %}
    - {{ key }}: {{ stack[key] | json }}
    {%- endfor %}
  {% endif %}
    - require:
      - swarm: swarm.cluster
{% endfor %}
