{% from 'rpiomega/map.jinja' import omega with context %}

docker.install:
  pkg.installed:
    {% if omega.docker.source == 'vendor' and omega.docker.version %}
    - pkgs:
      {% for package in omega.docker.packages.vendor %}
      - {{ package }}{% if package != 'containerd.io' %}: '{{ omega.docker.version }}'{% endif %}
      {% endfor %}
    {% else %}
    - pkgs: {{ omega.docker.packages[omega.docker.source] | json }}
    {% endif %}
    - install_recommends: False
