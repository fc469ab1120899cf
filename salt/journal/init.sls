{% from 'rpiomega/map.jinja' import omega with context %}
{% set journal = omega.journal %}

{% if journal.storage != 'keep' or journal.max_use %}
journal.config:
  file.managed:
    - name: /etc/systemd/journald.conf.d/90-rpiomega.conf
    - makedirs: True
    - contents: |
        # Written by rpiomega from `journal` of the site file.
        [Journal]
        {% if journal.storage != 'keep' %}
        Storage={{ journal.storage }}
        {% endif %}
        {% if journal.max_use %}
        SystemMaxUse={{ journal.max_use }}
        RuntimeMaxUse={{ journal.max_use }}
        {% endif %}
{% else %}
journal.config:
  file.absent:
    - name: /etc/systemd/journald.conf.d/90-rpiomega.conf
{% endif %}

journal.service:
  service.running:
    - name: systemd-journald
    - watch:
      - file: journal.config
