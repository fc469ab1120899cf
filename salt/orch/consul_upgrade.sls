{#- Consul's image or settings, server by server: `salt-run state.orch orch.consul_upgrade` on the master.

    The leader comes last, so that one election is all the cluster sees. Each step ends when its server is a healthy
    voter again, and a step that fails ends the whole. The other nodes' agents follow, all at once. -#}
{% from 'rpiomega/map.jinja' import omega with context %}
{% set masters = [] %}
{% for name, node in omega.nodes.items() if 'master' in node.get('roles', []) %}
{% do masters.append(name) %}
{% endfor %}
{% set answer = salt['saltutil.cmd'](masters[0], 'consul.servers').get(masters[0], {}).get('ret', 'no answer') %}
{% set peers = answer.data.servers if answer is mapping and answer.res else [] %}
{% set servers = [] %}
{% for peer in peers if not peer.leader %}{% do servers.append(peer.name) %}{% endfor %}
{% for peer in peers if peer.leader %}{% do servers.append(peer.name) %}{% endfor %}
{% set clients = omega.nodes | reject('in', servers) | list %}

{% if not servers %}
consul.upgrade.impossible:
  test.fail_without_changes:
    - name: {{ (masters[0] ~ ' cannot name the servers: ' ~ (answer.message if answer is mapping else answer)) | json }}
    - failhard: True
{% endif %}

{% if servers %}
consul.upgrade.modules:
  salt.function:
    - name: saltutil.sync_all
    - tgt: {{ omega.nodes | list | json }}
    - tgt_type: list
    - failhard: True
{% endif %}

{% for name in servers %}
consul.upgrade.{{ name }}:
  salt.state:
    - tgt: {{ name | json }}
    - sls: [consul]
    - failhard: True
{% endfor %}

{% if servers %}
consul.upgrade.voters:
  salt.function:
    - name: consul.wait_voters
    - tgt: {{ masters[0] | json }}
    - kwarg: {{ {'names': servers, 'timeout': omega.consul.ready_timeout} | json }}
    - failhard: True
{% endif %}

{% if servers and clients %}
consul.upgrade.clients:
  salt.state:
    - tgt: {{ clients | json }}
    - tgt_type: list
    - sls: [consul]
{% endif %}
