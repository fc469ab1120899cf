{% from 'rpiomega/map.jinja' import omega with context %}
{% set config = '/etc/apt-cacher-ng/zz_rpiomega.conf' %}

include:
  - packages.dpkg

{% if omega.cache.packages %}
packages.cache.config:
  file.managed:
    - name: {{ config }}
    - makedirs: True
    - contents: |
        # Written by rpiomega from `cache` of the site file.
        Port: {{ omega.cache.packages_port }}
        # No page from which anybody could empty the cache.
        ReportPage:
        {%- if omega.sources.apt_proxy %}
        Proxy: {{ omega.sources.apt_proxy }}
        {%- endif %}

packages.cache:
  pkg.installed:
    - name: apt-cacher-ng
    - install_recommends: False
    - require:
      - file: packages.cache.config

packages.cache.service:
  service.running:
    - name: apt-cacher-ng
    - enable: True
    - require:
      - pkg: packages.cache
    - watch:
      - file: packages.cache.config
    - require_in:
      - file: packages.proxy
{% elif salt['file.file_exists'](config) %}
packages.cache.service:
  service.dead:
    - name: apt-cacher-ng
    - enable: False

packages.cache.config:
  file.absent:
    - name: {{ config }}
    - require:
      - service: packages.cache.service
{% endif %}
