{#- Only for boards that bring nothing of their own: elsewhere the bootstrap sets `system.swap` (docs/boards.md). -#}
{% from 'rpiomega/map.jinja' import omega with context %}
{% set config = '/etc/systemd/zram-generator.conf' %}
{% set own = salt['file.file_exists']('/etc/rpi/swap.conf')
    or salt['file.file_exists']('/etc/default/armbian-zram-config') %}

{% if omega.system.swap == 'zram' and not own %}
swap.package:
  pkg.installed:
    - name: systemd-zram-generator
    - install_recommends: False

swap.config:
  file.managed:
    - name: {{ config }}
    - contents: |
        # Written by rpiomega from `system.swap` of the site file.
        [zram0]
        zram-size = {{ omega.swap.size }}
        compression-algorithm = zstd
        swap-priority = 100
    - require:
      - pkg: swap.package

{% if grains.get('virtual') != 'container' %}{# swap belongs to the host of a container #}
swap.service:
  service.running:
    - name: systemd-zram-setup@zram0
    - watch:
      - file: swap.config
{% endif %}
{% endif %}
