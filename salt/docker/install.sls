{% from 'rpiomega/map.jinja' import docker with context %}
{% set packages = docker.packages[docker.source] %}
{% set more = docker.packages.distribution_cli.get(grains['oscodename'], []) if docker.source == 'distribution' else [] %}

include:
  - packages.dpkg

docker.install:
  docker_engine.installed:
    - name: {{ docker.source }}
    - packages: {{ (packages + more) | json }}
    - conflicting: {{ docker.packages.conflicting[docker.source] | json }}
    - runtime: {{ docker.packages.runtime[docker.source] | json }}
    {% if docker.source == 'vendor' %}
    - version: '{{ docker.version }}'
    {% endif %}
    - allow_downgrade: {{ docker.allow_downgrade }}
