{% from 'rpiomega/map.jinja' import omega with context %}
{% set repository = omega.docker.repository %}

docker.repository:
  apt_repository.present:
    - name: docker
    - uri: {{ repository.uri }}/{{ grains['os'] | lower if grains['os'] == 'Ubuntu' else 'debian' }}
    - suite: {{ repository.get('suite') or grains['oscodename'] }}
    - components: [stable]
    - key_url: {{ repository.key_url }}
    - fingerprint: {{ repository.fingerprint }}
    - require_in:
      - pkg: docker.install
