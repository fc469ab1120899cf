{% from 'rpiomega/map.jinja' import omega with context %}
{% set journal = omega.journal %}
{#- The last one wins: other packages' names begin with digits. -#}
{% set config = '/etc/systemd/journald.conf.d/zz-rpiomega.conf' %}

{% if journal.storage != 'keep' or journal.max_use %}
journal.config:
  file.managed:
    - name: {{ config }}
    - makedirs: True
    - contents: |
        # Written by rpiomega from `journal` of the site file.
        [Journal]
        {%- if journal.storage != 'keep' %}
        Storage={{ journal.storage }}
        {%- endif %}
        {%- if journal.max_use %}
        SystemMaxUse={{ journal.max_use }}
        RuntimeMaxUse={{ journal.max_use }}
        {%- endif %}

journal.in_force:
  dropin.in_force:
    - name: {{ config }}
    - require:
      - file: journal.config
{% else %}
journal.config:
  file.absent:
    - name: {{ config }}
{% endif %}

journal.service:
  module.run:
    - service.restart:
      - name: systemd-journald
    - onchanges:
      - file: journal.config
