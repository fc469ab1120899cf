{#- What each node gets, in order. Roles come from the pillar, never from grains: a node may not choose its own. -#}
{% from 'rpiomega/map.jinja' import omega, roles with context %}
base:
  '*':
    - rpiomega.modules
    - packages
    - time
    - journal
    - swap
    - upgrades
    - docker
    {% if 'master' in roles %}
    - registry
    {% endif %}
    - b2
    - consul
    {% if omega.swarm.enabled %}
    - swarm
    {% endif %}
    - backup
    {% if 'master' in roles and not opts.get('rpiomega_masterless') %}
    - repo
    {% endif %}
