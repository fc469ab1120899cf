{% from 'rpiomega/map.jinja' import docker, omega with context %}

docker.config:
  docker_engine.configured:
    - name: /etc/docker/daemon.json
    - settings: {{ docker.daemon | json }}
    - mirrors: {{ docker.mirrors | json }}
    - insecure_registries: {{ docker.insecure_registries | json }}
    - data_root: '{{ docker.data_root }}'
    - move_data: {{ docker.move_data }}
    - defaults: {{ docker.daemon_defaults | json }}
    - swarm: {{ omega.swarm.enabled }}
    - require:
      - docker_engine: docker.install

docker.group:
  group.present:
    - name: docker
    - addusers: {{ [omega.users.admin] | json }}
    - require:
      - docker_engine: docker.install
