{% from 'rpiomega/map.jinja' import omega with context %}

docker.config:
  file.serialize:
    - name: /etc/docker/daemon.json
    - dataset: {{ omega.docker.daemon | json }}
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
