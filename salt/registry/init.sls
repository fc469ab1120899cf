{#- A pull-through registry on the master: docs/software.md. Docker asks it as a mirror (rpiomega/map.jinja). -#}
{% from 'rpiomega/map.jinja' import omega with context %}
{% set registry = omega.cache.registry %}
{% set way = 'none' if not omega.cache.images else 'container' if omega.cache.image else 'package' %}
{% set drop_in = '/etc/systemd/system/docker-registry.service.d/rpiomega.conf' %}
{% set has_config = salt['file.file_exists'](registry.config) %}

include:
  - docker
  - packages.dpkg

{#- First what another way of running it has left: both listen on the same port. -#}
{% if way != 'package' and salt['file.file_exists'](drop_in) %}
registry.service.stopped:
  service.dead:
    - name: docker-registry
    - enable: False

registry.service.removed:
  file.absent:
    - name: {{ drop_in }}
    - require:
      - service: registry.service.stopped
{% endif %}

{% if way != 'container' and has_config %}
registry.container.removed:
  container.absent:
    - name: {{ registry.container }}
    - require:
      - service: docker.service
{% endif %}

{% if way == 'none' and has_config %}
registry.config:
  file.absent:
    - name: {{ registry.config }}
    - require:
      - container: registry.container.removed
{% elif way != 'none' %}
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

{% if way == 'container' %}
registry.image:
  container.image_present:
    - name: {{ omega.cache.image | json }}
    - require:
      - service: docker.service

registry.container:
  container.running:
    - name: {{ registry.container }}
    - image: {{ omega.cache.image | json }}
    - command: [{{ registry.config }}]
    - network_mode: host
    - volumes:
      - {{ registry.config }}:{{ registry.config }}:ro
      - {{ registry.container }}:{{ registry.folder }}
      {% if omega.sources.ca_bundle %}
      - /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro
      {% endif %}
    - config: [{{ registry.config }}]
    - require:
      - container: registry.image
      - file: registry.config
{% endif %}

{% if way == 'package' %}
registry.unit:
  file.managed:
    - name: {{ drop_in }}
    - source: salt://registry/files/service.conf
    - template: jinja
    - context: {config: {{ registry.config }}}
    - makedirs: True

registry.unit.in_force:
  dropin.in_force:
    - name: {{ drop_in }}
    - require:
      - file: registry.unit

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
