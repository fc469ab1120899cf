{% from 'rpiomega/map.jinja' import omega with context %}
{% set docker = omega.docker %}
{% set settings = dict(docker.daemon) %}
{% if docker.mirrors %}{% do settings.update({'registry-mirrors': docker.mirrors}) %}{% endif %}
{% if docker.insecure_registries %}{% do settings.update({'insecure-registries': docker.insecure_registries}) %}{% endif %}

docker.config:
  file.serialize:
    - name: /etc/docker/daemon.json
    - dataset: {{ settings | json }}
    - serializer: json
    - merge_if_exists: True
    - makedirs: True
    - mode: '0644'

docker.group:
  group.present:
    - name: docker
    - addusers: [{{ omega.users.admin }}]
    - require:
      - pkg: docker.install
