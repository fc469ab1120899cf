{% from 'rpiomega/map.jinja' import omega with context %}
{% set every = omega.consul.snapshots.every %}

consul.snapshots.service:
  file.managed:
    - name: /etc/systemd/system/rpiomega-consul-snapshot.service
    - source: salt://consul/files/snapshot.service
    - template: jinja
    - context: {{ {'folder': omega.consul.snapshot_dir, 'keep': omega.consul.snapshots.keep,
                   'token_file': omega.consul.management_token} | json }}
    - mode: '0644'

consul.snapshots.timer:
  file.managed:
    - name: /etc/systemd/system/rpiomega-consul-snapshot.timer
    - source: salt://consul/files/snapshot.timer
    - template: jinja
    - context: {{ {'every': every} | json }}
    - mode: '0644'

consul.snapshots:
  service.{{ 'running' if every else 'dead' }}:
    - name: rpiomega-consul-snapshot.timer
    - enable: {{ every > 0 }}
    - watch:
      - file: consul.snapshots.timer
    - require:
      - file: consul.snapshots.service
      - consul_agent: consul.agent
