{% from 'rpiomega/map.jinja' import omega, master with context %}
{% set probe = '/usr/local/lib/rpiomega/apt-cache-proxy' %}

{% if omega.cache.packages %}
packages.proxy.probe:
  file.managed:
    - name: {{ probe }}
    - source: salt://packages/files/apt-cache-proxy
    - template: jinja
    - context: {{ {'address': master.address, 'port': omega.cache.packages_port} | json }}
    - mode: '0755'
    - makedirs: True

packages.proxy:
  file.managed:
    - name: /etc/apt/apt.conf.d/81rpiomega-cache
    - contents: |
        // Written by rpiomega from `cache` of the site file.
        Acquire::http::Proxy-Auto-Detect "{{ probe }}";
    - require:
      - file: packages.proxy.probe

packages.proxy.in_force:
  dropin.in_force:
    - name: /etc/apt/apt.conf.d/81rpiomega-cache
    - require:
      - file: packages.proxy
{% else %}
packages.proxy:
  file.absent:
    - name: /etc/apt/apt.conf.d/81rpiomega-cache

packages.proxy.probe:
  file.absent:
    - name: {{ probe }}
    - require:
      - file: packages.proxy
{% endif %}
