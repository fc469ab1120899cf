{% from 'rpiomega/map.jinja' import omega with context %}
{% set packages = omega.docker.packages %}

docker.install:
  pkg.installed:
    {% if omega.docker.source == 'vendor' and omega.docker.version %}
    - pkgs:
      {% for package in packages.vendor %}
      - {{ package }}{% if package != 'containerd.io' %}: '{{ omega.docker.version }}'{% endif %}
      {% endfor %}
    {% elif omega.docker.source == 'vendor' %}
    - pkgs: {{ packages.vendor | json }}
    {% else %}
    - pkgs: {{ (packages.distribution + packages.distribution_cli.get(grains['oscodename'], [])) | json }}
    {% endif %}
    - install_recommends: False
