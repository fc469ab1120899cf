{% from 'rpiomega/map.jinja' import omega with context %}

include:
  {% if omega.docker.source == 'vendor' %}
  - docker.repository
  {% endif %}
  - docker.install
  - docker.config
  - docker.service
