{% from 'rpiomega/map.jinja' import omega, node, roles with context %}
{% set wanted = omega.packages.development + omega.packages.extra + node.get('packages', []) %}
{% for role in roles %}{% do wanted.extend(omega.packages.roles.get(role, [])) %}{% endfor %}

include:
  - packages.dpkg
  {% if 'master' in roles %}
  - packages.cache
  {% endif %}
  - packages.proxy

packages.development:
  pkg.installed:
    - pkgs: {{ wanted | unique | json }}
    - install_recommends: False
    - require:
      - file: packages.proxy
