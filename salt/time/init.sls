{#- The clock's client is the one that is there. In a container the host keeps the clock, and systemd starts no client. -#}
{% from 'rpiomega/map.jinja' import omega with context %}
{% set servers = omega.time.servers %}
{% set chrony = salt['file.file_exists']('/usr/sbin/chronyd') %}
{% set other = not chrony and (salt['file.file_exists']('/usr/sbin/ntpd') or salt['file.file_exists']('/usr/sbin/openntpd')) %}
{% set client = 'chrony' if chrony else 'systemd-timesyncd' %}
{% set path = '/etc/chrony/sources.d/rpiomega.sources' if chrony else '/etc/systemd/timesyncd.conf.d/zz-rpiomega.conf' %}

{% if other and servers %}
time.servers:
  test.fail_without_changes:
    - name: >-
        {{ grains['id'] }} keeps its clock with ntpd, whose servers this formula does not set:
        remove that package (systemd-timesyncd takes over), or leave time.servers empty
{% elif not other %}
{% if not chrony %}
include:
  - packages.dpkg

time.package:
  pkg.installed:
    - name: systemd-timesyncd
    - require_in:
      - file: time.servers
{% endif %}

time.servers:
  {% if servers %}
  file.managed:
    - name: {{ path }}
    - makedirs: True
    - contents: |
        # Written by rpiomega from `time` of the site file.
        {%- if chrony %}
        {%- for server in servers %}
        server {{ server }} iburst
        {%- endfor %}
        {%- else %}
        [Time]
        NTP={{ servers | join(' ') }}
        {%- endif %}
  {% else %}
  file.absent:
    - name: {{ path }}
  {% endif %}

{% if servers %}
time.in_force:
  dropin.in_force:
    - name: {{ path }}
    - require:
      - file: time.servers
{% endif %}

time.service:
  {% if grains.get('virtual') == 'container' %}
  service.enabled:
    - name: {{ client }}
    - require:
      - file: time.servers
  {% else %}
  service.running:
    - name: {{ client }}
    - enable: True
    - watch:
      - file: time.servers
  {% endif %}

{#- time-sync.target, after which Docker starts, is reached when this unit ends: at a synchronised clock, or at its
    bound, for a site whose time servers cannot be reached has to boot as well. The bound first: systemd's has none. -#}
{% set waits = 'chrony-wait' if chrony else 'systemd-time-wait-sync' %}
{% if not chrony or salt['file.file_exists']('/usr/lib/systemd/system/chrony-wait.service') %}
time.wait.bound:
  file.managed:
    - name: /etc/systemd/system/{{ waits }}.service.d/rpiomega.conf
    - makedirs: True
    - contents: |
        # Written by rpiomega.
        [Service]
        TimeoutStartSec=90
    - require:
      - file: time.servers

time.wait:
  service.enabled:
    - name: {{ waits }}
    - require:
      - file: time.wait.bound
{% endif %}
{% endif %}
