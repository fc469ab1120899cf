{% from 'rpiomega/map.jinja' import omega with context %}

consul.resolver:
  consul_resolver.{{ 'forwarded' if omega.consul.dns else 'absent' }}:
    - name: /etc/systemd/resolved.conf.d/rpiomega-consul.conf
