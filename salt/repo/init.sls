{% from 'rpiomega/map.jinja' import omega with context %}

{#- Local edits, a rewritten history, a revision that does not render: the tree stays as it is, and the state says why. -#}
repo.formula:
  formula.followed:
    - name: {{ omega.formula.path }}
    - remote: {{ (omega.formula.remote or omega.formula.local_remote) | json }}
    - rev: {{ omega.formula.branch | json }}
    - signers: {{ omega.formula.signers | json }}
    {#- For one run, on the command line: docs/updates.md. #}
    - allow_rewrite: {{ (pillar.get('allow_rewrite') is sameas true) | json }}

repo.modules:
  saltutil.sync_all:
    - refresh: True
    - onchanges:
      - formula: repo.formula

{% if omega.formula.every %}
repo.schedule:
  schedule.present:
    - name: rpiomega-formula
    - function: state.apply
    - job_args: [repo]
    - minutes: {{ omega.formula.every }}
    {#- Salt would run it at once, beside the apply that brings it. #}
    - run_on_start: False
    - splay: 30
    - maxrunning: 1
{% elif 'rpiomega-formula' in salt['schedule.list'](return_yaml=False, offline=True) %}
repo.schedule:
  schedule.absent:
    - name: rpiomega-formula
{% endif %}
