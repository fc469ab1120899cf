docker.service:
  service.running:
    - name: docker
    - enable: True
    - require:
      - pkg: docker.install
    - watch:
      - file: docker.config
