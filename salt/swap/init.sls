{#- Only for boards that bring nothing of their own: elsewhere the bootstrap sets `system.swap` (docs/boards.md). -#}
{% from 'rpiomega/map.jinja' import omega with context %}
{% set config = omega.swap.config %}
{% set head = '# Written by rpiomega from `system.swap` of the site file.' %}
{% set own = salt['file.file_exists']('/etc/rpi/swap.conf')
    or salt['file.file_exists']('/etc/default/armbian-zram-config') %}

{% if omega.system.swap == 'zram' and not own %}
include:
  - packages.dpkg

swap.package:
  pkg.installed:
    - name: systemd-zram-generator
    - install_recommends: False

swap.config:
  file.managed:
    - name: {{ config }}
    - contents: |
        {{ head }}
        [zram0]
        zram-size = {{ omega.swap.size }}
        compression-algorithm = zstd
        swap-priority = 100
    - require:
      - pkg: swap.package

swap.in_force:
  dropin.in_force:
    - name: {{ config }}
    - require:
      - file: swap.config

{% if grains.get('virtual') != 'container' %}{# swap belongs to the host of a container #}
swap.service:
  service.running:
    - name: systemd-zram-setup@zram0
    - watch:
      - file: swap.config
{% endif %}
{% elif salt['file.file_exists'](config) and head in salt['file.read'](config) %}
{# Taken away. What it holds comes back to memory as it stops; what somebody else wrote there stays. #}
{% if grains.get('virtual') != 'container' %}
swap.service:
  service.dead:
    - name: systemd-zram-setup@zram0
    - require_in:
      - file: swap.config
{% endif %}

swap.config:
  file.absent:
    - name: {{ config }}

{# The unit is made of the file. #}
swap.units:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
      - file: swap.config
{% endif %}
