{% from 'rpiomega/map.jinja' import docker with context %}

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
  {% else %}
  apt_repository.present:
    - name: docker
    - uri: {{ docker.repository.uri }}/{{ 'ubuntu' if grains['os'] == 'Ubuntu' else 'debian' }}
    - suite: {{ grains['oscodename'] }}
    - components: [stable]
    - key_url: {{ docker.repository.key_url }}
    - fingerprint: '{{ docker.repository.fingerprint }}'
    - require_in:
      - docker_engine: docker.install
  {% endif %}
