{#- A board without a battery starts with the time of its last shutdown, and an engine that finds its swarm certificate
    not valid yet does not look again. salt/time bounds the wait. -#}
docker.clock:
  file.managed:
    - name: /etc/systemd/system/docker.service.d/rpiomega-clock.conf
    - makedirs: True
    - contents: |
        # Written by rpiomega.
        [Unit]
        Wants=time-sync.target
        After=time-sync.target
    - require:
      - docker_engine: docker.config

docker.service:
  service.running:
    - name: docker
    - enable: True
    - require:
      - docker_engine: docker.config
