docker.service:
  service.running:
    - name: docker
    - enable: True
    - require:
      - docker_engine: docker.config
