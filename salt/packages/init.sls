{% from 'rpiomega/map.jinja' import omega with context %}

packages.development:
  pkg.installed:
    - pkgs: {{ (omega.packages.development + omega.packages.extra) | unique | json }}
    - install_recommends: False
