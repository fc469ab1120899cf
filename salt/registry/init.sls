{#- A pull-through registry on the master: docs/software.md. Docker asks it as a mirror (rpiomega/map.jinja). -#}
{% from 'rpiomega/map.jinja' import omega with context %}
{% set registry = omega.cache.registry %}
{% set drop_in = '/etc/systemd/system/docker-registry.service.d/rpiomega.conf' %}

include:
  - docker

{% if omega.cache.images %}
registry.config:
  file.serialize:
    - name: {{ registry.config }}
    - serializer: yaml
    - makedirs: True
    - dataset:
        version: '0.1'
        storage:
          filesystem: {rootdirectory: {{ registry.folder }}}
          delete: {enabled: true}
        http: {addr: ':{{ registry.port }}'}
        proxy: {remoteurl: '{{ omega.cache.upstream }}'}
{% endif %}

{% if omega.cache.images and omega.cache.image %}
registry.image:
  container.image_present:
    - name: {{ omega.cache.image }}
    - require:
      - service: docker.service

registry.service:
  container.running:
    - name: {{ registry.container }}
    - image: {{ omega.cache.image }}
    - command: [{{ registry.config }}]
    - network_mode: host
    - volumes:
      - {{ registry.config }}:{{ registry.config }}:ro
      - {{ registry.container }}:{{ registry.folder }}
    - config: [{{ registry.config }}]
    - require:
      - container: registry.image
      - file: registry.config

{% elif omega.cache.images %}
registry.unit:
  file.managed:
    - name: {{ drop_in }}
    - source: salt://registry/files/service.conf
    - template: jinja
    - context: {config: {{ registry.config }}}
    - makedirs: True

registry.package:
  pkg.installed:
    - name: docker-registry
    - install_recommends: False
    - require:
      - file: registry.config
      - file: registry.unit

registry.service:
  service.running:
    - name: docker-registry
    - enable: True
    - require:
      - pkg: registry.package
    - watch:
      - file: registry.config
      - file: registry.unit
{% endif %}

{% if not omega.cache.images or omega.cache.image %}
{% if salt['file.file_exists'](drop_in) %}
registry.stopped:
  service.dead:
    - name: docker-registry
    - enable: False
    {% if omega.cache.images %}
    - require_in:
      - container: registry.service
    {% endif %}

registry.unit:
  file.absent:
    - name: {{ drop_in }}
    - require:
      - service: registry.stopped
{% endif %}
{% endif %}
