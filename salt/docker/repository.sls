{% from 'rpiomega/map.jinja' import docker with context %}
{% set own = {'Debian': 'debian', 'Ubuntu': 'ubuntu'} %}
{% set distribution = own.get(grains['os'], docker.repository_of.get(grains['oscodename'])) %}

docker.repository:
  {% if docker.source != 'vendor' %}
  apt_repository.absent:
    - name: docker
    - require:
      - docker_engine: docker.install
  {% elif grains['os'] == 'Raspbian' %}
  test.fail_without_changes:
    - name: >-
        {{ grains['id'] }}: Docker's repository has packages for 32-bit Raspberry Pi OS up to release 28 only: write
        `docker: {source: distribution}` at nodes.{{ grains['id'] }} of the site file, or put the 64-bit system on its card
    - comment: Docker is not installed
    - require_in:
      - docker_engine: docker.install
  {% elif not distribution %}
  test.fail_without_changes:
    - name: >-
        {{ grains['id'] }}: nobody knows whether {{ grains['os'] }} {{ grains['oscodename'] }} takes Docker's packages for
        Debian or for Ubuntu: write `docker: {source: distribution}` at nodes.{{ grains['id'] }} of the site file
    - comment: Docker is not installed
    - require_in:
      - docker_engine: docker.install
  {% else %}
  apt_repository.present:
    - name: docker
    - uri: {{ docker.repository.uri }}/{{ distribution }}
    - suite: {{ grains['oscodename'] }}
    - components: [stable]
    - key_url: {{ docker.repository.key_url }}
    - fingerprint: '{{ docker.repository.fingerprint }}'
    - also: {{ docker.vendor_places | json }}
    - require_in:
      - docker_engine: docker.install
  {% endif %}
