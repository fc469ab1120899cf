{% from 'rpiomega/map.jinja' import omega with context %}

b2.cli:
  python_venv.installed:
    - name: {{ omega.b2.venv }}
    - requirement: b2{{ '==' ~ omega.b2.version if omega.b2.version else '>=4' }}
    - links:
        /usr/local/bin/b2: bin/b2
    - require:
      - pkg: packages.development
