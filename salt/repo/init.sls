{% from 'rpiomega/map.jinja' import omega with context %}

{#- No force option: local edits or a rewritten history stop the update and leave the tree as it is. -#}
repo.checkout:
  git.latest:
    - name: {{ omega.formula.remote or omega.formula.local_remote }}
    - target: {{ omega.formula.path }}
    - branch: {{ omega.formula.branch }}
    - rev: {{ omega.formula.branch }}
    - user: root

repo.modules:
  module.run:
    - saltutil.sync_all:
      - refresh: True
    - onchanges:
      - git: repo.checkout
