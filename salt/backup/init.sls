{% from 'rpiomega/map.jinja' import omega, roles with context %}

{#- The master's ext_pillar has the secrets of backups. A run without it (salt-ssh, masterless) leaves them as they are. -#}
{% set told = 'rpiomega_secrets' in pillar %}
{% set wanted = omega.backup.bucket != '' %}
{% set upkeep = wanted and 'master' in roles %}
{% set timers = {
    'rpiomega-backup': wanted,
    'rpiomega-backup-drill': wanted and omega.backup.drill.every != 'off',
    'rpiomega-backup-forget': upkeep} %}
{#- Each day the run, each Sunday or month the drill two hours later, each Saturday the upkeep three hours later. -#}
{% set hour, minute = omega.backup.schedule.split(':') %}
{% set drill_hour = '%02d' % ((hour | int + 2) % 24) %}
{% set forget_hour = '%02d' % ((hour | int + 3) % 24) %}
{% set drill_day = 'Sun *-*-*' if omega.backup.drill.every == 'weekly' else '*-*-01' %}
{% set calendar = {
    'rpiomega-backup': '*-*-* ' ~ omega.backup.schedule ~ ':00',
    'rpiomega-backup-drill': drill_day ~ ' ' ~ drill_hour ~ ':' ~ minute ~ ':00',
    'rpiomega-backup-forget': 'Sat *-*-* ' ~ forget_hour ~ ':' ~ minute ~ ':00'} %}

{% if told and wanted %}
backup.restic:
  backup.restic_installed:
    - source: {{ omega.backup.restic.source | json }}
    - version: {{ omega.backup.restic.version | json }}
    - sha256: {{ omega.backup.restic.sha256 | json }}
    - mirror: {{ omega.backup.restic.mirror | json }}

{# The secrets stay in the pillar: the state reads them there. -#}
backup.files:
  backup.configured:
    - name: /etc/rpiomega/backup
    - settings: {{ omega.backup | json }}
    - require:
      - backup: backup.restic
{% endif %}

{% if told and upkeep %}
backup.repositories:
  backup.repositories_present:
    - name: /etc/rpiomega/backup
    - require:
      - backup: backup.files
{% endif %}

{% for unit, active in timers.items() if told %}
{% if active %}
{{ unit }}.service:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}.service
    - source: salt://backup/files/{{ unit }}.service
    - mode: '0644'

{{ unit }}.timer:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}.timer
    - source: salt://backup/files/timer
    - template: jinja
    - context: {{ {'what': unit, 'calendar': calendar[unit]} | json }}
    - mode: '0644'
  service.running:
    - name: {{ unit }}.timer
    - enable: true
    - watch:
      - file: {{ unit }}.timer
    - require:
      - file: {{ unit }}.service
      - backup: backup.files
{% else %}
{{ unit }}.timer:
  service.dead:
    - name: {{ unit }}.timer
    - enable: false
  file.absent:
    - name: /etc/systemd/system/{{ unit }}.timer
    - require:
      - service: {{ unit }}.timer

{{ unit }}.service:
  file.absent:
    - name: /etc/systemd/system/{{ unit }}.service
    - require:
      - service: {{ unit }}.timer
{% endif %}
{% endfor %}

{% if told and not wanted %}
backup.files:
  backup.unconfigured:
    - name: /etc/rpiomega/backup
    - require:
      {% for unit in timers %}
      - service: {{ unit }}.timer
      {% endfor %}
{% endif %}
