{#- One node after the other: each has a time of day of its own, by its place in the site file. -#}
{% from 'rpiomega/map.jinja' import omega with context %}
{% set upgrades = omega.upgrades %}
{% set names = omega.get('nodes', {}).keys() | list %}
{% set before = names.index(grains['id']) if grains['id'] in names else 0 %}
{% set begins = upgrades.start[:2] | int * 60 + upgrades.start[3:] | int + before * upgrades.gap %}
{% macro time_of_day(minute) %}{{ '%02d:%02d' | format(minute // 60 % 24, minute % 60) }}{% endmacro %}
{#- Once our file has the updates on or off, it tells whose unattended-upgrades is; before that, the node does. -#}
{% set known = salt['file.read'](upgrades.config) if salt['file.file_exists'](upgrades.config) else '' %}
{% set decided = 'APT::Periodic' in known %}
{% set present = 'was there before' in known if decided else salt['file.file_exists']('/usr/bin/unattended-upgrade') %}
{% set periodic = '1' if upgrades.security else '0' if decided and not present else '' %}

include:
  - packages.dpkg

{#- Updates that another time of day makes overdue would begin as systemd learns of it, beside this very apply: it is told
    that they have just been (systemd.timer, `Persistent=`), while the timer is off. #}
{% set updates = 'apt-daily-upgrade.timer' %}
{% set stop = 'systemctl stop ' ~ updates ~ '; touch /var/lib/systemd/timers/stamp-' ~ updates %}
{% set conffiles = '/usr/local/lib/rpiomega/unattended-apt.conf' %}
{% set unit = '/etc/systemd/system/apt-daily-upgrade.service.d/rpiomega.conf' %}
{% set reboot = {'at': time_of_day(begins + upgrades.gap // 2), 'probe': '/usr/local/lib/rpiomega/can-reboot'} %}

{#- Before the package: what is held out is so from its first run. -#}
upgrades.config:
  file.managed:
    - name: {{ upgrades.config }}
    - source: salt://upgrades/files/apt.conf
    - template: jinja
    - context: {{ {'periodic': periodic, 'present': present, 'origins': upgrades.origins,
                   'held': upgrades.held + upgrades.hold} | json }}

upgrades.config.in_force:
  dropin.in_force:
    - name: {{ upgrades.config }}
    - require:
      - file: upgrades.config

{% if upgrades.security %}
upgrades.package:
  pkg.installed:
    - name: unattended-upgrades
    - install_recommends: False
    - require:
      - file: upgrades.config

upgrades.time:
  file.managed:
    - name: /etc/systemd/system/apt-daily-upgrade.timer.d/rpiomega.conf
    - makedirs: True
    - contents: |
        # Written by rpiomega from `upgrades` of the site file.
        [Timer]
        OnCalendar=
        OnCalendar=*-*-* {{ time_of_day(begins) }}
        RandomizedDelaySec=0

upgrades.time.in_force:
  dropin.in_force:
    - name: /etc/systemd/system/apt-daily-upgrade.timer.d/rpiomega.conf
    - require:
      - file: upgrades.time
{#- Without these options a package is passed over, security fix or not, as soon as the owner has edited its configuration
    file. They are for this unit alone: by hand, apt goes on asking. #}
upgrades.conffiles:
  file.managed:
    - name: {{ conffiles }}
    - makedirs: True
    - contents: |
        // Written by rpiomega: apt-daily-upgrade.service keeps configuration files that the owner has edited.
        Dpkg::Options { "--force-confdef"; "--force-confold"; };

upgrades.conffiles.unit:
  file.managed:
    - name: {{ unit }}
    - makedirs: True
    - contents: |
        # Written by rpiomega from `upgrades` of the site file.
        [Service]
        Environment=APT_CONFIG={{ conffiles }}
    - require:
      - file: upgrades.conffiles

upgrades.conffiles.loaded:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
      - file: upgrades.conffiles.unit

upgrades.overdue:
  cmd.run:
    - name: {{ stop }}
    - onchanges:
      - file: upgrades.time

{#- The first fetches the package lists, the second upgrades. -#}
{% for timer in ('apt-daily.timer', updates) %}
upgrades.{{ timer }}.unmasked:
  service.unmasked:
    - name: {{ timer }}

upgrades.{{ timer }}:
  service.running:
    - name: {{ timer }}
    - enable: True
    - require:
      - service: upgrades.{{ timer }}.unmasked
{% endfor %}
{% else %}
upgrades.time:
  file.absent:
    - name: /etc/systemd/system/apt-daily-upgrade.timer.d/rpiomega.conf

upgrades.conffiles:
  file.absent:
    - names: {{ [unit, conffiles] | json }}

upgrades.timer:
  cmd.run:
    - name: >-
        if systemctl --quiet is-active {{ updates }}; then
        {{ stop }}; systemctl daemon-reload && systemctl start {{ updates }};
        else systemctl daemon-reload; fi
    - onchanges:
      - file: upgrades.time
      - file: upgrades.conffiles
{% endif %}

{% if upgrades.reboot %}
upgrades.reboot.probe:
  file.managed:
    - name: {{ reboot.probe }}
    - source: salt://upgrades/files/can-reboot
    - mode: '0755'
    - makedirs: True

{% for unit in ('service', 'timer') %}
upgrades.reboot.{{ unit }}:
  file.managed:
    - name: /etc/systemd/system/rpiomega-reboot.{{ unit }}
    - source: salt://upgrades/files/reboot.{{ unit }}
    - template: jinja
    - context: {{ reboot | json }}
    - require:
      - file: upgrades.reboot.probe
    - watch_in:
      - service: upgrades.reboot
{% endfor %}

upgrades.reboot:
  service.running:
    - name: rpiomega-reboot.timer
    - enable: True
{% elif salt['file.file_exists']('/etc/systemd/system/rpiomega-reboot.timer') %}
upgrades.reboot:
  service.dead:
    - name: rpiomega-reboot.timer
    - enable: False

{% for path in ('/etc/systemd/system/rpiomega-reboot.timer', '/etc/systemd/system/rpiomega-reboot.service', reboot.probe) %}
{{ path }}:
  file.absent:
    - require:
      - service: upgrades.reboot
{% endfor %}
{% endif %}
