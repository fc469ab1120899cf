{% from 'rpiomega/map.jinja' import omega with context %}

consul.resolver:
  consul_resolver.{{ 'forwarded' if omega.consul.dns else 'absent' }}:
    - name: /etc/systemd/resolved.conf.d/rpiomega-consul.conf

consul.resolver.in_force:
  dropin.in_force:
    - name: /etc/systemd/resolved.conf.d/rpiomega-consul.conf
    - require:
      - consul_resolver: consul.resolver
