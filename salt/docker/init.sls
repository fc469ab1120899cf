{% from 'rpiomega/map.jinja' import docker with context %}

include:
  {% if docker.source == 'vendor' %}
  - docker.repository
  {% endif %}
  - docker.install
  - docker.config
  - docker.service
