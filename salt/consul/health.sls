{% from 'rpiomega/map.jinja' import omega with context %}

consul.health.program:
  file.managed:
    - name: {{ omega.consul.programs }}/consul_health.py
    - source: salt://consul/files/consul_health.py
    - makedirs: True
    - mode: '0755'

consul.health.unit:
  file.managed:
    - name: /etc/systemd/system/rpiomega-consul-health.service
    - source: salt://consul/files/health.service
    - template: jinja
    - context: {{ {'program': omega.consul.programs ~ '/consul_health.py', 'config_dir': omega.consul.config_dir} | json }}
    - mode: '0644'
    - require:
      - file: consul.health.program

consul.health:
  service.running:
    - name: rpiomega-consul-health
    - enable: True
    - watch:
      - file: consul.health.program
      - file: consul.health.unit
    - require:
      - consul_agent: consul.agent
