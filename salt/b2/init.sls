{% from 'rpiomega/map.jinja' import omega, roles with context %}

{#- The master's ext_pillar says which node has an account. A run without it (salt-ssh) leaves account, buckets and
    keys as they are. -#}
{% set told = 'rpiomega_secrets' in pillar %}
{% set given = omega.b2.enabled and pillar.get('rpiomega_secrets', {}).get('b2') %}

include:
  - packages

{% if omega.b2.enabled %}
b2.cli:
  python_venv.installed:
    - name: {{ omega.b2.venv }}
    - requirement: b2{{ '==' ~ omega.b2.version if omega.b2.version else '>=4.5' }}
    - links:
        /usr/local/bin/b2: bin/b2
    - require:
      - pkg: packages.development
{% endif %}

{#- The account itself stays in the pillar: the states read it there. -#}
{% if given %}
b2.account:
  b2.authorized:
    - name: {{ omega.users.admin | json }}
    - require:
      - python_venv: b2.cli
{% elif told %}
b2.account:
  b2.deauthorized:
    - name: {{ omega.users.admin | json }}
    {% if omega.b2.enabled %}
    - require:
      - python_venv: b2.cli
    {% endif %}
{% endif %}

{% if 'master' in roles and omega.b2.enabled and told %}
{% for name, bucket in omega.b2.buckets.items() %}
b2.bucket.{{ name }}:
  b2.bucket_present:
    - name: {{ name | json }}
    - type: {{ bucket.get('type', 'allPrivate') }}
    - lifecycle_rules: {{ bucket.get('lifecycle_rules') | json }}
    - require:
      - b2: b2.account
{% endfor %}

{% for name, key in omega.b2.application_keys.items() %}
b2.key.{{ name }}:
  b2.application_key_present:
    - name: {{ name | json }}
    - capabilities: {{ key.capabilities | json }}
    - secret_file: {{ (omega.b2.secrets ~ '/' ~ key.file) | json }}
    - bucket: {{ key.get('bucket') | json }}
    - all_buckets: {{ key.get('all_buckets', False) | json }}
    - name_prefix: {{ key.get('name_prefix', '') | json }}
    - replace: {{ key.get('replace', False) | json }}
    - require:
      - b2: b2.account
    {% if key.get('bucket') in omega.b2.buckets %}
      - b2: b2.bucket.{{ key.bucket }}
    {% endif %}
{% endfor %}
{% endif %}
